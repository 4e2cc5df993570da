"""Oxherd runs Python web stacks in production: one `oxfile.toml`, one command."""

__version__ = "0.1.0"
