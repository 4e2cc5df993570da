"""Modules of the standard library that other modules of it import and a supervisor does not need.

``dataclasses`` imports ``inspect``, for the text it gives classes that have none, and that loads the whole of Python's grammar:
a sixteenth of the supervisor's memory for something that is never called. What is deferred is imported, in its own place, by the
first who asks it for anything; nothing is replaced or missing.
"""

from __future__ import annotations

import sys

__all__ = ["UNNEEDED", "defer"]

# What the supervisor's own imports name and do not use.
UNNEEDED = ("inspect", "locale", "traceback")

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
        from importlib import import_module  # noqa: PLC0415 - see the head of this module

        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def defer(*names: str) -> None:
    """Import these modules when something of them is used, and not before; those that are there already stay."""
    for name in names:
        sys.modules.setdefault(name, _Deferred(name))
