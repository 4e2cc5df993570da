"""How a start, a stop or a restart is coming along.

On a terminal each instance has a line that is drawn over as it changes; elsewhere each change is a line of its own,
the same words without spinner and colour.
"""

from __future__ import annotations

import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol, Self

    from rich.console import Console, RenderableType
    from rich.live import Live

    from oxherd.cli.output import Output

    class Progress(Protocol):
        """Shows progress items of the control protocol."""

        def __enter__(self) -> Self:
            """Begin to show."""

        def __exit__(
            self,
            kind: type[BaseException] | None,
            value: BaseException | None,
            traceback: TracebackType | None,
        ) -> None:
            """End, and leave what is settled on the screen."""

        def show(self, item: dict[str, object]) -> None:
            """Show one item."""


__all__ = ["progress_of"]

# Statuses in which an instance has arrived, for now: its line is not in motion any more.
_SETTLED = frozenset({"running", "stopped", "exited", "crashed", "unhealthy"})
_BAD = frozenset({"crashed", "backoff", "unhealthy"})


def progress_of(output: Output, prefix: str = "") -> Progress:
    """Return the display that fits stdout.

    Args:
        output: How to speak.
        prefix: Put before each name, to tell stacks apart.
    """
    return _Live(output, prefix) if output.live else _Plain(output, prefix)


def _label(item: dict[str, object]) -> str:
    return str(item.get("label") or item.get("process") or "supervisor")


class _Lines:
    """Turns items into lines; knows when each instance set out."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._since: dict[str, float] = {}
        self._trouble: dict[str, object] = {}
        self._labels: dict[tuple[object, object], str] = {}

    def label(self, item: dict[str, object]) -> str:
        # The first name stands: web:1 is called web by the supervisor once it is the only one left, which would be
        # another line here.
        label = self._labels.setdefault((item.get("process"), item.get("instance")), _label(item))
        return f"{self._prefix}{label}"

    def age(self, item: dict[str, object]) -> float:
        now = time.monotonic()
        return now - self._since.setdefault(self.label(item), now)

    def text(self, item: dict[str, object]) -> str:
        """Return ``running (pid 123) after 0.8 s``; without the time where it was so from the beginning."""
        new = self.label(item) not in self._since
        status, detail = str(item.get("status")), item.get("detail")
        if status in _BAD:
            self._trouble[self.label(item)] = detail
        elif detail == self._trouble.get(self.label(item)):
            # The next attempt still carries why the last one ended; said once is enough.
            detail = ""
        age = self.age(item)
        after = "" if new else f" after {age:.1f} s"
        if status == "running" and item.get("pid") is not None:
            return f"running (pid {item['pid']}){after}"
        if status in _SETTLED and status not in _BAD:
            return f"{status}{after}" + (f": {detail}" if detail and status != "stopped" else "")
        return f"{status}: {detail}" if detail else status


class _Plain:
    """One line for each change."""

    def __init__(self, output: Output, prefix: str) -> None:
        self._output = output
        self._lines = _Lines(prefix)
        self._last: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _value: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """Nothing is open."""

    def show(self, item: dict[str, object]) -> None:
        label, status = self._lines.label(item), str(item.get("status"))
        text = self._lines.text(item)
        # The same status again has news only where it says what is wrong, or which phase has come.
        if self._last.get(label) != status or status in _BAD or status == "reloading":
            self._output.say(f"{label}: {text}")
        self._last[label] = status


class _Live:
    """One line for each instance, drawn over by rich."""

    def __init__(self, output: Output, prefix: str) -> None:
        from rich.console import Console  # noqa: PLC0415 - only on a terminal

        self._console: Console = Console(no_color=not output.color, highlight=False)
        self._lines = _Lines(prefix)
        self._items: dict[str, dict[str, object]] = {}
        self._done: dict[str, str] = {}
        self._live: Live | None = None

    def __enter__(self) -> Self:
        from rich.live import Live  # noqa: PLC0415 - only on a terminal

        self._live = Live(console=self._console, refresh_per_second=12, get_renderable=self._render)
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live is not None:
            # The phase of a reload is news while it lasts; what came of it is said in a sentence of its own.
            self._items = {label: item for label, item in self._items.items() if item.get("status") != "reloading"}
            self._live.__exit__(kind, value, traceback)

    def show(self, item: dict[str, object]) -> None:
        label = self._lines.label(item)
        self._items[label] = item
        text = self._lines.text(item)
        if item.get("status") in _SETTLED:
            self._done[label] = text
        else:
            self._done.pop(label, None)

    def _render(self) -> RenderableType:
        from rich.spinner import Spinner  # noqa: PLC0415 - only on a terminal
        from rich.table import Table  # noqa: PLC0415 - only on a terminal
        from rich.text import Text  # noqa: PLC0415 - only on a terminal

        grid = Table.grid(padding=(0, 1))
        for label, item in self._items.items():
            status = str(item.get("status"))
            if label in self._done:
                mark: RenderableType = Text("x", style="red") if status in _BAD else Text("+", style="green")
                grid.add_row(mark, label, Text(self._done[label]))
            else:
                text = f"{self._lines.text(item)}  {self._lines.age(item):.1f} s"
                grid.add_row(Spinner("dots", style="red" if status in _BAD else "yellow"), label, Text(text))
        return grid
