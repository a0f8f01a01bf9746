"""Masked rows that join the model's own forward pass:
a faster way to the same numbers, which a reader of the method never meets.

It is switched on in one place, `Method.join_rows`. It knows what the rest of the measurement knows.
"""
