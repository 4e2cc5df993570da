"""The log of a process: every pipe of its instances on one side, its files on the other."""

from __future__ import annotations

import os
import time

from oxherd.system.logs.names import for_instance
from oxherd.system.logs.pipe import TURN_BUDGET, OutputPipe, make_pipe
from oxherd.system.logs.ring import Batch
from oxherd.system.logs.stamp import Stamper
from oxherd.system.logs.surroundings import Surroundings
from oxherd.system.logs.writer import LogWriter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.config.model import LogSpec
    from oxherd.system.logs.echo import Echo
    from oxherd.system.logs.landed import Place
    from oxherd.system.logs.spool import PipeSpool, Spool
    from oxherd.system.loop import Loop, Timer

__all__ = ["LogSink"]

# A pipe that is read again this soon is busy: it is then read by the clock. Waking up is what costs, not copying.
_PAUSE = 0.010
# A pipe of which this share was found full would fill up within the pause, and its writer wait for nothing.
_FULL = 1 / 8
_SHORT_PAUSE = 0.001


class LogSink:
    """Takes the output of all instances of a process (or one of their two streams) to its log.

    A quiet pipe is watched: its line is read the moment it comes. A busy one is taken off the selector and read every
    ten milliseconds, together with the other busy ones, until it is found empty.

    Args:
        loop: The supervisor's.
        path: Absolute path of the log; ``{instance}`` in it makes a log for every instance.
        index_path: Absolute path of its index.
        process: Name of the process.
        spec: How it is written and rotated.
        stream: ``output`` (both together), ``stdout`` or ``stderr``.
        start_helper: Starts a program without waiting for it; the supervisor reaps it.
        on_trouble: Called once when the log can no longer be written, with the reason.
        on_recovered: Called once when it can be again.
        echo: Gets every whole line too.
        owner: uid and gid of files that are created.
        spool: Keeps what has been read and not written from dying with the supervisor; None: it does.
        surroundings: What it has in common with the other logs of the supervisor; None: it is alone.
    """

    __slots__ = (
        "_echo",
        "_held_back",
        "_large_pipes",
        "_loop",
        "_make_writer",
        "_notes",
        "_parked",
        "_per_instance",
        "_pipes",
        "_process",
        "_spool",
        "_stamper",
        "_tick",
        "_writers",
    )

    def __init__(
        self,
        *,
        loop: Loop,
        path: str,
        index_path: str,
        process: str,
        spec: LogSpec,
        stream: str,
        start_helper: Callable[[list[str]], None],
        on_trouble: Callable[[str], None],
        on_recovered: Callable[[str], None],
        echo: Echo | None = None,
        owner: tuple[int, int] | None = None,
        spool: Spool | None = None,
        surroundings: Surroundings | None = None,
    ) -> None:
        """Open the log; a log that cannot be opened is trouble, not an error."""
        self._loop = loop
        self._process = process
        self._echo = echo
        self._spool = spool
        self._stamper = Stamper(spec, process, stream)
        self._pipes: dict[OutputPipe, float] = {}
        self._parked: list[OutputPipe] = []
        self._tick: Timer | None = None
        self._held_back = False
        around = Surroundings() if surroundings is None else surroundings
        self._large_pipes = around.large_pipes
        self._per_instance = "{instance}" in path
        self._writers: dict[int, LogWriter] = {}
        self._notes: list[tuple[int, bytes]] = []

        def make_writer(slot: int) -> LogWriter:
            log, index = for_instance(path, index_path, slot)
            return LogWriter(
                loop=loop,
                path=log,
                index_path=index,
                stream=stream,
                spec=spec,
                stamper=self._stamper,
                start_helper=start_helper,
                on_trouble=on_trouble,
                on_recovered=on_recovered,
                owner=owner,
                spool=spool,
                surroundings=around,
            )

        self._make_writer = make_writer
        if not self._per_instance:
            self._writers[0] = make_writer(0)

    @property
    def pipes(self) -> int:
        """Number of open pipes."""
        return len(self._pipes)

    @property
    def busy(self) -> bool:
        """Whether it has something to do yet when no pipe is left: lines in memory, files to compress."""
        return any(writer.busy for writer in self._writers.values())

    # -- for the supervisor -------------------------------------------------------------------------------------

    def open_pipe(self, slot: int) -> OutputPipe:
        """Make the pipe of a new incarnation.

        Raises:
            OSError: No descriptors or no memory are left; nothing is leaked.
        """
        read_fd, child_fd = make_pipe(large=self._large_pipes)
        return self._adopt(OutputPipe(self, slot, read_fd, child_fd, guard=self._guard(read_fd, slot)))

    def attach(self, slot: int, read_fd: int, held: bytes = b"") -> OutputPipe:
        """Go on reading a pipe that an earlier supervisor made; takes over the descriptor.

        What that supervisor had read and not written, should it have been killed, is written first.

        Args:
            slot: The instance.
            read_fd: The read end.
            held: The unfinished line, from `OutputPipe.detach`. The spool knows it too, and need not be told.
        """
        os.set_blocking(read_fd, False)
        guard = self._guard(read_fd, slot)
        if guard is not None and held:
            # The same line, and certainly all of it.
            guard.left = b""
        pipe = self._adopt(OutputPipe(self, slot, read_fd, -1, held=held, guard=guard))
        pipe.resume()
        return pipe

    def take_orphans(self) -> int:
        """Write what an earlier supervisor had read from pipes that are gone; to be called when all others are attached.

        Returns:
            Number of lines.
        """
        count = 0
        for orphan in self._spool.orphans() if self._spool is not None else ():
            if self._spool is None or self.log_of(orphan.slot) != orphan.log:
                continue
            guard = self._spool.claim(orphan)
            guard.begin(self.place(orphan.slot), last=True)
            self.deliver(orphan.slot, guard.left if guard.left.endswith(b"\n") else guard.left + b"\n")
            guard.commit(b"", b"")
            guard.remove()
            count += orphan.lines
        return count

    def _guard(self, read_fd: int, slot: int) -> PipeSpool | None:
        return None if self._spool is None else self._spool.open(read_fd, slot)

    def _adopt(self, pipe: OutputPipe) -> OutputPipe:
        self._pipes[pipe] = float("-inf")
        if not self._held_back:
            self._watch(pipe)
        return pipe

    def note(self, slot: int, text: str) -> None:
        """Write a line of Oxherd's own into the log, at the end of this turn or before what comes until then."""
        line = text if text.startswith("oxherd: ") else f"oxherd: {text}"
        data = line.replace("\n", " ").encode("utf-8", "backslashreplace") + b"\n"
        self._notes.append((slot, data))
        self._loop.call_last(self._write_notes)

    def _write_notes(self) -> None:
        while self._notes:
            slot, data = self._notes.pop(0)
            self._store(slot, data, own=True)

    def reopen(self) -> None:
        """Open the files anew at their paths, after logrotate has moved them."""
        self._write_notes()
        for writer in self._writers.values():
            writer.reopen()

    def close(self) -> None:
        """Finish every pipe and close the files."""
        for pipe in list(self._pipes):
            pipe.finish()
        self._write_notes()
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    # -- for the pipes ------------------------------------------------------------------------------------------

    def place(self, slot: int) -> Place:
        """Return where the next line of an instance is going to be written."""
        return self._writer(slot).place()

    def log_of(self, slot: int) -> bytes:
        """Return the path of the log of an instance."""
        return self._writer(slot).encoded_path

    def deliver(self, slot: int, lines: bytes) -> None:
        """Take whole lines of an instance."""
        self._write_notes()
        self._store(slot, lines, own=False)

    def release(self, pipe: OutputPipe) -> None:
        """Forget a pipe that closes; its last lines stay known."""
        self._loop.unwatch(pipe.fd)
        self._pipes.pop(pipe, None)
        if pipe in self._parked:
            self._parked.remove(pipe)
        if not self._parked and self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def _store(self, slot: int, lines: bytes, *, own: bool) -> None:
        now = time.time_ns()
        # Lines of Oxherd's own are for the file; on the echo the foreground says the same, without a process's tag.
        if self._echo is not None and not own:
            self._echo.write(self._process, slot, lines)
        batch = Batch(time=now, slot=slot, data=self._stamper.apply(lines, now, slot), own=own)
        self._writer(slot).write(batch)

    def _writer(self, slot: int) -> LogWriter:
        key = slot if self._per_instance else 0
        writer = self._writers.get(key)
        if writer is None:
            writer = self._writers[key] = self._make_writer(key)
        return writer

    # -- reading ------------------------------------------------------------------------------------------------

    def _watch(self, pipe: OutputPipe) -> None:
        try:
            self._loop.watch_read(pipe.fd, lambda: self._on_readable(pipe))
        except OSError:
            # No room in the epoll; epoll_ctl(2). Read by the clock, like a busy one, until there is.
            self._parked.append(pipe)
            self._schedule(0.0)

    def _on_readable(self, pipe: OutputPipe) -> None:
        if self._hold_back():
            return
        size = pipe.pull(TURN_BUDGET)
        if pipe.closed:
            return
        now = self._loop.now()
        busy = now - self._pipes[pipe] < _PAUSE
        self._pipes[pipe] = now
        if busy and size < TURN_BUDGET:
            # One that has used up its budget stays watched: it is ready again at once, after the others.
            self._loop.unwatch(pipe.fd)
            self._parked.append(pipe)
            self._schedule(size / pipe.capacity)

    def _schedule(self, fullness: float) -> None:
        if self._tick is None:
            self._tick = self._loop.call_later(_SHORT_PAUSE if fullness >= _FULL else _PAUSE, self._on_tick)

    def _on_tick(self) -> None:
        self._tick = None
        if self._hold_back():
            return
        parked, self._parked = self._parked, []
        fullest = 0.0
        for pipe in parked:
            size = pipe.pull(TURN_BUDGET)
            if pipe.closed:
                continue
            if size == 0 or size >= TURN_BUDGET:
                self._watch(pipe)
            else:
                self._parked.append(pipe)
            self._pipes[pipe] = self._loop.now()
            fullest = max(fullest, size / pipe.capacity)
        if self._parked:
            self._schedule(fullest)

    def _hold_back(self) -> bool:
        """Stop reading while the echo has more than its reader takes; the children wait, nothing is dropped."""
        if self._echo is None or not self._echo.full:
            return False
        if not self._held_back:
            self._held_back = True
            self._parked.clear()
            for pipe in self._pipes:
                self._loop.unwatch(pipe.fd)
            self._echo.when_ready(self._on_echo_ready)
        return True

    def _on_echo_ready(self) -> None:
        self._held_back = False
        for pipe in self._pipes:
            self._watch(pipe)
