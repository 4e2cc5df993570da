"""From the write of a child to the bytes in the file."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oxherd.system.logs import pipe as pipe_module
from oxherd.system.logs.pipe import make_pipe


def test_a_line_of_a_quiet_child_is_in_the_file_after_one_turn(bench) -> None:
    sink = bench.sink()
    pipe = sink.open_pipe(0)
    os.write(pipe.child_fd, b"hello\n")
    bench.loop.run_once(1)
    assert bench.path.read_bytes() == b"hello\n"
    assert pipe.tail(5) == [b"hello"]


def test_an_unfinished_line_waits_for_its_end_and_can_be_seen_meanwhile(bench) -> None:
    sink = bench.sink()
    pipe = sink.open_pipe(0)
    os.write(pipe.child_fd, b"Loading... ")
    bench.loop.run_once(1)
    assert bench.path.read_bytes() == b""
    assert pipe.tail(1) == [b"Loading... "]
    os.write(pipe.child_fd, b"done\n")
    bench.loop.until(lambda: bench.path.read_bytes() == b"Loading... done\n")


def test_lines_of_two_instances_never_tear_each_other(bench) -> None:
    sink = bench.sink()
    one, two = sink.open_pipe(0), sink.open_pipe(1)
    os.write(one.child_fd, b"first half, ")
    bench.loop.run_once(1)
    os.write(two.child_fd, b"other\n")
    bench.loop.until(lambda: bench.path.read_bytes() == b"other\n")
    os.write(one.child_fd, b"second half\n")
    bench.loop.until(lambda: bench.path.read_bytes() == b"other\nfirst half, second half\n")


def test_finish_reads_what_is_left_ends_the_line_and_gives_everything_back(bench) -> None:
    sink = bench.sink()
    pipe = sink.open_pipe(0)
    os.write(pipe.child_fd, b"one\nlast words")
    pipe.finish()
    assert bench.path.read_bytes() == b"one\nlast words\n"
    assert pipe.tail(9) == [b"one", b"last words"]
    assert pipe.closed
    assert (pipe.fd, pipe.child_fd, sink.pipes) == (-1, -1, 0)
    pipe.finish()
    pipe.drain()
    pipe.close_child_end()


def test_drain_reads_now_what_the_loop_has_not_seen_yet(bench) -> None:
    sink = bench.sink()
    pipe = sink.open_pipe(0)
    os.write(pipe.child_fd, b"x\n" * 1000)
    pipe.drain()
    assert bench.path.read_bytes() == b"x\n" * 1000
    assert not pipe.closed


def test_a_child_that_closes_its_output_ends_its_pipe_and_nothing_else(bench) -> None:
    sink = bench.sink()
    pipe = sink.open_pipe(0)
    child = bench.child(
        pipe, "import os, sys; print('bye', flush=True); os.close(1); os.close(2); sys.stdin.read(); input"
    )
    bench.loop.until(lambda: pipe.closed)
    child.wait()
    assert sink.pipes == 0
    assert bench.path.read_bytes() == b"bye\n"
    pipe.finish()


def test_an_escapee_that_keeps_the_pipe_is_heard_until_the_sweep(bench) -> None:
    sink = bench.sink()
    pipe = sink.open_pipe(0)
    code = """
import os, signal
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    os.close(write)
    os.read(read, 1)
    os.write(1, b"from beyond: %d\\n" % os.getpid())
    signal.pause()
os._exit(0)
"""
    bench.child(pipe, code).wait()
    pipe.drain()
    bench.loop.until(lambda: bench.path.read_bytes().endswith(b"\n"))
    pid = int(bench.path.read_bytes().removeprefix(b"from beyond: "))
    try:
        assert not pipe.closed
        pipe.finish()
        assert pipe.closed
    finally:
        os.kill(pid, signal.SIGKILL)


def test_binary_garbage_and_a_line_of_five_megabytes_arrive_as_they_were(bench) -> None:
    sink = bench.sink()
    pipe = sink.open_pipe(0)
    code = """
import os, sys
out = sys.stdout.buffer
out.write(bytes(range(256)) * 1000 + b"\\n")
out.write(b"\\x00" * 5_000_000 + b"\\n")
out.write(b"\\xff\\xfe\\r\\n")
"""
    bench.child(pipe, code)
    bench.loop.until(lambda: pipe.closed)
    expected = bytes(range(256)) * 1000 + b"\n" + b"\0" * 5_000_000 + b"\n" + b"\xff\xfe\r\n"
    assert bench.path.read_bytes() == expected
    assert pipe.tail(1) == [b"\xff\xfe\r"]


def test_a_hundred_megabytes_at_full_speed_lose_nothing_and_cost_little_memory(bench) -> None:
    sink = bench.sink(max_bytes=10_000_000, max_files=50, compress=False)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pipe = sink.open_pipe(0)
    code = """
import os
for start in range(0, 1_000_000, 1000):
    data = b"".join(b"%099d\\n" % number for number in range(start, start + 1000))
    while data:
        data = data[os.write(1, data):]
"""
    bench.child(pipe, code)
    bench.loop.until(lambda: pipe.closed, timeout=120)
    count = 0
    for path in bench.files():
        assert path.stat().st_size <= 10_000_000
        with path.open("rb") as file:
            for line in file:
                assert line == b"%099d\n" % count
                count += 1
    assert count == 1_000_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 16 * 1024


def test_fifty_writers_into_one_file_keep_every_line_whole_and_in_order(bench) -> None:
    sink = bench.sink(max_bytes=200_000, max_files=1000, compress=False)
    code = """
import os, sys
for number in range(400):
    line = b"%s:%06d " % (b"SLOT", number) + b"x" * (number * 7 % 300) + b"\\n"
    for part in (line[:9], line[9:]):
        os.write(1, part)
"""
    pipes = [sink.open_pipe(slot) for slot in range(50)]
    for slot, pipe in enumerate(pipes):
        bench.child(pipe, code.replace("SLOT", f"{slot:02d}"))
    bench.loop.until(lambda: sink.pipes == 0, timeout=120)
    seen = dict.fromkeys(range(50), 0)
    for path in bench.files():
        assert path.stat().st_size <= 200_000
        for line in path.read_bytes().split(b"\n")[:-1]:
            slot, number = int(line[:2]), int(line[3:9])
            assert number == seen[slot]
            assert line[10:] == b"x" * (number * 7 % 300)
            seen[slot] += 1
    assert set(seen.values()) == {400}


def test_a_pipe_that_never_runs_dry_is_left_when_its_turn_is_over(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = bench.sink(max_bytes=0)
    pipe = sink.open_pipe(0)
    reads: list[int] = []

    def read(_fd: int, size: int) -> bytes:
        reads.append(size)
        assert len(reads) < 100
        return b"x" * (size - 1) + b"\n"

    monkeypatch.setattr(pipe_module.os, "read", read)
    assert 1 << 20 <= pipe.pull(1 << 20) < 1.5 * (1 << 20)
    pipe.finish()
    monkeypatch.undo()
    assert pipe.closed
    assert bench.path.stat().st_size == sum(reads)


def test_one_loud_child_does_not_starve_a_quiet_one(bench) -> None:
    sink = bench.sink(max_bytes=0)
    loud, quiet = sink.open_pipe(0), sink.open_pipe(1)
    bench.child(loud, "import os\nwhile True: os.write(1, b'x' * 65535 + b'\\n')")
    bench.loop.until(lambda: bench.path.stat().st_size > 5_000_000)
    os.write(quiet.child_fd, b"hello\n")
    for _ in range(20):
        bench.loop.run_once(1)
        if quiet.tail(1):
            break
    assert quiet.tail(1) == [b"hello"]


def test_a_busy_pipe_is_read_by_the_clock_and_watched_again_when_it_is_quiet(bench) -> None:
    sink = bench.sink()
    pipe = sink.open_pipe(0)
    os.write(pipe.child_fd, b"1\n")
    bench.loop.run_once(0)
    assert pipe.fd in bench.loop.watched
    os.write(pipe.child_fd, b"2\n")
    bench.loop.run_once(0)
    assert pipe.fd not in bench.loop.watched
    os.write(pipe.child_fd, b"3\n")
    bench.loop.advance(0.02)
    assert bench.path.read_bytes() == b"1\n2\n3\n"
    bench.loop.advance(0.02)
    assert pipe.fd in bench.loop.watched
    assert bench.loop.timers == 0


def test_a_pipe_that_is_found_full_grows_and_a_quiet_one_does_not(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oxherd.system.logs.surroundings.may_exceed_share", lambda: False)
    sink = bench.sink()
    loud, quiet = sink.open_pipe(0), sink.open_pipe(1)
    os.set_blocking(loud.child_fd, False)
    sizes = [loud.capacity]
    for _ in range(5):
        os.write(loud.child_fd, b"x" * 99 + b"\n")
        loud.drain()
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(loud.child_fd, b"x" * 4095 + b"\n")
        loud.drain()
        sizes.append(loud.capacity)
        os.write(quiet.child_fd, b"hello\n")
        quiet.drain()
    assert sizes[:3] == [64 * 1024, 256 * 1024, 1024 * 1024]
    assert set(sizes[3:]) == {1024 * 1024}
    assert quiet.capacity == 64 * 1024


def test_no_descriptors_left_is_an_error_that_leaks_none(bench) -> None:
    sink = bench.sink()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 8, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        for _ in range(3):
            with pytest.raises(OSError, match="Too many open files") as caught:
                sink.open_pipe(0)
            assert caught.value.errno == errno.EMFILE
            # One more is free now; a pipe takes three for a moment.
            os.close(fillers.pop())
        sink.open_pipe(0).finish()
        fillers.extend(os.dup(0) for _ in range(3))
        with pytest.raises(OSError, match="Too many open files"):
            os.dup(0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        for fd in fillers:
            os.close(fd)
    assert sink.pipes == 0
    sink.open_pipe(0).finish()


def test_the_death_of_the_supervisor_gives_its_child_no_sigpipe(tmp_path: Path) -> None:
    read_fd, child_fd = make_pipe(large=False)
    flag = tmp_path / "written"
    code = f"import os, sys; sys.stdin.read(); os.write(1, b'still here\\n'); open({str(flag)!r}, 'w').close()"
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdin=subprocess.PIPE, stdout=child_fd)
    os.close(child_fd)
    os.close(read_fd)
    child.communicate()
    assert child.returncode == 0
    assert flag.exists()
    assert child.returncode != -signal.SIGPIPE


def test_a_later_supervisor_reads_on_in_the_pipe_of_the_earlier(bench) -> None:
    read_fd, child_fd = make_pipe(large=False)
    os.write(child_fd, b"while nobody was there\n")
    pipe = bench.sink().attach(3, read_fd)
    os.write(child_fd, b"and now\n")
    os.close(child_fd)
    bench.loop.until(lambda: pipe.closed)
    assert bench.path.read_bytes() == b"while nobody was there\nand now\n"
    assert pipe.slot == 3


def test_a_pipe_is_handed_on_with_its_unfinished_line(bench) -> None:
    first, second = bench.sink(), bench.sink()
    pipe = first.open_pipe(2)
    child_fd = os.dup(pipe.child_fd)
    os.write(child_fd, b"whole\nfirst half, ")
    fd, held = pipe.detach()
    assert (pipe.closed, first.pipes, held) == (True, 0, b"first half, ")
    os.write(child_fd, b"second half\n")
    heir = second.attach(2, fd, held)
    os.close(child_fd)
    bench.loop.until(lambda: heir.closed)
    assert bench.path.read_bytes() == b"whole\nfirst half, second half\n"
    ended = first.open_pipe(0)
    ended.close_child_end()
    assert ended.detach() == (-1, b"")


def test_an_instance_may_have_a_log_of_its_own(bench) -> None:
    sink = bench.sink(path=bench.directory / "web-{instance}.log")
    for slot in (0, 1):
        pipe = sink.open_pipe(slot)
        os.write(pipe.child_fd, b"from %d\n" % slot)
        pipe.finish()
    assert (bench.directory / "web-0.log").read_bytes() == b"from 0\n"
    assert (bench.directory / "web-1.log").read_bytes() == b"from 1\n"
    assert {path.name for path in bench.directory.glob("*.idx")} == {"web-0.idx", "web-1.idx"}


def test_a_note_comes_before_what_is_written_after_it_and_before_the_end(bench) -> None:
    """It waits for the end of the turn; the lines of the successor, and the closing of the log, do not overtake it."""
    sink = bench.sink()
    sink.note(0, "ended")
    assert bench.path.read_bytes() == b""
    sink.deliver(0, b"hello\n")
    sink.note(0, "ended again")
    sink.close()
    bench.loop.end_turn()
    assert bench.path.read_bytes() == b"oxherd: ended\nhello\noxherd: ended again\n"


def test_a_note_of_oxherd_is_one_line_with_its_name(bench) -> None:
    sink = bench.sink()
    sink.note(0, "killed after 10 s\nreally")
    sink.note(0, "oxherd: stopped")
    bench.loop.end_turn()
    assert bench.path.read_bytes() == b"oxherd: killed after 10 s really\noxherd: stopped\n"


def test_each_incarnation_has_a_tail_of_its_own(bench) -> None:
    """Two of one slot may write at the same time while one replaces the other."""
    sink = bench.sink()
    first, second = sink.open_pipe(0), sink.open_pipe(0)
    os.write(first.child_fd, b"old\n")
    os.write(second.child_fd, b"new\n")
    first.finish()
    second.finish()
    assert first.tail(5) == [b"old"]
    assert second.tail(5) == [b"new"]


def test_stdout_and_stderr_may_go_to_different_files(bench) -> None:
    out, err = bench.sink(stream="stdout"), bench.sink(stream="stderr", path=bench.directory / "err.log")
    one, two = out.open_pipe(0), err.open_pipe(0)
    code = "import sys; print('out'); print('err', file=sys.stderr)"
    child = subprocess.Popen([sys.executable, "-I", "-S", "-c", code], stdout=one.child_fd, stderr=two.child_fd)
    one.close_child_end()
    two.close_child_end()
    bench.loop.until(lambda: one.closed and two.closed)
    child.wait()
    assert bench.path.read_bytes() == b"out\n"
    assert (bench.directory / "err.log").read_bytes() == b"err\n"


def test_what_a_child_wrote_is_what_the_file_has(bench) -> None:
    sink = bench.sink()
    pipe = sink.open_pipe(0)
    data = hashlib.shake_128(b"seed").digest(3_000_000)
    source = bench.directory / "data"
    source.write_bytes(data)
    bench.child(pipe, f"import sys; sys.stdout.buffer.write(open({str(source)!r}, 'rb').read())")
    bench.loop.until(lambda: pipe.closed)
    assert bench.path.read_bytes() == data + (b"" if data.endswith(b"\n") else b"\n")


def test_a_pipe_there_is_no_room_for_in_the_epoll_is_read_by_the_clock(bench, monkeypatch) -> None:
    sink = bench.sink()
    watch, full = bench.loop.watch_read, [True]

    def crowded(fd, callback):
        if full[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        watch(fd, callback)

    monkeypatch.setattr(bench.loop, "watch_read", crowded)
    pipe = sink.open_pipe(0)
    os.write(pipe.child_fd, b"one\n")
    bench.loop.until(lambda: bench.path.read_bytes() == b"one\n")
    full[0] = False
    bench.loop.until(lambda: pipe.fd in bench.loop.watched)
    os.write(pipe.child_fd, b"two\n")
    bench.loop.until(lambda: bench.path.read_bytes() == b"one\ntwo\n")
