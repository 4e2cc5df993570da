"""Durations, byte sizes and signal names: parsed and printed, both ways.

Pure functions. Parsing raises `ValueError` with a text that says what is accepted; callers add the place. ``signal``
is imported by those who need it: `oxherd status` prints sizes and ages and does not.
"""

from __future__ import annotations

__all__ = [
    "format_age",
    "format_bytes",
    "format_seconds",
    "parse_bytes",
    "parse_duration",
    "parse_signal",
    "signal_name",
]

_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
# Memory limits are read as powers of two whatever the spelling, as systemd, Docker and PM2 do.
_BYTE_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def _split(text: str) -> list[tuple[float, str]]:
    """Split ``1h30m`` into numbers and units; raise ValueError on anything else."""
    parts: list[tuple[float, str]] = []
    number = unit = ""
    for char in text.strip().lower():
        if char.isascii() and (char.isdigit() or char == "."):
            if unit:
                parts.append((float(number), unit.strip()))
                number = unit = ""
            number += char
        elif number:
            unit += char
        else:
            raise ValueError(text)
    if not number:
        raise ValueError(text)
    parts.append((float(number), unit.strip()))
    if any(value == float("inf") for value, _ in parts):  # of some hundred digits
        raise ValueError(text)
    return parts


def parse_duration(text: str) -> float:
    """Return the seconds of ``"45s"``, ``"1h30m"``, ``"250ms"``.

    Args:
        text: One or more numbers, each with a unit out of ms, s, m, min, h, d, w.

    Raises:
        ValueError: The text is no such duration; a bare number is refused since its unit would be a guess.
    """
    try:
        return sum(number * _DURATION_UNITS[unit] for number, unit in _split(text))
    except (KeyError, ValueError):
        raise ValueError('a duration such as "30s", "5m", "1h30m" or "250ms"') from None


def parse_bytes(text: str) -> int:
    """Return the bytes of ``"512M"``, ``"1.5G"``, ``"200 MiB"``; units are powers of 1024.

    Raises:
        ValueError: The text is no such size.
    """
    try:
        ((number, unit),) = _split(text)
        unit = unit.removesuffix("ib") if unit.endswith("ib") else unit
        unit = unit[:-1] if len(unit) == 2 and unit.endswith("b") else unit
        return int(number * _BYTE_UNITS[unit])
    except (KeyError, ValueError):
        raise ValueError('a size such as "512M", "1.5G" or "200MiB"') from None


def parse_signal(text: str) -> int:
    """Return the number of ``"SIGTERM"``, ``"term"`` or ``"15"``.

    Raises:
        ValueError: There is no such signal.
    """
    import signal  # noqa: PLC0415 - see the head of this module

    name = text.strip().upper()
    if name.isascii() and name.isdigit() and 0 < int(name) < signal.NSIG:
        return int(name)
    name = name if name.startswith("SIG") else f"SIG{name}"
    try:
        return int(signal.Signals[name])
    except KeyError:
        raise ValueError("a signal such as SIGTERM, SIGINT, SIGQUIT or HUP") from None


def signal_name(number: int) -> str:
    """Return ``SIGTERM`` for 15, ``SIGRTMIN+3`` for real-time signals and ``signal N`` for unknown ones."""
    import signal  # noqa: PLC0415 - see the head of this module

    try:
        return signal.Signals(number).name
    except ValueError:
        first = int(getattr(signal, "SIGRTMIN", 0))
        last = int(getattr(signal, "SIGRTMAX", -1))
        return f"SIGRTMIN+{number - first}" if first < number <= last else f"signal {number}"


def format_bytes(count: float) -> str:
    """Return ``210 MB`` in the style of the status table (powers of 1024, as every process tool prints)."""
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1024 or unit == "GB":
            return f"{value:.1f} {unit}" if unit == "GB" and value < 100 else f"{value:.0f} {unit}"
        value /= 1024
    raise AssertionError


def format_seconds(seconds: float) -> str:
    """Return a short exact duration for messages: ``0.4 s``, ``30 s``, ``5 min``."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds != int(seconds) and seconds < 10 else f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return format_age(seconds)


def format_age(seconds: float) -> str:
    """Return the two largest units of an age, as in the UPTIME column: ``2d 6h``, ``4m 10s``, ``8s``."""
    rest = max(0, int(seconds))
    days, rest = divmod(rest, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, secs = divmod(rest, 60)
    if days:
        return f"{days}d {hours}h"
    if hours:
        return f"{hours}h {minutes}m"
    if minutes:
        return f"{minutes}m {secs}s"
    return f"{secs}s"
