"""Existing results, looked at from the shell: find, show, compare, export.

It knows results and unfinished runs. It never knows a model.
"""
