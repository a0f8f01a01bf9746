"""Cuts: which keys are hidden as one (`units.py`), and how that is labelled.

It knows texts and positions. It never knows tensors, nor what is made of a cut.
"""
