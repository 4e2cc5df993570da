"""The real operating system behind the `oxherd.system.ports.System` protocol."""

from __future__ import annotations

import random
import time

from oxherd.system import identity, reaper, resources, spawn, tree
from oxherd.system.logs.sink import LogSink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from oxherd.config.model import LogSpec
    from oxherd.core.exits import ExitStatus
    from oxherd.system.logs.echo import Echo
    from oxherd.system.loop import Loop

__all__ = ["Machine"]
