"""`oxherd run` shows every line with its tag, waits for a slow reader without blocking, and drops nothing."""

from __future__ import annotations

import os
import pty
import socket
import threading

import pytest

from oxherd.system.logs.echo import Echo


@pytest.fixture
def pipe():
    read_fd, write_fd = os.pipe()
    yield read_fd, write_fd
    for fd in (read_fd, write_fd):
        try:
            os.close(fd)
        except OSError:
            continue


def test_lines_stand_behind_tags_of_one_width_without_colour(loop, pipe) -> None:
    echo = Echo(loop=loop, tags=["web:0", "worker:10"], environ={"TERM": "xterm"}, fd=pipe[1])
    echo.write("web", 0, b"one\n\xff\n")
    echo.write("worker", 10, b"three\n")
    echo.say("stopping")
    expected = b"web:0     | one\nweb:0     | \xff\nworker:10 | three\noxherd    | stopping\n"
    assert os.read(pipe[0], 1000) == expected
    echo.close()


def test_a_longer_tag_widens_the_column_from_then_on(loop, pipe) -> None:
    echo = Echo(loop=loop, tags=[], environ={}, fd=pipe[1])
    echo.write("a", 0, b"x\n")
    echo.write("longer", 0, b"y\n")
    echo.write("a", 0, b"z\n")
    assert os.read(pipe[0], 1000) == b"a:0 | x\nlonger:0 | y\na:0      | z\n"
    echo.close()


@pytest.mark.parametrize(
    ("environ", "coloured"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_colour_is_for_terminals_whose_user_has_not_declined_it(loop, environ: dict[str, str], coloured: bool) -> None:
    main, other = pty.openpty()
    echo = Echo(loop=loop, tags=["web:0"], environ=environ, fd=other)
    echo.write("web", 0, b"hello\n")
    got = os.read(main, 1000)
    assert (b"\x1b[" in got) is coloured
    assert b"hello" in got
    echo.close()
    os.close(main)
    os.close(other)


def test_a_reader_that_does_not_read_blocks_nobody_and_gets_everything_later(loop, pipe) -> None:
    echo = Echo(loop=loop, tags=[], environ={}, fd=pipe[1])
    ready: list[bool] = []
    lines = [b"%099d\n" % number for number in range(20_000)]
    for start in range(0, len(lines), 100):
        echo.write("w", 0, b"".join(lines[start : start + 100]))
    assert echo.full
    assert os.get_blocking(pipe[1])
    echo.when_ready(lambda: ready.append(True))
    got = b""
    while len(got) < 20_000 * 106:
        loop.run_once(0)
        got += os.read(pipe[0], 1 << 20)
        assert bool(ready) is (echo.pending <= 256 * 1024)
    assert got == b"".join(b"w:0 | " + line for line in lines)
    assert not echo.full
    echo.close()


def test_the_sink_stops_reading_while_the_echo_is_full_and_then_goes_on(bench, loop, pipe) -> None:
    echo = Echo(loop=loop, tags=[], environ={}, fd=pipe[1])
    sink = bench.sink(echo=echo, max_bytes=0)
    output = sink.open_pipe(0)
    child = bench.child(output, "import os\nfor n in range(100_000): os.write(1, b'%099d\\n' % n)")
    loop.until(lambda: echo.full)
    for _ in range(20):
        loop.run_once(0.01)
    # What the echo holds, one turn more, and the kernel's pipes: the child waits, and so does the log.
    assert child.poll() is None
    assert echo.pending < 3 * 1024 * 1024
    assert loop.timers == 0
    got: list[bytes] = []

    def read() -> None:
        while sum(map(len, got)) < 100_000 * 108:
            got.append(os.read(pipe[0], 1 << 20))

    reader = threading.Thread(target=read)
    reader.start()
    loop.until(lambda: output.closed and not echo.pending)
    reader.join(30)
    assert b"".join(got) == b"".join(b"web:0 | %099d\n" % n for n in range(100_000))
    assert bench.path.read_bytes() == b"".join(b"%099d\n" % n for n in range(100_000))
    echo.close()


def test_a_reader_that_goes_away_does_not_stop_the_log(bench, loop, pipe) -> None:
    echo = Echo(loop=loop, tags=[], environ={}, fd=pipe[1])
    sink = bench.sink(echo=echo)
    output = sink.open_pipe(0)
    os.close(pipe[0])
    os.write(output.child_fd, b"one\ntwo\n")
    output.finish()
    assert echo.broken
    assert bench.path.read_bytes() == b"one\ntwo\n"
    echo.close()


def test_a_reader_that_goes_away_while_all_wait_for_it_lets_them_go_on(bench, loop, pipe) -> None:
    echo = Echo(loop=loop, tags=[], environ={}, fd=pipe[1])
    sink = bench.sink(echo=echo, max_bytes=0)
    output = sink.open_pipe(0)
    bench.child(output, "import os\nfor n in range(50_000): os.write(1, b'%099d\\n' % n)")
    loop.until(lambda: echo.full)
    os.close(pipe[0])
    loop.until(lambda: output.closed)
    assert bench.path.read_bytes().count(b"\n") == 50_000
    echo.close()


def test_close_writes_what_is_pending_but_waits_only_so_long(loop, pipe) -> None:
    echo = Echo(loop=loop, tags=[], environ={}, fd=pipe[1])
    echo.write("w", 0, b"x" * 500_000 + b"\n")
    got: list[bytes] = []

    def read() -> None:
        while sum(map(len, got)) < 500_007:
            got.append(os.read(pipe[0], 1 << 16))

    reader = threading.Thread(target=read)
    reader.start()
    echo.close(30)
    reader.join(30)
    assert b"".join(got) == b"w:0 | " + b"x" * 500_000 + b"\n"
    stuck = Echo(loop=loop, tags=[], environ={}, fd=pipe[1])
    stuck.write("w", 0, b"x" * 500_000 + b"\n")
    stuck.close(0.01)
    assert stuck.broken


def test_a_socket_as_stdout_is_written_to_without_blocking(loop) -> None:
    ours, theirs = socket.socketpair()
    echo = Echo(loop=loop, tags=[], environ={}, fd=ours.fileno())
    data = b"x" * 99 + b"\n"
    for _ in range(20_000):
        echo.write("w", 0, data)
    assert echo.full
    assert ours.getblocking()
    count = 0
    while count < 20_000 * 106:
        loop.run_once(0)
        count += len(theirs.recv(1 << 20))
    assert echo.pending == 0
    echo.close()
    ours.close()
    theirs.close()


def test_a_file_as_stdout_is_continued_where_it_is(loop, tmp_path) -> None:
    path = tmp_path / "out"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"before\n")
    echo = Echo(loop=loop, tags=[], environ={}, fd=fd)
    echo.write("w", 0, b"line\n")
    os.write(fd, b"after\n")
    echo.close()
    os.close(fd)
    assert path.read_bytes() == b"before\nw:0 | line\nafter\n"
