"""The demo vision model: its world (`world.py`), its training (`train.py`) and its weights (`model/`)."""
