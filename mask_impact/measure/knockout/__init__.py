"""Knock-outs: the model is run on to its end with a cut in place, and its answer is read.

It knows layers, attention and logits. It never knows files or prompts.
"""
