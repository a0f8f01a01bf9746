"""Tables of distances and the run record beside them:
their columns, formats and files, reading and writing them, the report.

It knows what a result holds. It never knows how its numbers are made.
"""
