"""Broken engines and checkers, each a small patch of the running process: what the soundness suite must catch. See `edit.py`, `campaign.py`."""
