"""What is kept on the disk, and who may keep it: torn lines, garbage, one lock for one state, remains that wait."""

from __future__ import annotations

import errno
import json
import os
import signal
from types import SimpleNamespace

import pytest

from oxherd.control.paths import Home
from oxherd.core.exits import ExitStatus
from oxherd.daemon import main
from oxherd.daemon.children import Children
from oxherd.daemon.eventlog import EventLog
from oxherd.daemon.options import Options
from oxherd.daemon.remains import LOOK_AGAIN, end_remains, kill_branch
from oxherd.errors import OperationError
from oxherd.system.identity import lock_holder
from support.fake_loop import FakeLoop

NO_DESCRIPTORS = OSError(errno.EMFILE, os.strerror(errno.EMFILE))


# -- events ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return tmp_path / "events.jsonl"


def kinds(path):
    """What another supervisor finds there."""
    log = EventLog(str(path), lambda: 0.0)
    return [event["kind"] for event in log.last(100)]


@pytest.mark.parametrize("room", [0, 1, 20])
def test_a_torn_event_takes_no_other_with_it(path, monkeypatch, room):
    """A disk that is full in the middle of a line: the next event begins a line of its own."""
    log = EventLog(str(path), lambda: 0.0)
    log.publish("before", "x")
    write = os.write

    def full(fd, data):
        if room:
            return write(fd, data[:room])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("oxherd.daemon.eventlog.os.write", full)
    log.publish("torn", "x" * 100)
    assert log.write_error == "No space left on device"
    monkeypatch.undo()
    log.publish("after", "x")
    log.publish("later", "x")
    assert log.write_error == ""
    log.close()
    assert kinds(path) == ["before", "after", "later"]
    assert [event["kind"] for event in log.last(10)] == ["before", "torn", "after", "later"]


def test_the_events_of_before_are_found_where_rotation_has_put_them(path, monkeypatch):
    first = EventLog(str(path), lambda: 0.0)
    for number in range(3):
        first.publish(f"old {number}", "x")
    first.close()
    log = EventLog(str(path), lambda: 0.0)
    monkeypatch.setattr("oxherd.daemon.eventlog._FILE_MAX", 1)
    log.publish("new", "x")
    monkeypatch.undo()
    log.publish("newer", "x")
    assert path.with_name("events.jsonl.1").exists()
    assert [event["kind"] for event in log.last(100)] == ["old 0", "old 1", "old 2", "new", "newer"]
    assert [event["kind"] for event in log.last(3)] == ["old 2", "new", "newer"]
    log.close()


def test_no_more_than_a_thousand_events_are_shown(path):
    first = EventLog(str(path), lambda: 0.0)
    for _ in range(30):
        first.publish("old", "x")
    first.close()
    log = EventLog(str(path), lambda: 0.0)
    for _ in range(990):
        log.publish("new", "x")
    assert [event["kind"] for event in log.last(5000)] == ["old"] * 10 + ["new"] * 990
    for _ in range(20):
        log.publish("new", "x")
    assert [event["kind"] for event in log.last(5000)] == ["new"] * 1000
    log.close()


def test_an_event_that_a_crash_has_torn_takes_no_other_with_it(path):
    path.write_bytes(json.dumps({"kind": "old"}).encode() + b'\n{"kind": "to')
    log = EventLog(str(path), lambda: 0.0)
    log.publish("new", "x")
    log.close()
    assert kinds(path) == ["old", "new"]


def test_lines_that_are_anything_but_events_are_skipped(path):
    path.write_bytes(b"\xff\x00\n[1]\nnull\n" + b"[" * 50_000 + b"\n" + json.dumps({"kind": "one"}).encode() + b"\n")
    assert kinds(path) == ["one"]


# -- the lock -------------------------------------------------------------------------------------------------------


@pytest.fixture
def hangups(monkeypatch):
    """Who was told by SIGHUP to listen again."""
    told = []
    before = signal.getsignal(signal.SIGHUP)
    monkeypatch.setattr("oxherd.daemon.main.os.kill", lambda pid, signum: told.append((pid, signum)))
    yield told
    signal.signal(signal.SIGHUP, before)


def home(tmp_path, runtime="run"):
    made = Home(runtime=str(tmp_path / runtime), state=str(tmp_path / "state"))
    made.prepare()
    return made


def test_one_state_has_one_supervisor_whatever_becomes_of_its_runtime_directory(tmp_path, hangups):
    """The second one asks the first to listen again, where nobody finds it any more, and gives up."""
    first = main._lock(home(tmp_path), Options())
    assert lock_holder(first) == os.getpid()
    with pytest.raises(OperationError) as raised:
        main._lock(home(tmp_path), Options())
    assert raised.value.code == "OX430"
    assert hangups == [(os.getpid(), signal.SIGHUP)]
    os.close(first)
    os.close(main._lock(home(tmp_path), Options()))


def test_one_that_can_be_reached_is_left_alone(tmp_path, hangups):
    first = main._lock(home(tmp_path), Options())
    with open(home(tmp_path).socket, "w"):
        pass
    with pytest.raises(OperationError):
        main._lock(home(tmp_path), Options())
    assert hangups == []
    os.close(first)


def test_another_runtime_directory_of_the_same_state_is_told_where_the_supervisor_listens(tmp_path, hangups):
    """A login with XDG_RUNTIME_DIR and a cron job without: two directories, one state, one supervisor."""
    first = main._lock(home(tmp_path), Options())
    with pytest.raises(OperationError) as raised:
        main._lock(home(tmp_path, "elsewhere"), Options())
    assert raised.value.code == "OX435"
    assert str(tmp_path / "run") in raised.value.message
    assert hangups == []
    os.close(first)


def test_a_lock_that_cannot_be_written_to_is_a_lock(tmp_path, hangups, monkeypatch):
    def full(_fd, _data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("oxherd.daemon.main.os.write", full)
    first = main._lock(home(tmp_path), Options())
    with pytest.raises(OperationError):
        main._lock(home(tmp_path), Options())
    os.close(first)


def test_a_file_nobody_has_locked_has_no_holder(tmp_path):
    with (tmp_path / "lock").open("w") as file:
        assert lock_holder(file.fileno()) == 0


def test_events_of_one_turn_are_one_write_and_many_are_several(path, monkeypatch):
    ends, writes = [], []
    log = EventLog(str(path), lambda: 0.0, ends.append)
    write = os.write

    def counted(fd, data):
        writes.append(data.count(b"\n"))
        return write(fd, data)

    monkeypatch.setattr("oxherd.daemon.eventlog.os.write", counted)
    for _ in range(3):
        log.publish("few", "x")
    assert writes == []
    for end in ends:
        end()
    assert writes == [3]
    for number in range(200):
        log.publish(str(number), "x")
    log.close()
    assert max(writes) <= 64
    assert sum(writes) == 203
    assert kinds(path) == [str(number) for number in range(100, 200)]


# -- remains --------------------------------------------------------------------------------------------------------


class Machine:
    """A machine that cannot look for a while, and then finds one process."""

    def __init__(self, *refusals):
        self.refusals = list(refusals)
        self.killed = []
        self.unreachable = None

    def _refuse(self):
        if self.refusals:
            raise self.refusals.pop(0)

    def leftovers(self, _mark, _pid, _known, _pipes):
        self._refuse()
        return [77]

    def tree(self, _pid):
        self._refuse()
        return [78]

    def kill_all(self, pids, signum):
        if self.unreachable is not None:
            error, self.unreachable = self.unreachable, None
            return error
        self.killed += [(pid, signum) for pid in pids]
        return None

    def signal(self, pid, _pidfd, signum):
        self._refuse()
        self.killed.append((pid, signum))
        return True

    def next_dead(self):
        return None


@pytest.fixture
def loop():
    made = FakeLoop()
    yield made
    assert made.timers == 0
    made.close()


def test_remains_are_looked_for_until_that_can_be_done(loop):
    machine, told = Machine(NO_DESCRIPTORS, NO_DESCRIPTORS), []
    children = Children(loop, machine, lambda: None, told.append)
    end_remains(loop, machine, children, mark="a/b/0/1", main_pid=5)
    loop.advance(LOOK_AGAIN)
    assert machine.killed == []
    assert told == ["cannot end what a/b/0/1 has left behind: Too many open files; trying again"]
    loop.advance(LOOK_AGAIN)
    assert machine.killed == [(77, 9)]


def test_remains_that_are_out_of_reach_are_tried_again(loop):
    machine = Machine()
    machine.unreachable = PermissionError(errno.EPERM, os.strerror(errno.EPERM))
    end_remains(loop, machine, Children(loop, machine, lambda: None), mark="a/b/0/1", main_pid=5)
    assert machine.killed == []
    loop.advance(LOOK_AGAIN)
    assert machine.killed == [(77, 9)]


@pytest.mark.parametrize(
    ("refusals", "killed"),
    [((), [(78, 9), (5, 9)]), ((NO_DESCRIPTORS,), [(5, 9)]), ((NO_DESCRIPTORS, NO_DESCRIPTORS), [])],
)
def test_a_branch_is_killed_as_far_as_it_can_be_reached(loop, refusals, killed):
    machine, told = Machine(*refusals), []
    kill_branch(machine, Children(loop, machine, lambda: None, told.append), 5, -1)
    assert machine.killed == killed
    assert len(told) == len(refusals)


# -- children -------------------------------------------------------------------------------------------------------


def test_an_end_the_kernel_will_not_tell_does_not_spin(loop):
    """Its pidfd stays readable; it is left alone for a second, and then asked again."""
    read, write = os.pipe()
    answers = [OSError(errno.EINVAL, os.strerror(errno.EINVAL))] * 2
    asked, ended, told = [], [], []

    def exit_of(pid, _pidfd):
        asked.append(pid)
        if answers:
            raise answers.pop()
        return ExitStatus(code=3)

    machine = SimpleNamespace(exit_of=exit_of, next_dead=lambda: None)
    children = Children(loop, machine, lambda: None, told.append)
    children.adopt(SimpleNamespace(pid=5, pidfd=read), ended.append)
    os.write(write, b"x")
    for _ in range(20):
        loop.advance(0)
    assert asked == [5]
    assert told == ["cannot ask who has ended: Invalid argument; asking again"]
    for _ in range(3):
        loop.advance(LOOK_AGAIN)
    assert ended == [ExitStatus(code=3)]
    os.close(write)


def test_a_child_there_is_no_room_for_in_the_epoll_is_watched_when_there_is(loop, monkeypatch):
    read, write = os.pipe()
    ended = []
    machine = SimpleNamespace(exit_of=lambda _pid, _pidfd: ExitStatus(code=0), next_dead=lambda: None)
    children = Children(loop, machine, lambda: None)
    watch, room = loop.watch_read, []

    def crowded(fd, callback):
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        watch(fd, callback)

    monkeypatch.setattr(loop, "watch_read", crowded)
    children.adopt(SimpleNamespace(pid=5, pidfd=read), ended.append)
    os.write(write, b"x")
    loop.advance(LOOK_AGAIN)
    assert ended == []
    room.append(True)
    loop.advance(2 * LOOK_AGAIN)
    assert ended == [ExitStatus(code=0)]
    os.close(write)
