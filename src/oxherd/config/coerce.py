"""Values that were read, as the types of the model: what is not there becomes the default."""

from __future__ import annotations

__all__ = ["as_float", "as_int", "as_seconds", "as_text", "as_words"]


def as_text(value: object) -> str | None:
    """Return a string, or None for None."""
    return None if value is None else str(value)


def as_int(value: object, default: int) -> int:
    """Return an integer, or the default for what is none."""
    return value if isinstance(value, int) else default


def as_float(value: object, default: float) -> float:
    """Return a number as a float, or the default for what is none."""
    return float(value) if isinstance(value, (int, float)) else default


def as_seconds(value: object) -> float | None:
    """Return a number as a float, or None for what is none."""
    return float(value) if isinstance(value, (int, float)) else None


def as_words(value: object) -> tuple[str, ...]:
    """Return a tuple of strings; empty for what is no tuple."""
    return tuple(str(item) for item in value) if isinstance(value, tuple) else ()
