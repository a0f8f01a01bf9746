"""Knock-outs down to the answer: what the model would say if a unit could not be read.

It knows cuts, layers and logits. It never knows files, settings or where a prompt comes from.
"""
