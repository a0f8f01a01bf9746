"""Tables of distances and the run record beside them: columns, file formats, reading and writing, the report.

It knows what a result holds. It never knows how its numbers are made.
"""
