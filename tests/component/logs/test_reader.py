"""`oxherd logs`: several logs as one, through old and compressed files, and onward while they rotate."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from oxherd.config.model import LogFormat, LogSpec
from oxherd.system.logs.compress import compress
from oxherd.system.logs.follow import LogStream
from oxherd.system.logs.reader import LogLine, LogSource, read_logs
from oxherd.system.logs.sink import LogSink


def source(bench, **changes) -> LogSource:
    fields = {"process": "web", "path": str(bench.path), "index": str(bench.index), **changes}
    return LogSource(**fields)


def write(sink, data: bytes, slot: int = 0) -> None:
    pipe = sink.open_pipe(slot)
    for start in range(0, len(data), 60_000):
        os.write(pipe.child_fd, data[start : start + 60_000])
        pipe.drain()
    pipe.finish()


def numbered(first: int, stop: int) -> bytes:
    return b"".join(b"%08d\n" % number for number in range(first, stop))


def texts(lines) -> list[str]:
    return [line.text for line in lines]


@pytest.fixture
def two(bench):
    """A second process beside the bench's."""
    made = []

    def make(process: str, **spec) -> tuple[LogSink, LogSource]:
        path, index = bench.directory / f"{process}.log", bench.directory / f"{process}.idx"
        sink = LogSink(
            loop=bench.loop,
            path=str(path),
            index_path=str(index),
            process=process,
            spec=LogSpec(**spec),
            stream="output",
            start_helper=bench.helpers.append,
            on_trouble=bench.troubles.append,
            on_recovered=bench.recoveries.append,
        )
        made.append(sink)
        return sink, LogSource(process=process, path=str(path), index=str(index))

    yield make
    for sink in made:
        sink.close()


def test_lines_carry_their_instance_their_stream_and_their_time(bench) -> None:
    sink = bench.sink(stream="stderr")
    before = time.time()
    write(sink, b"from \xff zero\r\n", slot=0)
    write(sink, b"from three\n", slot=3)
    first, second = read_logs([source(bench)])
    assert first == LogLine(
        time=first.time, process="web", instance=0, stream="stderr", text="from \ufffd zero", raw=b"from \xff zero\r"
    )
    assert (second.instance, second.text) == (3, "from three")
    assert before <= first.time <= second.time <= time.time()


def test_processes_are_merged_in_the_order_of_their_times(bench, two) -> None:
    web, web_source = two("web")
    worker, worker_source = two("worker")
    for number in range(20):
        write((web, worker)[number % 2], b"%d\n" % number)
    lines = list(read_logs([worker_source, web_source]))
    assert texts(lines) == [str(number) for number in range(20)]
    assert [line.process for line in lines] == ["web", "worker"] * 10
    assert texts(read_logs([worker_source, web_source], last=3)) == ["17", "18", "19"]


@pytest.mark.parametrize("last", [0, 1, 9, 10, 11, 55, 100, 1000])
def test_the_last_lines_reach_back_through_rotated_and_compressed_files(bench, last: int) -> None:
    sink = bench.sink(max_bytes=90, max_files=99, compress=False)
    write(sink, numbered(0, 100))
    for path in bench.files()[:5]:
        assert compress(str(path))
    expected = numbered(0, 100).decode().split()
    assert texts(read_logs([source(bench)], last=last)) == (expected[-last:] if last else [])
    assert texts(read_logs([source(bench)])) == expected


def test_the_last_lines_of_a_large_file_are_read_from_its_end(bench) -> None:
    write(bench.sink(max_bytes=0), numbered(0, 2_000_000))
    lines = read_logs([source(bench)], last=30_000)
    assert texts(lines) == numbered(1_970_000, 2_000_000).decode().split()
    bench.index.unlink()
    assert texts(read_logs([source(bench)], last=30_000)) == numbered(1_970_000, 2_000_000).decode().split()


@pytest.mark.parametrize("indexed", [True, False])
def test_the_last_lines_of_a_large_compressed_file_are_found(bench, indexed: bool) -> None:
    write(bench.sink(max_bytes=2_000_000, compress=False), numbered(0, 223_000))
    assert compress(f"{bench.path}.1")
    index = f"{bench.index}.1"
    assert compress(index)
    if not indexed:
        os.unlink(f"{index}.gz")
    lines = list(read_logs([source(bench)], last=20_000))
    assert texts(lines) == numbered(203_000, 223_000).decode().split()
    assert {line.instance for line in lines} == ({0} if indexed else {0, None})


def test_since_leaves_out_what_is_older(bench) -> None:
    sink = bench.sink(max_bytes=90, max_files=99, compress=False)
    write(sink, numbered(0, 25))
    lines = list(read_logs([source(bench)]))
    moment = time.time()
    while time.time() <= moment:
        pass
    write(sink, numbered(25, 60))
    expected = numbered(25, 60).decode().split()
    assert texts(read_logs([source(bench)], since=moment)) == expected
    assert texts(read_logs([source(bench)], since=moment, last=5)) == expected[-5:]
    assert len(list(read_logs([source(bench)], since=lines[0].time))) == 60
    assert list(read_logs([source(bench)], since=time.time() + 60)) == []


def test_level_keeps_whole_tracebacks_of_interleaved_instances(bench) -> None:
    sink = bench.sink()
    write(sink, b"INFO: fine\nERROR: boom\nTraceback (most recent call last):\n  File x\n", slot=0)
    write(sink, b"INFO: other\n  more of other\n", slot=1)
    write(sink, b'ValueError: y\nWARNING: hm\n{"level": "critical", "msg": "z"}\n', slot=0)
    expected = [
        "ERROR: boom",
        "Traceback (most recent call last):",
        "  File x",
        "ValueError: y",
        '{"level": "critical", "msg": "z"}',
    ]
    assert texts(read_logs([source(bench)], level="error")) == expected
    assert texts(read_logs([source(bench)], level="error", last=2)) == expected[-2:]
    assert len(list(read_logs([source(bench)], level="warning"))) == 6
    with pytest.raises(ValueError, match="one of debug"):
        read_logs([source(bench)], level="shout")


def test_the_last_errors_are_found_far_back(bench) -> None:
    sink = bench.sink(max_bytes=0)
    write(sink, b"ERROR: first\n" + b"INFO: noise\n" * 100_000 + b"ERROR: second\n" + b"INFO: noise\n" * 50_000)
    assert texts(read_logs([source(bench)], level="error", last=1)) == ["ERROR: second"]
    assert texts(read_logs([source(bench)], level="error", last=5)) == ["ERROR: first", "ERROR: second"]


def test_a_traceback_cut_by_the_first_look_backwards_is_counted_whole(bench) -> None:
    sink = bench.sink(max_bytes=0)
    write(sink, b"ERROR: early\n", slot=0)
    write(sink, b"Traceback (most recent call last):\n", slot=0)
    write(sink, b"ERROR: other\n" + b"noise\n" * 25_000, slot=1)
    write(sink, b"  File\nKeyError: x\n", slot=0)
    write(sink, b"ERROR: last\n", slot=1)
    expected = ["ERROR: other", "  File", "KeyError: x", "ERROR: last"]
    for count in range(1, 5):
        assert texts(read_logs([source(bench)], level="error", last=count)) == expected[-count:]


def test_text_without_an_index_is_shown_with_the_time_of_its_file(bench) -> None:
    bench.path.write_bytes(b"one\ntwo\nunfinished")
    os.utime(bench.path, (1000, 1000))
    lines = list(read_logs([source(bench)]))
    assert [(line.text, line.time, line.instance, line.stream) for line in lines] == [
        ("one", 1000, None, None),
        ("two", 1000, None, None),
        ("unfinished", 1000, None, None),
    ]


def test_text_the_index_has_missed_is_shown_between_what_it_knows(bench) -> None:
    sink = bench.sink()
    write(sink, b"known\n", slot=1)
    with bench.path.open("ab") as file:
        file.write(b"by somebody else\n")
    write(sink, b"known again\n", slot=2)
    with bench.path.open("ab") as file:
        file.write(b"beyond\n")
    lines = [(line.text, line.instance) for line in read_logs([source(bench)])]
    assert lines == [("known", 1), ("by somebody else", None), ("known again", 2), ("beyond", None)]


def test_a_log_that_is_not_there_has_no_lines(bench) -> None:
    assert list(read_logs([source(bench)], last=5)) == []
    assert list(read_logs([source(bench)])) == []


def test_lines_in_json_form_are_shown_as_the_process_wrote_them(bench) -> None:
    sink = bench.sink(format=LogFormat.JSON)
    write(sink, b'ERROR: gr\xc3\xbcn\n{"level": "info", "time": "now"}\n', slot=4)
    lines = list(read_logs([source(bench)]))
    assert [(line.text, line.instance, line.stream) for line in lines] == [
        ("ERROR: grün", 4, "output"),
        ('{"level": "info", "time": "now"}', 4, "output"),
    ]
    assert lines[0].time == pytest.approx(time.time(), abs=60)
    assert texts(read_logs([source(bench)], level="error")) == ["ERROR: grün"]
    bench.path.write_text(json.dumps({"time": "x", "msg": "its own"}) + "\n")
    os.utime(bench.path, (1000, 1000))
    assert texts(read_logs([source(bench)])) == ['{"time": "x", "msg": "its own"}']


def test_logs_of_their_own_of_all_instances_and_both_streams_are_read(bench) -> None:
    out = bench.sink(path=bench.directory / "web-{instance}.log", stream="stdout")
    err_index = bench.directory / "err.idx"
    err = LogSink(
        loop=bench.loop,
        path=str(bench.directory / "err-{instance}.log"),
        index_path=str(err_index),
        process="web",
        spec=LogSpec(),
        stream="stderr",
        start_helper=bench.helpers.append,
        on_trouble=bench.troubles.append,
        on_recovered=bench.recoveries.append,
    )
    for slot in (1, 0):
        write(out, b"out\n", slot=slot)
        write(err, b"err\n", slot=slot)
    err.close()
    where = source(
        bench,
        path=str(bench.directory / "web-{instance}.log"),
        error_path=str(bench.directory / "err-{instance}.log"),
        error_index=str(err_index),
        instances=2,
    )
    assert [(line.instance, line.stream) for line in read_logs([where])] == [
        (1, "stdout"),
        (1, "stderr"),
        (0, "stdout"),
        (0, "stderr"),
    ]


def test_files_logrotate_has_numbered_its_own_way_come_in_the_order_of_their_times(bench) -> None:
    for number, (age, text) in enumerate([(100, "newer"), (200, "older")], start=1):
        path = bench.directory / f"web.log.{number}"
        path.write_text(f"{text}\n")
        os.utime(path, (time.time() - age, time.time() - age))
    oldest = bench.directory / "web.log.3.gz"
    oldest.write_bytes(gzip.compress(b"oldest\n"))
    os.utime(oldest, (1, 1))
    write(bench.sink(), b"now\n")
    assert texts(read_logs([source(bench)])) == ["oldest", "older", "newer", "now"]


class Follower:
    """Follows in a thread, as the CLI does in its own process."""

    def __init__(self, sources: list[LogSource], **options) -> None:
        self.lines: list[LogLine] = []
        self.stopped = threading.Event()
        self.looked = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(sources, options))
        self._thread.start()

    def _run(self, sources: list[LogSource], options) -> None:
        def wait(_seconds: float) -> None:
            self.looked.set()
            self.stopped.wait(0.002)

        self.lines.extend(read_logs(sources, follow=True, stop=self.stopped.is_set, wait=wait, **options))

    def finish(self) -> list[LogLine]:
        """Let it look twice more at what is there now, then stop it."""
        for _ in range(2):
            self.looked.clear()
            assert self.looked.wait(30)
        self.stopped.set()
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.lines


@pytest.mark.parametrize("compressing", [False, True])
@pytest.mark.parametrize("start", [0, 1, 777, 3000])
def test_a_follower_started_at_any_time_sees_every_line_once_through_many_rotations(
    bench, start: int, compressing: bool
) -> None:
    sink = bench.sink(max_bytes=2000, max_files=10_000, compress=False)
    write(sink, numbered(0, start))
    follower = Follower([source(bench)])
    assert follower.looked.wait(30)
    pipe = sink.open_pipe(0)
    for number in range(start, 12_000, 40):
        os.write(pipe.child_fd, numbered(number, min(number + 40, 12_000)))
        pipe.drain()
        if compressing and number % 400 < 40:
            for path in bench.files()[:-2]:
                if path.suffix != ".gz":
                    compress(str(path))
    pipe.finish()
    lines = follower.finish()
    assert texts(lines) == numbered(0, 12_000).decode().split()
    assert {line.instance for line in lines} == {0}


def test_a_follower_that_sleeps_through_many_rotations_misses_none(bench) -> None:
    sink = bench.sink(max_bytes=100, max_files=10_000, compress=False)
    write(sink, numbered(0, 5))
    steps = iter(range(5, 2000, 95))
    done = []

    def wait(_seconds: float) -> None:
        step = next(steps, None)
        if step is None:
            done.append(True)
            return
        write(sink, numbered(step, step + 95))
        for path in bench.files()[:-1]:
            if path.suffix != ".gz":
                compress(str(path))

    lines = read_logs([source(bench)], last=2, follow=True, stop=lambda: bool(done), wait=wait)
    assert texts(lines) == numbered(3, 2000).decode().split()


def test_in_the_middle_of_a_rotation_the_follower_waits_and_repeats_nothing(bench) -> None:
    sink = bench.sink(max_bytes=100, max_files=100, compress=False)
    write(sink, numbered(0, 5))
    away = bench.directory / "away"
    done = []

    def steps():
        write(sink, numbered(5, 60))
        for path in bench.files()[:-1]:
            compress(str(path))
        # The new file is at its place already, its index is not.
        bench.index.rename(away)
        bench.index.write_bytes(b"of another file")
        yield
        yield
        away.rename(bench.index)
        yield
        yield
        done.append(True)
        yield

    story = steps()
    lines = list(read_logs([source(bench)], follow=True, stop=lambda: bool(done), wait=lambda _: next(story)))
    assert texts(lines) == numbered(0, 60).decode().split()
    assert {line.instance for line in lines} == {0}


def test_a_compressed_file_that_was_read_is_not_read_again_while_its_successor_is_awaited(bench) -> None:
    sink = bench.sink(max_bytes=100, max_files=100, compress=False)
    write(sink, numbered(0, 5))
    stream = LogStream(str(bench.path), str(bench.index))
    write(sink, numbered(5, 30))
    for path in bench.files()[:-1]:
        compress(str(path))
    polled = stream.poll()
    blocks = [next(polled), next(polled)]
    away = bench.directory / "away"
    bench.index.rename(away)
    bench.index.write_bytes(b"of another file")
    blocks.extend(polled)
    blocks.extend(stream.poll())
    away.rename(bench.index)
    blocks.extend(stream.poll())
    stream.close()
    assert b"".join(block.data for block in blocks) == numbered(5, 30)


def test_following_waits_for_a_log_that_is_not_there_yet(bench) -> None:
    follower = Follower([source(bench)])
    assert follower.looked.wait(30)
    write(bench.sink(), b"first\n")
    assert texts(follower.finish()) == ["first"]


def test_following_goes_on_after_truncation_and_after_logrotate(bench) -> None:
    sink = bench.sink()
    done = []

    def steps():
        write(sink, b"one, rather long\n")
        yield
        os.truncate(bench.path, 0)
        write(sink, b"two\n")
        yield
        bench.path.rename(bench.directory / "web.log.1")
        write(sink, b"three\n")
        sink.reopen()
        write(sink, b"four\n")
        yield
        yield
        done.append(True)
        yield

    story = steps()
    lines = read_logs([source(bench)], follow=True, stop=lambda: bool(done), wait=lambda _: next(story))
    assert texts(lines) == ["one, rather long", "two", "three", "four"]


def test_following_shows_text_without_a_record_after_a_while(bench) -> None:
    sink = bench.sink()
    write(sink, b"known\n")
    with bench.path.open("ab") as file:
        file.write(b"unknown\n")
    seen: list[str] = []
    lines = read_logs([source(bench)], follow=True, stop=lambda: "unknown" in seen, wait=lambda _: None)
    seen.extend(line.text for line in lines)
    assert seen == ["known", "unknown"]


def test_a_follower_in_another_process_keeps_up_with_a_fast_writer_and_its_compressor(bench, tmp_path: Path) -> None:
    bench.run_helpers = True
    sink = bench.sink(max_bytes=1_000_000, max_files=1000)
    script = tmp_path / "follow.py"
    script.write_text(f"""
import sys
from oxherd.system.logs.follow import LogStream
from oxherd.system.logs.reader import LogSource, read_logs
count = 0
for line in read_logs([LogSource(process="web", path={str(bench.path)!r}, index={str(bench.index)!r})], follow=True):
    if count == 0:
        print("ready", flush=True)
    assert int(line.text) == count, (line, count)
    count += 1
    if count == 200_001:
        break
""")
    write(sink, b"%099d\n" % 0)
    follower = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE)
    bench.children.append(follower)
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"ready\n"
    pipe = sink.open_pipe(0)
    code = """
import os
for start in range(1, 200_001, 1000):
    data = b"".join(b"%099d\\n" % number for number in range(start, start + 1000))
    while data:
        data = data[os.write(1, data):]
"""
    bench.child(pipe, code)
    bench.loop.until(lambda: pipe.closed and follower.poll() is not None, timeout=120)
    follower.stdout.close()
    assert follower.returncode == 0

    def idle() -> bool:
        bench.loop.advance(1)
        return not bench.loop.timers

    bench.loop.until(idle, timeout=120)
