"""Results looked at from the shell: found, shown, compared, exported.

It knows results and unfinished runs. It never knows a model.
"""
