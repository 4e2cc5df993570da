"""Modules that are imported by name and not needed, or not by every supervisor.

What is deferred is imported, in its own place, by the first who asks it for anything; nothing is replaced or missing. That goes
for modules of the standard library that others of it name: ``dataclasses`` imports ``inspect``, and with it the whole of Python's
grammar, for the text of classes that have none. And it goes for our own modules that only some stacks need. Those are imported as
modules (``from oxherd.daemon import watcher``): to take a name out of one is to ask it.

Only the program of the supervisor defers (`oxherd.daemon.__main__`). Everywhere else an import is an import.
"""

from __future__ import annotations

import sys

__all__ = ["PACKAGES", "SELDOM", "UNNEEDED", "defer", "site_when_needed"]

# What the supervisor's own imports name and do not use.
UNNEEDED = ("inspect", "locale", "traceback")

# What is needed by a stack with health checks, schedules or watched files, by a crash whose last lines speak of a port, by
# `oxherd run`, by a boot that reads oxfiles again. Not what an upgrade needs: by then another version lies in its place. And what
# is needed at an exit is asked with care: there may be no descriptor left to load it with.
SELDOM = (
    "oxherd.core.schedule",
    "oxherd.daemon.foreground",
    "oxherd.daemon.prober",
    "oxherd.daemon.rereading",
    "oxherd.daemon.scheduler",
    "oxherd.daemon.watcher",
    "oxherd.system.portholders",
)

# What a supervisor may import that is neither of the standard library nor of Oxherd.
PACKAGES = ("cronsim", "h11", "tzdata")

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
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
            try:
                # Not `importlib.import_module`: that is a package, for this one line.
                __import__(self.__name__)
            except BaseException:
                # No descriptor, say: the next one who asks may have more luck.
                sys.modules[self.__name__] = self
                raise
        return getattr(sys.modules[self.__name__], name)


def defer(*names: str) -> None:
    """Import these modules when something of them is used, and not before; those that are there already stay."""
    for name in names:
        sys.modules.setdefault(name, _Deferred(name))


class _Site:
    """The last to be asked where a module is: one of PACKAGES is where `site` says, which is run for it then."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return what the others find when they know what `site` knows."""
        if name not in PACKAGES:
            return None
        sys.meta_path.remove(self)
        import site  # noqa: PLC0415 - see site_when_needed

        site.main()
        found = (finder.find_spec(name, path, target) for finder in sys.meta_path)  # type: ignore[arg-type]
        return next((spec for spec in found if spec is not None), None)


def site_when_needed() -> None:
    """Have `site` run by the first who imports a package that is not beside Oxherd, where the interpreter was told not to.

    That is a tenth of a megabyte and of the time until a supervisor is ready; and what a package has run in every
    interpreter (a tracer, an editable installation) is no business of a supervisor.
    """
    if sys.flags.no_site:
        sys.meta_path.append(_Site())
