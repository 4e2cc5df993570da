"""Killed before, in the middle of and after every system call of a story, with kills in the recovery too."""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oxherd.config.model import LogFormat, LogSpec
from oxherd.system.logs import file as file_module
from oxherd.system.logs.index import announce
from oxherd.system.logs.pipe import make_pipe
from oxherd.system.logs.reader import LogSource, read_logs
from oxherd.system.logs.sink import LogSink
from oxherd.system.logs.spool import Spool
from oxherd.system.loop import Loop

CALLS = ("open", "write", "pwrite", "pwritev", "preadv", "readv", "rename", "unlink", "truncate", "ftruncate", "rmdir")
PAGE = 4096


class Killed(BaseException):
    """SIGKILL: nothing after it happens, whoever catches it."""


class Mortal:
    """Counts the system calls of a process and kills it at one of them.

    Args:
        fatal: Which one, counted from 0; each counts three times: not done, half done, done.
    """

    def __init__(self, fatal: int) -> None:
        self.calls = 0
        self.fatal = fatal
        self.dead = False

    def wrap(self, name: str, call: Callable[..., object]) -> Callable[..., object]:
        def called(*arguments: object, **options: object) -> object:
            if self.dead:
                raise Killed
            at = self.fatal - self.calls
            self.calls += 3
            if not 0 <= at < 3:
                return call(*arguments, **options)
            self.dead = True
            if at == 1:
                self._half(name, call, arguments)
            if at == 2:
                call(*arguments, **options)
            raise Killed

        return called

    def _half(self, name: str, call: Callable[..., object], arguments: tuple[object, ...]) -> None:
        """A write ends at a page of the file; within one it is done or not. Reading a pipe is all or nothing."""
        if name == "write" and os.path.isfile(f"/proc/self/fd/{arguments[0]}"):
            data = arguments[1]
            assert isinstance(data, bytes)
            call(arguments[0], data[: len(data) // 2])
        elif name == "pwrite":
            fd, data, place = arguments
            assert isinstance(data, bytes)
            assert isinstance(place, int)
            room = PAGE - place % PAGE
            if len(data) > room:
                call(fd, data[:room], place)

    @contextmanager
    def alive(self, monkeypatch: pytest.MonkeyPatch, world: World) -> Iterator[None]:
        before = set(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patch:
            for name in CALLS:
                patch.setattr(os, name, self.wrap(name, getattr(os, name)))
            patch.setattr(file_module, "write", self.wrap("write", file_module.write))
            try:
                yield
            except Killed as error:
                met: BaseException | None = error
                while met is not None:
                    # Its frames hold parts of the mapped area.
                    traceback.clear_frames(met.__traceback__)
                    met = met.__context__
        world.bury()
        if self.dead:
            for fd in set(os.listdir("/proc/self/fd")) - before:
                try:
                    os.close(int(fd))
                except OSError as error:
                    assert error.errno == errno.EBADF  # noqa: PT017 - the descriptor of the listing itself


class World:
    """A pipe, its log, and supervisors that come and go."""

    def __init__(self, directory: Path, form: str, *, max_bytes: int, date: str | None = None) -> None:
        self.directory = directory
        self.spec = LogSpec(
            max_bytes=max_bytes, max_files=10_000, compress=False, format=LogFormat(form), date_format=date
        )
        self.read_fd, self.child_fd = make_pipe(large=True)
        self.troubles: list[str] = []
        self.loop: Loop | None = None
        self.spool: Spool | None = None

    def supervise(self, work: Callable[[LogSink, Callable[[], None]], None]) -> None:
        loop = self.loop = Loop(self._failed)
        spool = self.spool = Spool(str(self.directory / "spool"), self.troubles.append)
        sink = LogSink(
            loop=loop,
            path=str(self.directory / "web.log"),
            index_path=str(self.directory / "web.idx"),
            process="web",
            spec=self.spec,
            stream="output",
            start_helper=lambda _: None,
            on_trouble=self.troubles.append,
            on_recovered=self.troubles.append,
            spool=spool,
        )
        pipe = sink.attach(0, os.dup(self.read_fd))
        work(sink, pipe.drain)
        sink.close()
        spool.close()
        loop.close()
        self.loop = self.spool = None

    def bury(self) -> None:
        """Close what has more than a number to close; the kernel closes all descriptors of a process that is dead."""
        if self.spool is not None:
            self.spool._release()
        if self.loop is not None:
            self.loop.close()
        self.loop = self.spool = None

    @staticmethod
    def _failed(error: BaseException) -> None:
        raise error

    def lines(self) -> list[bytes]:
        files = sorted(self.directory.glob("web.log.*"), key=lambda path: int(path.suffix[1:]))
        return b"".join(path.read_bytes() for path in [*files, self.directory / "web.log"]).split(b"\n")[:-1]

    def shown(self) -> list[bytes]:
        """What ``oxherd logs`` says, with all the gaps there are in indexes."""
        source = LogSource(
            process="web", path=str(self.directory / "web.log"), index=str(self.directory / "web.idx"), instances=1
        )
        return [line.raw for line in read_logs([source])]

    def strangers(self) -> list[str]:
        """Old files that nobody would ever remove, for they have no index."""
        return [
            path.name
            for path in self.directory.glob("web.log.*")
            if not path.with_name(path.name.replace("log", "idx")).exists()
        ]

    def close(self) -> None:
        os.close(self.read_fd)
        if self.child_fd >= 0:
            os.close(self.child_fd)


def live(world: World, writes: list[bytes], fatal: int, second: int, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Let one supervisor read it all, killed at a call; then a second, killed at one; then a third that is not."""
    pending = list(writes)

    def work(_sink: LogSink, drain: Callable[[], None]) -> None:
        while pending:
            # The child's write is not the supervisor's call.
            REAL_WRITE(world.child_fd, pending.pop(0))
            drain()

    killed = False
    for mortal in (Mortal(fatal), Mortal(second), Mortal(-1)):
        with mortal.alive(monkeypatch, world):
            world.supervise(work)
        killed = killed or mortal.dead
    assert not pending
    assert world.troubles == []
    return killed


REAL_WRITE = os.write
STORY = [b"one\ntwo\nth", b"ree\n", b"\xff\xfe\xc1\n", b"\xc1", b"\n", b"\n\n", b"q" * 9000 + b"\nr", b"s\nt\n", b"u\n"]
SAID = b"".join(STORY)


@pytest.mark.parametrize("second", [-1, 4, 9, 16, 25, 33, 46, 58])
@pytest.mark.parametrize("max_bytes", [0, 7])
def test_killed_at_every_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_bytes: int, second: int) -> None:
    fatal, killed = 0, True
    while killed:
        directory = tmp_path / str(fatal)
        directory.mkdir()
        world = World(directory, "text", max_bytes=max_bytes)
        try:
            killed = live(world, STORY, fatal, second, monkeypatch) and (second < 0 or fatal < 600)
            assert world.lines() == SAID.split(b"\n")[:-1], fatal
            assert world.shown() == SAID.split(b"\n")[:-1], fatal
            assert world.strangers() == [], fatal
        finally:
            world.close()
        # Each call of the plain story; with a second kill a third of them, another third for each.
        fatal += 1 if second < 0 else 7
    assert fatal > 100


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    writes=st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=20),
            st.sampled_from([b"a\n", b"b", b"\n", b"a\na\na\n", b"x" * 5000, b"y" * 70_000 + b"\n"]),
        ),
        min_size=1,
        max_size=8,
    ),
    moments=st.tuples(st.integers(0, 250), st.integers(0, 120)),
    form=st.sampled_from([("text", None, 0), ("text", None, 5), ("text", "%H:%M:%S.%f", 60), ("json", None, 300)]),
)
def test_whatever_is_written_and_whenever_it_is_killed(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    writes: list[bytes],
    moments: tuple[int, int],
    form: tuple[str, str | None, int],
) -> None:
    kind, date, max_bytes = form
    plain = World(tmp_path_factory.mktemp("plain"), kind, max_bytes=max_bytes, date=date)
    killed = World(tmp_path_factory.mktemp("killed"), kind, max_bytes=max_bytes, date=date)
    try:
        live(plain, writes, -1, -1, monkeypatch)
        live(killed, writes, *moments, monkeypatch)
        assert [bare(line, kind, date) for line in killed.lines()] == [bare(line, kind, date) for line in plain.lines()]
    finally:
        plain.close()
        killed.close()


def bare(line: bytes, kind: str, date: str | None) -> bytes:
    if kind == "json":
        return line.split(b'"line": ', 1)[1]
    return line.split(b" ", 1)[1] if date else line


# -- the rest -------------------------------------------------------------------------------------------------------


def spooled(bench, tmp_path: Path, **spec) -> tuple[LogSink, Spool]:
    spool = Spool(str(tmp_path / "spool"), bench.troubles.append)
    sink = bench.sink(spool=spool, **spec)
    return sink, spool


def leave(sink: LogSink, spool: Spool) -> None:
    """Forget all of it, as a process does that is killed."""
    for pipe in list(sink._pipes):
        sink._loop.unwatch(pipe.fd)
        os.close(pipe.fd)
        if pipe.child_fd >= 0:
            os.close(pipe.child_fd)
        if pipe._guard is not None:
            pipe._guard.leave()
        sink._pipes.pop(pipe)
    spool._release()


def test_what_is_left_of_a_dead_process_is_delivered_when_somebody_asks(bench, tmp_path: Path) -> None:
    sink, spool = spooled(bench, tmp_path, date_format="D")
    pipe = sink.open_pipe(3)
    os.write(pipe.child_fd, b"whole\nhalf")
    pipe.drain()
    leave(sink, spool)
    again, spool = spooled(bench, tmp_path, date_format="D")
    assert [(orphan.slot, orphan.lines) for orphan in spool.orphans()] == [(3, 1)]
    assert again.take_orphans() == 1
    assert bench.path.read_bytes() == b"D whole\nD half\n"
    assert spool.orphans() == []
    again.close()
    spool.close()
    assert not (tmp_path / "spool").exists()


def test_what_belongs_to_nobody_is_counted(bench, tmp_path: Path) -> None:
    sink, spool = spooled(bench, tmp_path)
    pipe = sink.open_pipe(0)
    os.write(pipe.child_fd, b"half")
    pipe.drain()
    leave(sink, spool)
    other = Spool(str(tmp_path / "spool"), bench.troubles.append)
    assert other.drop_orphans() == 1
    assert Spool(str(tmp_path / "spool"), bench.troubles.append).orphans() == []


def test_an_instance_of_its_own_file_and_the_descriptor_that_was_handed_over(bench, tmp_path: Path) -> None:
    path = tmp_path / "web-{instance}.log"
    sink, spool = spooled(bench, tmp_path, path=path)
    pipes = [sink.open_pipe(slot) for slot in range(2)]
    writers = [os.dup(pipe.child_fd) for pipe in pipes]
    for slot, pipe in enumerate(pipes):
        os.write(pipe.child_fd, b"half of %d" % slot)
    fd, held = pipes[0].detach()
    pipes[1].drain()
    other = os.dup(pipes[1].fd)
    leave(sink, spool)
    again, spool = spooled(bench, tmp_path, path=path)
    again.attach(0, fd, held)
    again.attach(1, other)
    for writer in writers:
        os.write(writer, b", whole\n")
        os.close(writer)
    again.close()
    assert [(tmp_path / f"web-{slot}.log").read_bytes() for slot in range(2)] == [
        b"half of 0, whole\n",
        b"half of 1, whole\n",
    ]
    spool.close()


def test_a_line_beyond_the_limit_says_how_much_of_it_is_lost(bench, tmp_path: Path) -> None:
    sink, spool = spooled(bench, tmp_path)
    pipe = sink.open_pipe(0)
    for _ in range(5):
        os.write(pipe.child_fd, b"x" * 60_000)
        pipe.drain()
    fd, writer = os.dup(pipe.fd), os.dup(pipe.child_fd)
    leave(sink, spool)
    again, spool = spooled(bench, tmp_path)
    again.attach(0, fd)
    os.write(writer, b"end\n")
    os.close(writer)
    again.close()
    spool.close()
    lost = b"[oxherd: %d bytes of this line are lost]" % (300_000 - 256 * 1024)
    assert bench.path.read_bytes() == b"x" * 256 * 1024 + lost + b"end\n"


@pytest.mark.parametrize("call", ["posix_fallocate", "pwritev", "readv", "preadv"])
def test_a_spool_that_cannot_be_used_is_told_once_and_logging_goes_on(
    bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EFAULT, os.strerror(errno.EFAULT))

    sink, spool = spooled(bench, tmp_path)
    if call != "posix_fallocate":
        sink.open_pipe(0).finish()
    monkeypatch.setattr(os, call, refuse)
    pipe = sink.open_pipe(0)
    for _ in range(3):
        os.write(pipe.child_fd, b"line\nha")
        pipe.drain()
        os.write(pipe.child_fd, b"lf\n")
        pipe.drain()
    pipe.finish()
    assert bench.path.read_bytes() == b"line\nhalf\n" * 3
    assert len(bench.troubles) == 1
    assert "log lines it has just read are lost" in bench.troubles[0]
    sink.close()
    spool.close()


def test_a_spool_of_an_earlier_start_of_the_machine_is_swept(bench, tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir()
    for name in ("area", "4711", "4711.new"):
        (tmp_path / "spool" / name).write_bytes(b"of another boot")
    assert Spool(str(tmp_path / "spool"), bench.troubles.append).orphans() == []
    assert list((tmp_path / "spool").iterdir()) == []
    assert bench.troubles == []


@pytest.mark.parametrize("killed_after", ["log", "new log"])
def test_a_rotation_that_was_killed_is_read_in_order_and_finished(bench, tmp_path: Path, killed_after: str) -> None:
    sink = bench.sink(max_bytes=4, max_files=5, compress=False)
    for line in (b"a00\n", b"b00\n", b"c00\n"):
        sink.deliver(1, line)
    sink.close()
    announce(str(bench.index), 3)
    bench.path.rename(tmp_path / "web.log.3")
    if killed_after == "new log":
        bench.path.touch()
    source = LogSource(process="web", path=str(bench.path), index=str(bench.index))
    assert [(line.raw, line.instance) for line in read_logs([source])] == [(b"a00", 1), (b"b00", 1), (b"c00", 1)]
    sink = bench.sink(max_bytes=4, max_files=5, compress=False)
    sink.deliver(2, b"d00\n")
    sink.close()
    assert [(line.raw, line.instance) for line in read_logs([source])][2:] == [(b"c00", 1), (b"d00", 2)]
    assert (tmp_path / "web.idx.3").exists()


def test_a_file_that_logrotate_has_moved_does_not_become_ours(bench, tmp_path: Path) -> None:
    sink = bench.sink(max_bytes=0, compress=False)
    sink.deliver(0, b"a\n")
    bench.path.rename(tmp_path / "web.log.1")
    sink.reopen()
    assert not (tmp_path / "web.idx.1").exists()
