"""The one table of settings, from which flags, YAML keys, Python arguments, the schemas and the guide's table are made.

It knows what a user may ask for. It never knows a model, nor how a setting is carried out.
"""
