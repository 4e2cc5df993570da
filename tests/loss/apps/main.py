"""`uvicorn main:app`, as it stands in every tutorial."""

from __future__ import annotations

from asgi_app import app

__all__ = ["app"]
