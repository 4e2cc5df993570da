"""What a verb says, and where: results on stdout, trouble on stderr, one JSON document for ``--json``."""

from __future__ import annotations

import json
import os
import sys

from oxherd.cli.table import wants_color
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from oxherd.errors import OxherdError, Problem

__all__ = ["Output", "show_error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The manner of speaking that the options of a command ask for.

    Attributes:
        json: One JSON document on stdout (one line each for what is followed), nothing else.
        quiet: Say nothing that is not asked for; errors are said all the same.
        no_color: No colour, not on a terminal either.
    """

    json: bool = False
    quiet: bool = False
    no_color: bool = False

    @property
    def color(self) -> bool:
        """Whether what goes to stdout is coloured."""
        return wants_color(sys.stdout, os.environ, refused=self.no_color or self.json)

    @property
    def live(self) -> bool:
        """Whether lines on stdout may be drawn over again: only for a person at a terminal."""
        return not (self.json or self.quiet) and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"

    def say(self, text: str = "") -> None:
        """Print a line for people, at once."""
        if not (self.quiet or self.json):
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """Print a line on stderr."""
        print(text, file=sys.stderr, flush=True)

    def problems(self, problems: Iterable[Problem]) -> None:
        """Print warnings about an oxfile on stderr."""
        for problem in problems:
            self.warn(f"warning: {problem.render()}")

    def document(self, value: object) -> None:
        """Print the one JSON document."""
        print(json.dumps(value, indent=2), flush=True)

    def record(self, value: object) -> None:
        """Print one of many JSON objects, on a line of its own."""
        print(json.dumps(value, separators=(",", ":")), flush=True)


def show_error(error: OxherdError, *, as_json: bool) -> None:
    """Tell what went wrong: on stderr for people, and with ``--json`` as the document on stdout for programs."""
    if as_json:
        print(json.dumps({"error": error.as_dict()}, indent=2), flush=True)
    # The problems of an oxfile begin with their place, as compilers write it and editors read it.
    prefix = "" if hasattr(error, "problems") else "oxherd: "
    print(f"{prefix}{error.render()}", file=sys.stderr, flush=True)
