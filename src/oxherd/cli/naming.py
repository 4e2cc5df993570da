"""Names people typed: what they may have meant."""

from __future__ import annotations

import difflib

from oxherd.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["did_you_mean", "listed", "unknown_process"]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``did you mean "web"?`` for the nearest known word, or ""."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f'did you mean "{near[0]}"?' if near else ""


def listed(names: Iterable[str]) -> str:
    """Return the names once each, in order, with commas; "none" for none."""
    return ", ".join(dict.fromkeys(names)) or "none"


def unknown_process(name: str, known: Iterable[str]) -> UsageError:
    """Return the error for a process that is not there."""
    names = list(dict.fromkeys(known))
    base, colon, instance = name.partition(":")
    if colon and base in names:
        return UsageError(f"{base} has no instance {instance}", hint="oxherd status shows the instances", code="OX211")
    return UsageError(
        f'there is no process "{name}"',
        hint=did_you_mean(base, names) or f"there are: {listed(names)}",
        code="OX211",
    )
