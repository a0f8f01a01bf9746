"""Masked rows: what they are, how they go through the rest of a layer, how many at once, and that each goes by itself.

It knows one layer at one of its rows. It never knows steps, sites or methods.
"""
