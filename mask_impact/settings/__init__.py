"""The one table of settings, and the ways in which they are given:
flags, YAML, Python; the schema and the guide's table are made of it.

It knows what may be asked for. It never knows a model, nor how a setting is carried out.
"""
