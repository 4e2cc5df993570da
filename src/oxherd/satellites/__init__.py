"""Processes of their own that work for the supervisor: what is rich or heavy stays out of it."""
