"""Masked rows that join the model's own forward pass: a faster way to the same numbers.

One switch turns it on, `Method.join_rows`; a reader of the method can leave it out. It knows what the rest of the
measurement knows.
"""
