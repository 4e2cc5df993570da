"""Status rows of a stack that the supervisor has never been told about."""

from __future__ import annotations

import os

from oxherd.cli.where import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.config.model import ProcessSpec

__all__ = ["unstarted_rows"]


def unstarted_rows(path: str, *, profile: str | None = None) -> list[dict[str, object]]:
    """Return a row "stopped" for every instance the oxfile describes.

    Raises:
        ConfigError: The oxfile is not there or not valid.
    """
    from oxherd.programs.compiled import compile_stack  # noqa: PLC0415 - the quick path must not pay for it
    from oxherd.programs.probes import BLIND  # noqa: PLC0415 - as above

    oxfile = compile_stack(shown(path), profile=profile, environ=os.environ, probes=BLIND).oxfile
    return [
        _row(process, slot, stack=oxfile.name, path=oxfile.path)
        for process in oxfile.processes
        for slot in range(process.instances)
    ]


def _row(process: ProcessSpec, slot: int, *, stack: str, path: str) -> dict[str, object]:
    return {
        "stack": stack,
        "stack_path": path,
        "name": process.name,
        "instance": slot,
        "pid": None,
        "status": "stopped",
        "ready": False,
        "health": None,
        "cpu_percent": None,
        "memory_bytes": None,
        "restarts": 0,
        "uptime_seconds": None,
        "generation": 0,
        "exit": None,
        "next_run": None,
        "instances": process.instances,
        "detail": "",
    }
