"""The options of a click command: its command line over its own variables, as ``auto_envvar_prefix`` has it."""

from __future__ import annotations

from oxherd.programs.arguments import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Switches"]

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})


class Switches:
    """The options of one command line over its variables."""

    def __init__(self, args: tuple[str, ...], valued: frozenset[str], environ: Mapping[str, str], prefix: str) -> None:
        """Read the arguments.

        Args:
            args: The arguments.
            valued: The options that take a value, with their dashes.
            environ: The variables the command would see.
            prefix: What its variables begin with, such as ``UVICORN``.
        """
        self.options = Options(args, valued)
        self.environ = environ
        self._prefix = prefix

    def _variable(self, name: str) -> str:
        return f"{self._prefix}_{name.replace('-', '_').upper()}"

    def text(self, name: str) -> str | None:
        """Return the value of ``--name`` or of its variable, which click leaves out where it is empty."""
        said = self.options.last(f"--{name}")
        return said if said is not None else self.environ.get(self._variable(name)) or None

    def number(self, name: str) -> int | None:
        """Return the value as a number, or None where there is none."""
        text = (self.text(name) or "").strip()
        return int(text) if text.isdigit() else None

    def flag(self, name: str) -> bool:
        """Return whether a flag is set; the later of ``--name`` and ``--no-name`` counts."""
        if self.options.has(f"--{name}"):
            return True
        return not self.options.has(f"--no-{name}") and (self.text(name) or "").lower() in _TRUE

    def where(self, name: str) -> str:
        """Return how people find the value: ``--workers 4`` or ``UVICORN_WORKERS=4``."""
        if self.options.has(f"--{name}"):
            return f"--{name} {self.options.last(f'--{name}')}"
        variable = self._variable(name)
        return f"{variable}={self.environ.get(variable)}"
