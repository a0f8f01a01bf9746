"""Qwen3-VL: pictures to patches, cells and tokens, and the questions about them.
Only here is it known that pictures exist.

It never knows how a layer is measured.
"""
