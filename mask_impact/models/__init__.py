"""From a model's name to a checked model: checkpoints, adapters, the hub, devices, tokenizers,
what a prompt is to the model.

It knows configurations and weights. It never knows runs, nor what becomes of the numbers.
"""
