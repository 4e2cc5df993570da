"""The log files of every process: opened when first needed, closed with their process."""

from __future__ import annotations

import os

from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from oxherd.control.paths import Home
    from oxherd.daemon.handles import ProcessHandle
    from oxherd.system.logs.echo import Echo
    from oxherd.system.logs.spool import Spool
    from oxherd.system.loop import Loop
    from oxherd.system.ports import Pipe, Sink, System

__all__ = ["SinkPaths", "Sinks"]


# Seconds until files that are still being compressed are looked at again.
_REST_AGAIN = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkPaths:
    """Files of a process's output and their indexes; the error paths are None where stderr goes with stdout."""

    path: str
    index: str
    error_path: str | None
    error_index: str | None


class Sinks:
    """Opens, reopens and closes log sinks.

    Args:
        loop: For the pipes.
        system: Opens the files.
        home: Where files go that the oxfile does not name, and all indexes.
        start_helper: Runs a compressor in the background.
        report: Takes (process, kind, text) when a file cannot be written and when it can again.
        echo: In ``oxherd run``, prints every line.
        spool: Keeps lines that are on their way from dying with the supervisor.
    """

    def __init__(
        self,
        *,
        loop: Loop,
        system: System,
        home: Home,
        start_helper: Callable[[list[str]], None],
        report: Callable[[ProcessHandle, str, str], None],
        echo: Echo | None,
        spool: Spool | None,
    ) -> None:
        """Open nothing yet."""
        self._loop = loop
        self._system = system
        self._home = home
        self._start_helper = start_helper
        self._report = report
        self._echo = echo
        self._spool = spool
        self._leaving: list[Sink] = []

    def paths(self, process: ProcessHandle) -> SinkPaths:
        """Return where the output of a process goes; ``{instance}`` in a path gives each instance a file of its own."""
        own = os.path.join(self._home.logs(process.stack.identity), process.name)
        path, error_path = process.spec.logs.file or f"{own}.log", process.spec.logs.error_file
        # Two sinks must not write to one file: who names the same file twice wants one with both.
        error_path = None if error_path == path else error_path
        error_index = None if error_path is None else f"{own}.err.idx"
        return SinkPaths(path=path, index=f"{own}.idx", error_path=error_path, error_index=error_index)

    def of(self, process: ProcessHandle) -> tuple[Sink, Sink | None]:
        """Return the sinks of a process, stderr's None where it shares stdout's."""
        self._follow_settings(process)
        paths = self.paths(process)
        if paths.error_path is None or paths.error_index is None:
            return self._open(process, paths.path, paths.index, "output"), None
        out = self._open(process, paths.path, paths.index, "stdout")
        return out, self._open(process, paths.error_path, paths.error_index, "stderr")

    def attach(
        self, process: ProcessHandle, slot: int, inodes: Iterable[int], find: Callable[[int], int]
    ) -> tuple[list[Pipe], bool]:
        """Go on reading the output of something that an earlier supervisor had started.

        Args:
            process: Whose output it is.
            slot: The instance; 0 for a zygote.
            inodes: What its pipes are known by, stderr's last.
            find: Opens a pipe by its inode again; -1 where nobody has it.

        Returns:
            The pipes that were found, and whether all were.
        """
        out, error = self.of(process)
        pipes, whole = [], True
        for sink, inode in zip((out, error or out), inodes, strict=False):
            fd = find(inode)
            if fd >= 0:
                pipes.append(sink.attach(slot, fd))
            else:
                whole = False
        return pipes, whole

    def _open(self, process: ProcessHandle, path: str, index: str, stream: str) -> Sink:
        sink = process.sinks.get(stream)
        if sink is None:
            os.makedirs(os.path.dirname(index), mode=0o700, exist_ok=True)
            sink = process.sinks[stream] = self._system.open_sink(
                loop=self._loop,
                path=path,
                index_path=index,
                process=process.name,
                spec=process.spec.logs,
                stream=stream,
                start_helper=self._start_helper,
                on_trouble=lambda text: self._report(process, "log-trouble", text),
                on_recovered=lambda text: self._report(process, "log-recovered", text),
                echo=self._echo,
                owner=None,
                spool=self._spool,
            )
        return sink

    def _follow_settings(self, process: ProcessHandle) -> None:
        """Give up sinks that were opened under other settings.

        Two sinks must not write to one file: while an instance still writes, new rotation settings for the same file
        wait for the next start that finds no instance running.
        """
        wanted, opened = process.spec.logs, process.sink_settings
        process.sink_settings = wanted
        if opened is None or opened == wanted:
            return
        moved = (opened.file, opened.error_file) != (wanted.file, wanted.error_file)
        if not moved and any(sink.pipes for sink in process.sinks.values()):
            process.sink_settings = opened
            return
        self._leaving.extend(process.sinks.values())
        process.sinks.clear()
        self.settle()

    def settle(self) -> None:
        """Close the given up sinks that no incarnation writes to any more."""
        for sink in [sink for sink in self._leaving if not sink.pipes]:
            self._leaving.remove(sink)
            sink.close()

    def rest(self, process: ProcessHandle) -> None:
        """Close the files of a process that is down, once they are compressed: what does not run costs nothing."""
        if any(sink.pipes for sink in process.sinks.values()):
            return
        if any(sink.busy for sink in process.sinks.values()):
            self._loop.call_later(_REST_AGAIN, lambda: self.rest(process))
        else:
            self.close(process)

    def reopen(self, process: ProcessHandle) -> None:
        """Open the files of a process anew, after logrotate moved them."""
        for sink in process.sinks.values():
            sink.reopen()

    def close(self, process: ProcessHandle) -> None:
        """Write what is held and close; the next start opens them again, under their possibly new settings."""
        for sink in process.sinks.values():
            sink.close()
        process.sinks.clear()

    def take_orphans(self, processes: Iterable[ProcessHandle]) -> int:
        """Write what a killed supervisor had read of pipes that nobody goes on with; once, when survivors are adopted.

        Args:
            processes: All there are. Their sinks are opened if something is left for one of them.

        Returns:
            Number of lines that belong to no process any more, and are lost.
        """
        if self._spool is None or not self._spool.orphans():
            return 0
        for process in processes:
            try:
                sinks = self.of(process)
            except OSError:
                # No directory for its log: it has no place for its lines, and they are counted below.
                continue
            for sink in sinks:
                if sink is not None:
                    sink.take_orphans()
            self.rest(process)
        return self._spool.drop_orphans()

    def close_spool(self) -> None:
        """Remove the spool's files; every sink is closed."""
        if self._spool is not None:
            self._spool.close()
