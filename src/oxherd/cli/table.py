"""The status table, from rows to text. Part of the quick path of ``status``."""

from __future__ import annotations

import os

from oxherd.units import format_age, format_bytes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Row = Mapping[str, object]

__all__ = ["JSON_KEYS", "json_row", "label", "status_table", "wants_color"]

# What `status --json` shows of a row, in this order.
JSON_KEYS = (
    "stack",
    "name",
    "instance",
    "pid",
    "status",
    "ready",
    "health",
    "cpu_percent",
    "memory_bytes",
    "restarts",
    "uptime_seconds",
    "generation",
    "exit",
)

_COLUMNS = ("NAME", "PID", "STATUS", "CPU", "MEM", "RESTARTS", "UPTIME")
_RIGHT = frozenset({"PID", "CPU", "MEM", "RESTARTS"})

# Green is well, yellow is on its way, red needs somebody; the word says the same without any colour.
_COLORS = {
    "running": 32,
    "starting": 33,
    "reloading": 33,
    "stopping": 33,
    "backoff": 31,
    "unhealthy": 31,
    "crashed": 31,
}

_TROUBLE = frozenset({"crashed", "backoff", "unhealthy"})


def wants_color(stream: object, environ: Mapping[str, str], *, refused: bool = False) -> bool:
    """Whether text for ``stream`` is coloured: a terminal that can, and nobody who asked for none (no-color.org)."""
    if refused or environ.get("NO_COLOR") or environ.get("TERM") == "dumb":
        return False
    isatty = getattr(stream, "isatty", None)
    return isatty is not None and bool(isatty())


def json_row(row: Row) -> dict[str, object]:
    """Return what ``--json`` shows of a row."""
    return {key: row.get(key) for key in JSON_KEYS}


def label(row: Row) -> str:
    """Return ``web``, or ``web:0`` where the process has several instances."""
    instances = row.get("instances")
    several = isinstance(instances, int) and instances > 1
    return f"{row['name']}:{row['instance']}" if several or row.get("instance") else str(row["name"])


def status_table(rows: Sequence[Row], *, color: bool = False) -> str:
    """Return the table, and below it a line for each row that needs somebody.

    Args:
        rows: Rows of the verb ``status``. With more than one stack among them there is a column STACK.
        color: Whether the status is coloured.
    """
    stacks = {(row.get("stack"), row.get("stack_path")) for row in rows}
    columns = ("STACK", *_COLUMNS) if len(stacks) > 1 else _COLUMNS
    cells = [_cells(row, columns) for row in rows]
    widths = [max(len(line[index]) for line in [columns, *cells]) for index in range(len(columns))]
    lines = [_line(columns, columns, widths, "")]
    for row, line in zip(rows, cells, strict=True):
        lines.append(_line(line, columns, widths, str(row.get("status")) if color else ""))
    lines.extend(f"  {text}" for text in (_detail(row) for row in rows) if text)
    return "\n".join(lines)


def _cells(row: Row, columns: Sequence[str]) -> list[str]:
    runs = row.get("pid") is not None
    texts = {
        "STACK": _stack(row),
        "NAME": label(row),
        "PID": _text(row.get("pid")),
        "STATUS": _text(row.get("status")),
        "CPU": _number(row.get("cpu_percent") if runs else None, "{:.1f}%"),
        "MEM": _bytes(row.get("memory_bytes") if runs else None),
        "RESTARTS": _text(row.get("restarts")),
        "UPTIME": _age(row.get("uptime_seconds")),
    }
    return [texts[column] for column in columns]


def _line(cells: Sequence[str], columns: Sequence[str], widths: Sequence[int], status: str) -> str:
    parts = []
    for text, column, width in zip(cells, columns, widths, strict=True):
        padded = text.rjust(width) if column in _RIGHT else text.ljust(width)
        if column == "STATUS" and status in _COLORS:
            padded = f"\x1b[{_COLORS[status]}m{padded}\x1b[0m"
        parts.append(padded)
    return "  ".join(parts).rstrip()


def _detail(row: Row) -> str:
    """Return what the table has no column for, or ""."""
    status, exited = row.get("status"), row.get("exit")
    reason = row.get("detail") or (exited.get("text") if isinstance(exited, dict) else "") or ""
    if status in _TROUBLE:
        return f"{label(row)} {status}" + (f": {reason}" if reason else "") + f" (oxherd why {label(row)})"
    if row.get("next_run"):
        return f"{label(row)} runs next at {row['next_run']}"
    return ""


def _stack(row: Row) -> str:
    return str(row.get("stack") or os.path.basename(os.path.dirname(str(row.get("stack_path", "")))) or "-")


def _text(value: object) -> str:
    return "-" if value is None else str(value)


def _number(value: object, form: str) -> str:
    return form.format(value) if isinstance(value, (int, float)) else "-"


def _bytes(value: object) -> str:
    return format_bytes(value) if isinstance(value, (int, float)) else "-"


def _age(value: object) -> str:
    return format_age(value) if isinstance(value, (int, float)) else "-"
