"""What a recognised program changes in a spec: only what the oxfile leaves open."""

from __future__ import annotations

from oxherd.programs.recognise import recognise
from oxherd.records import replace
from oxherd.units import format_seconds, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from oxherd.config.model import ProcessSpec

__all__ = ["apply_program"]


def apply_program(spec: ProcessSpec, set_keys: Collection[str]) -> tuple[ProcessSpec, tuple[str, ...]]:
    """Return the spec with the program's own needs in place, and what was changed, for people.

    Args:
        spec: A process; app processes come back unchanged.
        set_keys: The canonical keys that the oxfile spells out; they are left alone.
    """
    if spec.command is None:
        return spec, ()
    program = recognise(spec.command)
    notes = list(program.notes)
    stop = spec.stop
    if program.default_stop_timeout is not None and "stop_timeout" not in set_keys:
        stop = replace(stop, timeout=program.default_stop_timeout)
        notes.append(f"stop_timeout is {format_seconds(stop.timeout)}, the default for {program.title}")
    if program.default_stop_signal is not None and "stop_signal" not in set_keys:
        stop = replace(stop, signal=program.default_stop_signal)
        notes.append(f"stop_signal is {signal_name(stop.signal)}, the default for {program.title}")
    singleton = spec.singleton
    if program.singleton and "singleton" not in set_keys:
        singleton = True
        notes.append(f"{program.title} is a singleton: never two at a time, not during a reload either")
    changed = replace(spec, program=program.name, stop=stop, singleton=singleton)
    return changed, tuple(notes)
