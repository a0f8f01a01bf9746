"""The closed form: what every head would have answered with keys masked, from one softmax.

It knows one query of one layer. It never knows rows, steps or sites.
"""
