"""Where attention is measured: the contract of a site (`site.py`), its implementations (`decoder.py`,
`vision_encoder.py`), and what these stand on: watching attention, finding a layer's modules, recording a pass,
one query's view.

It knows a model's layers while they run. It never knows which keys are hidden, nor what is made of that.
"""
