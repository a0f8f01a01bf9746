"""One run and many: planned, named, locked, measured step by step, kept, gone on with, finished, told of.

It knows settings, models and results. It never knows how a layer is measured.
"""
