"""Plain things that every floor above uses: errors, lines for a terminal, files that appear whole,
precision and memory of the machine.

It knows nothing of models, of results or of how anything is measured.
"""
