"""One run or a batch: planned, named, locked, measured step by step, resumed, finished, reported.

It knows settings, models and results. It never knows how a layer is measured.
"""
