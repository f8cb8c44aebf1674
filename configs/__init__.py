"""Configurations: `base.py` declares every option with its unit, the others change it."""
