"""Where the logs of processes are, and which of their lines are meant."""

from __future__ import annotations

import os
from collections import deque

from oxherd.cli.doing import objects
from oxherd.cli.targets import find_target, share_names
from oxherd.cli.where import UNKNOWN_STACK, connect, shown
from oxherd.control.paths import stack_id
from oxherd.errors import NoSupervisorError, UsageError
from oxherd.records import dataclass
from oxherd.system.logs.reader import LogSource, read_logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from oxherd.cli.targets import Target
    from oxherd.config.model import ProcessSpec
    from oxherd.control.paths import Home
    from oxherd.system.logs.reader import LogLine

__all__ = ["Choice", "choose", "find_sources", "read_chosen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which lines of the sources are meant.

    Attributes:
        slots: The instances of each process that are meant; a process that is not here is meant as a whole.
        stream: "stdout", "stderr", or "" for both.
    """

    slots: dict[str, frozenset[int]]
    stream: str = ""

    @property
    def everything(self) -> bool:
        """Whether every line is meant."""
        return not self.slots and not self.stream

    def __call__(self, line: LogLine) -> bool:
        """Whether this line is meant. A line of which the instance or the stream is not known is."""
        slots = self.slots.get(line.process)
        if slots is not None and line.instance is not None and line.instance not in slots:
            return False
        return not self.stream or line.stream in {self.stream, None}


def choose(names: Sequence[str], stream: str) -> Choice:
    """Return the lines that names like ``web`` and ``web:1`` mean."""
    slots: dict[str, set[int]] = {}
    whole = {name for name in names if ":" not in name}
    for name in names:
        base, colon, slot = name.partition(":")
        if colon and base not in whole and slot.isascii() and slot.isdigit():
            slots.setdefault(base, set()).add(int(slot))
    return Choice(slots={base: frozenset(chosen) for base, chosen in slots.items()}, stream=stream)


def find_sources(home: Home, config: str | None, names: Sequence[str]) -> list[LogSource]:
    """Return the logs of the processes named, or of all.

    The supervisor knows them; where it does not know the stack, or there is none, the oxfile says where they are.

    Raises:
        OxherdError: A name fits no process, there is no oxfile, or it is not valid.
    """
    target = find_target(home, config, names)
    try:
        with connect(home, target.path) as client:
            files = objects(
                client.request("logfiles", timeout=10, stack=target.path, names=list(target.names)), "files"
            )
    except NoSupervisorError:
        return _described(home, target)
    except UsageError as error:
        if error.code != UNKNOWN_STACK:
            raise
        return _described(home, target)
    return [
        LogSource(
            process=str(file["process"]),
            path=str(file["path"]),
            index=str(file["index"]),
            error_path=None if file.get("error_path") is None else str(file["error_path"]),
            error_index=None if file.get("error_index") is None else str(file["error_index"]),
            instances=int(str(file.get("instances", 1))),
        )
        for file in files
    ]


def read_chosen(
    sources: Sequence[LogSource],
    choice: Choice,
    *,
    last: int | None,
    since: float | None,
    level: str | None,
    follow: bool,
) -> Iterator[LogLine]:
    """Yield the lines that are meant; ``last`` counts only those. See `read_logs`.

    Raises:
        ValueError: ``level`` is no level.
    """
    if choice.everything or last is None or last == 0:
        return filter(choice, read_logs(sources, last=last, since=since, level=level, follow=follow))
    # The reader counts before the choice is made: widen its window until enough of it is meant, or it holds all.
    window = last
    while True:
        lines = list(read_logs(sources, last=window, since=since, level=level))
        chosen = [line for line in lines if choice(line)]
        if len(chosen) >= last or len(lines) < window:
            break
        window *= 4
    if not follow:
        return iter(chosen[-last:])
    found = filter(choice, read_logs(sources, last=window, since=since, level=level, follow=True))
    return _without_first(found, len(chosen) - last)


def _without_first(lines: Iterable[LogLine], count: int) -> Iterator[LogLine]:
    remaining = iter(lines)
    if count > 0:
        deque((next(remaining) for _ in range(count)), maxlen=0)
    yield from remaining


def _described(home: Home, target: Target) -> list[LogSource]:
    """Return where the oxfile says that the logs are."""
    from oxherd.programs.compiled import compile_stack  # noqa: PLC0415 - not where a supervisor answers
    from oxherd.programs.probes import BLIND  # noqa: PLC0415 - as above

    oxfile = compile_stack(shown(target.path), profile=None, environ=os.environ, probes=BLIND).oxfile
    share_names({target.path: [process.name for process in oxfile.processes]}, target.names)
    wanted = {name.partition(":")[0] for name in target.names}
    folder = home.logs(stack_id(target.path))
    return [_source(process, folder) for process in oxfile.processes if not wanted or process.name in wanted]


def _source(process: ProcessSpec, folder: str) -> LogSource:
    own = os.path.join(folder, process.name)
    return LogSource(
        process=process.name,
        path=process.logs.file or f"{own}.log",
        index=f"{own}.idx",
        error_path=process.logs.error_file,
        error_index=None if process.logs.error_file is None else f"{own}.err.idx",
        instances=process.instances,
    )
