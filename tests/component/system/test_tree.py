"""What a program started is found and killed, however it tries to get away; strangers are never hit."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oxherd.system import identity, tree
from oxherd.system.identity import Identity, identity_of, mark_of, read_stat, start_ticks
from oxherd.system.machine import Machine

from . import programs
from .conftest import DEADLINE, readable, reap_all_but, until

# Another run of these tests beside this one must not find its orphans.
MARK = f"{os.getpid():012x}/web/0/1"


def marked(**more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "OXHERD_MARK": MARK, **more}


def ready(shop) -> list[int]:
    """Return the pids a program announced."""
    shop.read_until(b"ready ")
    return [int(pid) for pid in shop.read_until(b"\n").split()]


def orphans(shop, launch, known=()) -> list[int]:
    return tree.orphans_of(MARK, launch.pid, os.getpid(), known, {shop.inode})


ESCAPES = {
    "double fork": programs.DOUBLE_FORK,
    "setsid": programs.SETSID,
    "setsid and double fork, output closed": programs.DAEMON,
    "empty environment and setsid, holding the log pipe": programs.NAMELESS,
    "empty environment, output closed, in its session": programs.SILENT,
    "with children of its own": programs.FAMILY,
}


@pytest.mark.parametrize("program", ESCAPES.values(), ids=ESCAPES)
def test_what_outlives_its_main_process_is_found_killed_and_reaped(shop, orphans_fall_here, program):
    launch = shop.launch(*programs.PYTHON, program, env=marked())
    escaped = ready(shop)
    assert shop.ended(launch).success
    until(lambda: sorted(orphans(shop, launch)) == sorted(escaped))
    assert tree.kill_all(orphans(shop, launch), signal.SIGKILL) == len(escaped)
    until(lambda: not orphans(shop, launch))
    until(lambda: reap_all_but(()) == [] and all(read_stat(pid) is None for pid in escaped))


def test_an_orphan_beside_a_living_main_process_is_found(shop, orphans_fall_here):
    launch = shop.launch(*programs.PYTHON, programs.DOUBLE_FORK + programs.SLEEP, env=marked())
    (escaped,) = ready(shop)
    until(lambda: orphans(shop, launch, {launch.pid}) == [escaped])


def test_what_belongs_to_others_is_left_alone(shop, orphans_fall_here):
    """Another incarnation's orphan, a child nobody marked, and the main processes themselves are no leftovers."""
    other = shop.launch(*programs.PYTHON, programs.DAEMON, env={**marked(), "OXHERD_MARK": f"{MARK}0"})
    ready(shop)
    shop.ended(other)
    unmarked = shop.launch("sleep", "1000", stdout=2, stderr=2)
    mine = shop.launch(*programs.PYTHON, f"import os; os.write(1, b'ready 1\\n'); {programs.SLEEP}", env=marked())
    ready(shop)
    assert orphans(shop, mine, {unmarked.pid, mine.pid}) == []
    assert tree.orphans_of(MARK, mine.pid, os.getpid(), {mine.pid}, ()) == []


def test_a_reused_main_pid_does_not_claim_another_programs_session(shop, orphans_fall_here):
    """The old main pid is a main process of somebody else now; its unmarked orphans are not leftovers of the old one."""
    other = shop.launch(*programs.PYTHON, programs.SILENT + programs.SLEEP, env={**marked(), "OXHERD_MARK": "x/y/0/9"})
    (escaped,) = ready(shop)
    until(lambda: escaped in tree.children(os.getpid()))
    assert tree.orphans_of(MARK, other.pid, os.getpid(), {other.pid}, ()) == []
    assert tree.orphans_of("x/y/0/9", other.pid, os.getpid(), {other.pid}, ()) == [escaped]


def test_a_dead_orphan_is_no_leftover_but_its_living_children_are(shop, orphans_fall_here):
    launch = shop.launch(*programs.PYTHON, programs.FAMILY, env=marked())
    parent, *below = ready(shop)
    shop.ended(launch)
    until(lambda: len(orphans(shop, launch)) == 3)
    os.kill(parent, signal.SIGKILL)
    until(lambda: sorted(orphans(shop, launch)) == sorted(below))


def test_descendants_are_found_to_any_depth_and_parents_come_first(shop):
    program = """
import os, signal
for _ in range(4):
    os.write(1, b"ready %d\\n" % os.getpid())
    if os.fork():
        signal.pause()
os.write(1, b"ready %d\\n" % os.getpid())
signal.pause()
"""
    launch = shop.launch(*programs.PYTHON, program)
    (main,) = ready(shop)
    chain = [pid for _ in range(4) for pid in ready(shop)]
    assert main == launch.pid
    assert tree.descendants(main) == chain
    assert tree.children(main) == chain[:1]
    table = tree.ProcessTable.around([main])
    assert table.descendants(main) == chain
    assert [stat.pid for stat in table.members(main)] == [main, *chain]
    assert table.descendants(main, beside={chain[1]}) == chain[:1]


def test_of_a_process_that_is_not_there_nothing_descends():
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert tree.children(gone.pid) == tree.descendants(gone.pid) == []
    assert tree.ProcessTable.around([gone.pid]).members(gone.pid) == []


def test_a_table_without_the_kernels_list_of_children_says_the_same(shop, monkeypatch):
    launch = shop.launch(*programs.PYTHON, programs.SETSID + programs.SLEEP)
    (child,) = ready(shop)
    monkeypatch.setattr(tree, "_listed_children", lambda _pid: None)
    assert tree.ProcessTable.around([launch.pid]).descendants(launch.pid) == tree.descendants(launch.pid) == [child]
    assert tree.children(launch.pid) == [child]


def test_the_kernels_list_of_children_is_read_thread_by_thread(shop, monkeypatch, tmp_path):
    """A stand-in for the files of CONFIG_PROC_CHILDREN, which this kernel may lack."""
    launch = shop.launch(*programs.PYTHON, programs.SETSID + programs.SLEEP)
    (child,) = ready(shop)
    listed = {launch.pid: b"%d " % child}

    def read(path: str, *, insist: bool = False) -> bytes | None:
        *_, pid, _task, _thread, name = path.split("/")
        return listed.get(int(pid), b"") if name == "children" else None

    monkeypatch.setattr(tree, "read_file", read)
    table = tree.ProcessTable.around([launch.pid])
    assert sorted(table.processes) == sorted([launch.pid, child])
    assert tree.children(launch.pid) == [child]


# -- signals -----------------------------------------------------------------------------------------------------------


def test_a_process_whose_number_was_given_to_another_is_not_signalled(shop):
    launch = shop.launch("sleep", "1000")
    stranger = Identity(launch.pid, start_ticks(launch.pid) - 1)
    assert not stranger.holds
    assert tree.kill_all([stranger], signal.SIGKILL, groups=True) == 0
    right = identity_of(launch.pid)
    assert right is not None
    assert right.holds
    assert tree.kill_all([right], signal.SIGKILL) == 1
    assert shop.ended(launch).signal == signal.SIGKILL


def test_processes_that_are_gone_are_passed_over(shop):
    gone = subprocess.Popen(["true"])
    gone.wait()
    launch = shop.launch("sleep", "1000")
    assert tree.kill_all([gone.pid, Identity(gone.pid, 1), launch.pid], signal.SIGTERM) == 1
    assert shop.ended(launch).signal == signal.SIGTERM
    assert not tree.send(gone.pid, -1, signal.SIGTERM)
    assert not tree.send(launch.pid, launch.pidfd, signal.SIGTERM)


def test_one_process_is_signalled_by_pidfd_and_by_number(shop):
    for use_pidfd in (True, False):
        launch = shop.launch("sleep", "1000")
        assert tree.send(launch.pid, launch.pidfd if use_pidfd else -1, signal.SIGINT)
        assert shop.ended(launch).signal == signal.SIGINT


def test_a_group_is_killed_with_its_member_and_the_supervisors_own_is_spared(shop):
    launch = shop.launch(*programs.PYTHON, programs.DOUBLE_FORK + programs.SLEEP)
    (escaped,) = ready(shop)
    bystander = subprocess.Popen(["sleep", "1000"])  # in the group of this process
    try:
        assert tree.kill_all([bystander.pid], signal.SIGTERM, groups=True) == 1
        assert bystander.wait() == -signal.SIGTERM
        assert tree.kill_all([launch.pid], signal.SIGKILL, groups=True) == 1
        until(lambda: (stat := read_stat(escaped)) is None or not stat.living)
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("program", [programs.RUNNER, programs.SPREADER], ids=["runs away", "spreads"])
def test_a_program_that_forks_while_it_is_killed_is_gone_in_the_end(shop, orphans_fall_here, program):
    launch = shop.launch(*programs.PYTHON, program, env=marked())
    ready(shop)

    def find() -> list[int]:
        living = read_stat(launch.pid)
        main = [launch.pid] if living is not None and living.living else []
        return [*main, *tree.descendants(launch.pid), *orphans(shop, launch)]

    def over() -> bool:
        tree.exterminate(find)
        reap_all_but({launch.pid})
        return not find()

    until(over)
    assert shop.ended(launch) is not None
    until(lambda: reap_all_but(()) == [] and not tree.descendants(os.getpid()))


def test_the_looks_of_an_extermination_are_counted():
    looks = []

    def find() -> list[int]:
        newborn = subprocess.Popen(["sleep", "1000"])
        looks.append(newborn)
        return [newborn.pid]

    assert tree.exterminate(find, rounds=3) == [looks[-1].pid]
    assert [popen.wait() for popen in looks] == [-signal.SIGKILL] * 3


# -- identity ----------------------------------------------------------------------------------------------------------


def test_a_mark_is_read_wherever_it_stands_in_the_environment(shop):
    for environ in ({"OXHERD_MARK": "a/b/0/1", "Z": "1"}, {"A": "1", "OXHERD_MARK": "a/b/0/1"}):
        launch = shop.launch("/usr/bin/sleep", "1000", env=environ)
        assert mark_of(launch.pid) == "a/b/0/1"
    near = shop.launch("/usr/bin/sleep", "1000", env={"NOT_OXHERD_MARK": "no", "X": "OXHERD_MARK=no"})
    assert mark_of(near.pid) is None
    empty = shop.launch("/usr/bin/sleep", "1000", env={})
    assert mark_of(empty.pid) is None
    assert mark_of(2**22 + 1) is None


def test_a_process_in_the_middle_of_an_exec_is_looked_at_again(monkeypatch):
    """It has no environment and no command line then, and would be taken for one that nobody marked."""
    looks = iter([b"", b"", b"A=1\0OXHERD_MARK=a/b/0/1\0"])
    monkeypatch.setattr(identity, "_EXEC_SECONDS", DEADLINE)
    files = {"environ": lambda: next(looks), "cmdline": lambda: b"", "statm": lambda: b"230 9 0 1 0 12 0\n"}
    monkeypatch.setattr(identity, "read_file", lambda path, insist: files[path.rsplit("/", 1)[1]]())
    assert mark_of(1) == "a/b/0/1"


def test_the_dead_and_the_kernels_threads_are_not_waited_for(monkeypatch):
    """They have no environment and no command line for good: they have no memory."""
    asked = []

    def read(path, *, insist=False):
        asked.append(path.rsplit("/", 1)[1])
        return b"0 0 0 0 0 0 0\n" if path.endswith("statm") else b""

    monkeypatch.setattr(identity, "read_file", read)
    assert mark_of(1) is None
    assert asked == ["environ", "cmdline", "statm"]


def test_names_with_spaces_and_brackets_do_not_confuse_the_kernels_line(shop, tmp_path):
    odd = tmp_path / "a) R 1 (b"
    odd.symlink_to("/usr/bin/sleep")
    launch = shop.launch(str(odd), "1000")
    stat = read_stat(launch.pid)
    assert stat is not None
    assert (stat.ppid, stat.session, stat.pgrp) == (os.getpid(), launch.pid, launch.pid)
    assert stat.living


def test_a_process_whose_first_thread_ended_still_lives(shop):
    program = (
        "import threading, time, os, ctypes, signal\n"
        "threading.Thread(target=lambda: (os.write(1, b'ready 1\\n'), time.sleep(1000))).start()\n"
        "ctypes.CDLL(None).pthread_exit(None)"
    )
    launch = shop.launch(sys.executable, "-c", program)
    ready(shop)
    until(lambda: Path(f"/proc/{launch.pid}/stat").read_text().split(") ")[1][0] == "Z")
    stat = read_stat(launch.pid)
    assert stat is not None
    assert stat.living
    os.kill(launch.pid, signal.SIGKILL)
    readable(launch.pidfd)
    dead = read_stat(launch.pid)
    assert dead is not None
    assert not dead.living


# -- what an earlier supervisor had started ---------------------------------------------------------------------------

# Starts a program as a supervisor does, in a session of its own, says its pid, and waits to be killed.
EARLIER = """
import os, signal, subprocess, sys
program = subprocess.Popen([sys.executable, "-I", "-S", "-c", sys.argv[1]], start_new_session=True)
os.write(1, b"main %d\\n" % program.pid)
signal.pause()
"""


@pytest.fixture
def abandoned(shop):
    """Return a way to start a program whose supervisor is dead: its main pid. Whatever carries the mark is killed."""

    def start(program: str, **env: str) -> int:
        launch = shop.launch(*programs.PYTHON, EARLIER, program, env=marked(**env))
        shop.read_until(b"main ")
        main = int(shop.read_until(b"\n"))
        os.kill(launch.pid, signal.SIGKILL)
        shop.ended(launch)
        return main

    yield start
    tree.exterminate(lambda: tree.strays_of(MARK, 0, (), {shop.inode}))


def strays(shop, main: int = 0, known=()) -> list[int]:
    return tree.strays_of(MARK, main, known, {shop.inode})


@pytest.mark.parametrize("program", ESCAPES.values(), ids=ESCAPES)
def test_what_an_orphan_left_behind_is_found_wherever_it_fell(shop, abandoned, program):
    main = abandoned(program + programs.SLEEP)
    escaped = ready(shop)
    until(lambda: read_stat(main).ppid != os.getpid())
    os.kill(main, signal.SIGKILL)
    until(lambda: not (stat := read_stat(main)) or not stat.living)
    until(lambda: sorted(strays(shop, main)) == sorted(escaped))
    assert tree.orphans_of(MARK, main, os.getpid(), (), {shop.inode}) == []
    assert tree.kill_all(strays(shop, main), signal.SIGKILL) == len(escaped)
    until(lambda: not strays(shop, main))


def test_an_orphan_that_lives_is_found_with_everything_below_it(shop, abandoned):
    main = abandoned(programs.SETSID + programs.SLEEP)
    (child,) = ready(shop)
    assert sorted(strays(shop, main)) == sorted([main, child])
    assert strays(shop, main, known={main}) == [child]
    assert strays(shop, main, known={main, child}) == []
    os.kill(main, signal.SIGKILL)
    os.kill(child, signal.SIGKILL)
    until(lambda: not strays(shop, main))


def test_strangers_are_no_strays(shop, abandoned):
    """Another incarnation, a program without a mark, this process itself although it holds the pipe."""
    other = shop.launch(*programs.PYTHON, f"import os; os.write(1, b'ready 1\\n'); {programs.SLEEP}",
                        env={**marked(), "OXHERD_MARK": f"{MARK}0"})  # fmt: skip
    ready(shop)
    unmarked = shop.launch("sleep", "1000", stdout=2, stderr=2)
    assert strays(shop, 0) == []
    assert strays(shop, 0, known={other.pid, unmarked.pid}) == []


def test_the_session_of_a_stranger_who_has_the_number_now_is_not_touched(shop):
    """A main process died unseen and its number was given away: to the leader of a session of unmarked processes."""
    stranger = subprocess.Popen(
        [*programs.PYTHON, "import os; os.fork(); os.write(1, b'.'); import signal; signal.pause()"],
        start_new_session=True, env={}, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert stranger.stdout.read(1) + stranger.stdout.read(1) == b".."
        (child,) = tree.children(stranger.pid)
        assert read_stat(child).session == stranger.pid
        assert tree.strays_of(MARK, stranger.pid, ()) == []
        assert tree.strays_of(MARK, stranger.pid, {stranger.pid}) == []
    finally:
        for pid in (*tree.children(stranger.pid), stranger.pid):
            os.kill(pid, signal.SIGKILL)
        stranger.wait()
        stranger.stdout.close()


@contextlib.contextmanager
def no_descriptors():
    """Leave this process without a single descriptor to open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    fillers = [os.open("/dev/null", os.O_RDONLY) for _ in range(highest + 1)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(fillers) + 1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in fillers:
            os.close(fd)


@pytest.fixture
def machine():
    """One whose descriptors are given back, whoever still holds it: a traceback does."""
    machine = Machine()
    yield machine
    machine.close()


def test_who_cannot_be_looked_for_is_not_said_to_be_gone(shop, machine, orphans_fall_here):
    """Without descriptors there is nothing to be seen of /proc: an error, never an empty answer."""
    launch = shop.launch(*programs.PYTHON, programs.DAEMON, env=marked())
    (escaped,) = ready(shop)
    shop.ended(launch)
    until(lambda: orphans(shop, launch) == [escaped])
    with no_descriptors():
        for look in (
            tree.ProcessTable.scan,
            lambda: tree.children(os.getpid()),
            lambda: tree.descendants(os.getpid()),
            lambda: machine.survey(()),
            lambda: machine.leftovers(MARK, launch.pid, (), ()),
            lambda: machine.sample(os.getpid()),
            lambda: mark_of(escaped, insist=True),
            lambda: identity.pids(insist=True),
            lambda: tree.kill_all([escaped], signal.SIGKILL),
        ):
            with pytest.raises(OSError, match="Too many open files"):
                look()
        trouble = machine.kill_all([escaped], signal.SIGKILL)
        assert trouble is not None
        assert trouble.errno == errno.EMFILE
        assert machine.start_ticks(escaped) == 0
        assert not machine.catches(escaped, signal.SIGTERM)
    assert orphans(shop, launch) == [escaped]
    assert machine.kill_all([escaped], signal.SIGKILL) is None
    until(lambda: not orphans(shop, launch))


def test_who_may_not_be_signalled_is_told_and_the_others_have_it(shop, monkeypatch):
    """A program that became another user (sudo) is out of reach; that keeps nobody else alive."""
    first = shop.launch("sleep", "1000")
    second = shop.launch("sleep", "1000")
    send = signal.pidfd_send_signal

    def refused(pidfd, signum):
        info = Path(f"/proc/self/fdinfo/{pidfd}").read_text()
        if f"Pid:\t{first.pid}\n" in info:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        send(pidfd, signum)

    monkeypatch.setattr(signal, "pidfd_send_signal", refused)
    with pytest.raises(PermissionError):
        tree.send(first.pid, first.pidfd, signal.SIGKILL)
    with pytest.raises(PermissionError):
        tree.kill_all([first.pid, second.pid], signal.SIGKILL)
    monkeypatch.undo()
    assert shop.ended(second).signal == signal.SIGKILL
    assert tree.kill_all([first.pid], signal.SIGKILL) == 1
