"""Plain things that every other folder uses: errors, text for a terminal, files that appear whole, precision, memory.

It knows nothing of models, of results or of how anything is measured.
"""
