"""Attempts to make the checker accept what is false: `make bench-forgery`. See `campaign.py`."""
