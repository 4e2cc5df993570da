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
from oxherd.system.logs.pipe import make_pipe
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
        return b"".join(path.read_bytes() for path in [*files, self.directory / "web.log"]).splitlines()

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


def expected(said: bytes) -> list[bytes]:
    return said.splitlines() if said.endswith(b"\n") else (said + b"\n").splitlines()


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
    fatal=st.integers(0, 250),
    second=st.integers(0, 120),
    form=st.sampled_from([("text", None), ("text", "%H:%M:%S.%f"), ("json", None)]),
    max_bytes=st.sampled_from([0, 5, 300]),
)
def test_whatever_is_written_and_whenever_it_is_killed(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    writes: list[bytes],
    fatal: int,
    second: int,
    form: tuple[str, str | None],
    max_bytes: int,
) -> None:
    plain = World(tmp_path_factory.mktemp("plain"), form[0], max_bytes=max_bytes, date=form[1])
    killed = World(tmp_path_factory.mktemp("killed"), form[0], max_bytes=max_bytes, date=form[1])
    try:
        live(plain, writes, -1, -1, monkeypatch)
        live(killed, writes, fatal, second, monkeypatch)
        assert [undated(line, form) for line in killed.lines()] == [undated(line, form) for line in plain.lines()]
    finally:
        plain.close()
        killed.close()


def undated(line: bytes, form: tuple[str, str | None]) -> bytes:
    if form[0] == "json":
        return line.split(b'"line": ', 1)[1]
    return line.split(b" ", 1)[1] if form[1] else line
