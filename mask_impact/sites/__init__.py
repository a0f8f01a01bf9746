"""Places where attention is measured: watching attention, finding a layer's parts,
one query's view of a layer, the rows behind it.

It knows a model's layers while they run. It never knows which keys are hidden, nor what is made of that.
"""
