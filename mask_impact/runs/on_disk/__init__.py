"""What a run leaves on disk before it is whole, and between runs: steps, locks, formats to be made, names replaced.

It knows result files and their folder. It never knows how a layer is measured.
"""
