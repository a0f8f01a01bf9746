"""Qwen3-VL: pictures to patches, cells and tokens, and the questions about them. Only here do pictures exist.

It never knows how a layer is measured.
"""
