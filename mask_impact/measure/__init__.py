"""The measurement: the loop, the closed form and the literal method, rows through the rest of a layer,
distances, noise floors, proofs.

It knows layers and numbers. It never knows files, settings or where a prompt comes from.
"""
