"""Modules that are imported by name and not needed, or not by every supervisor.

What is deferred is imported, in its own place, by the first who asks it for anything; nothing is replaced or missing. That goes
for modules of the standard library that others of it name: ``dataclasses`` imports ``inspect``, and with it the whole of Python's
grammar, for the text of classes that have none. And it goes for our own modules that only some stacks need. Those are imported as
modules (``from oxherd.daemon import watcher``): to take a name out of one is to ask it.

Only the program of the supervisor defers (`oxherd.daemon.__main__`). Everywhere else an import is an import.
"""

from __future__ import annotations

import sys

__all__ = ["SELDOM", "UNNEEDED", "defer"]

# What the supervisor's own imports name and do not use.
UNNEEDED = ("inspect", "locale", "traceback")

# What is needed by a stack with health checks, schedules or watched files, by a crash that speaks of a port, by secrets in the
# last lines of one, by `oxherd run`, by a boot that reads oxfiles again, by an upgrade.
SELDOM = (
    "oxherd.config.redact",
    "oxherd.core.schedule",
    "oxherd.daemon.foreground",
    "oxherd.daemon.prober",
    "oxherd.daemon.probes_command",
    "oxherd.daemon.probes_http",
    "oxherd.daemon.probes_tcp",
    "oxherd.daemon.rereading",
    "oxherd.daemon.resolver",
    "oxherd.daemon.scheduler",
    "oxherd.daemon.upgrade",
    "oxherd.daemon.watcher",
    "oxherd.system.portholders",
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
else:
    ModuleType = type(sys)


class _Deferred(ModuleType):
    """Stands for a module until somebody needs it."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            # The import system looks at what is in sys.modules, which is no use of it.
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
            # Not `importlib.import_module`: that is a package, for this one line.
            __import__(self.__name__)
        return getattr(sys.modules[self.__name__], name)


def defer(*names: str) -> None:
    """Import these modules when something of them is used, and not before; those that are there already stay."""
    for name in names:
        sys.modules.setdefault(name, _Deferred(name))
