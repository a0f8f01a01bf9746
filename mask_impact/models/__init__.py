"""From a model's name to a checked model: checkpoints, adapters, the hub, devices, tokenizers, a prompt's inputs.

It knows configurations and weights. It never knows runs, nor what becomes of the numbers.
"""
