"""Replacing what runs without losing it: reloads, recycling, and workers that a verdict was about."""
