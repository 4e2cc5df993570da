"""Ends of children are seen without blocking, and orphans are buried without touching the others."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from oxherd.core.exits import ExitStatus
from oxherd.system import identity, reaper, subreaper, tree

from . import programs
from .conftest import readable, until


@pytest.fixture(params=[True, False], ids=["pidfd", "pid"])
def ended(request, shop):
    """Wait for the end of a launch, with its pidfd or without."""

    def wait(launch):
        readable(launch.pidfd)
        return reaper.exit_of(launch.pid, launch.pidfd if request.param else -1)

    return wait


def test_a_running_child_has_no_exit(shop):
    launch = shop.launch("sleep", "1000")
    assert reaper.exit_of(launch.pid, launch.pidfd) is None
    assert reaper.exit_of(launch.pid, -1) is None


@pytest.mark.parametrize("code", [0, 1, 127, 255])
def test_exit_codes(shop, ended, code):
    status = ended(shop.launch("sh", "-c", f"exit {code}"))
    assert status == ExitStatus(code=code)
    assert status.success == (code == 0)


def test_signals(shop, ended):
    launch = shop.launch("sleep", "1000")
    os.kill(launch.pid, signal.SIGTERM)
    assert ended(launch) == ExitStatus(signal=signal.SIGTERM)


def test_an_exit_is_taken_once_and_then_unknown(shop):
    launch = shop.launch("true")
    shop.ended(launch)
    again = reaper.exit_of(launch.pid, -1)
    assert again is not None
    assert again.unknown


def test_the_child_of_somebody_else_is_seen_to_run_and_to_end(shop):
    """An adopted process: its own parent reaps it, and its exit code is told where the kernel keeps it."""
    program = """
import os
pid = os.fork()
if pid == 0:
    os.read(0, 1)
    import signal; signal.pause()
os.write(1, b"ready %d\\n" % pid)
os.waitpid(pid, 0)
os.write(1, b"reaped\\n")
"""
    parent = shop.launch(*programs.PYTHON, program)
    shop.read_until(b"ready ")
    pid = int(shop.read_until(b"\n"))
    pidfd = os.pidfd_open(pid)
    try:
        assert reaper.exit_of(pid, pidfd) is None
        assert reaper.exit_of(pid, -1) is None
        os.kill(pid, signal.SIGUSR1)
        shop.read_until(b"reaped")
        status = reaper.exit_of(pid, pidfd)
        assert status is not None
        assert status.unknown or status.signal == signal.SIGUSR1
        if tuple(map(int, os.uname().release.split("-")[0].split(".")[:2])) >= (6, 15):
            assert status.signal == signal.SIGUSR1
        gone = reaper.exit_of(pid, -1)
        assert gone is not None
        assert gone.unknown
    finally:
        os.close(pidfd)
    assert shop.ended(parent).success


def test_the_dead_are_shown_one_after_the_other_and_reaped_by_whom_they_concern(shop, orphans_fall_here):
    program = (
        "import os\nif os.fork() == 0:\n    os.write(1, b'ready %d\\n' % os.getpid())\n"
        "    os.read(FD, 1)\n    os._exit(5)"
    )
    read_fd, write_fd = os.pipe()
    main = shop.launch(*programs.PYTHON, program.replace("FD", str(read_fd)), pass_fds=(read_fd,))
    os.close(read_fd)
    shop.read_until(b"ready ")
    orphan = int(shop.read_until(b"\n"))
    readable(main.pidfd)
    assert reaper.next_dead() == main.pid
    assert reaper.next_dead() == main.pid
    assert reaper.exit_of(main.pid, main.pidfd) == ExitStatus(code=0)
    until(lambda: orphan in tree.children(os.getpid()))
    assert reaper.next_dead() is None
    os.close(write_fd)
    until(lambda: reaper.next_dead() == orphan)
    assert reaper.exit_of(orphan, -1) == ExitStatus(code=5)
    assert reaper.next_dead() is None


def test_where_python_has_no_waitid_each_child_is_asked_by_itself(shop, monkeypatch):
    monkeypatch.delattr(os, "waitid")
    launch = shop.launch("sleep", "1000")
    assert reaper.exit_of(launch.pid, -1) is None
    os.kill(launch.pid, signal.SIGTERM)
    assert shop.ended(launch) == ExitStatus(signal=signal.SIGTERM)
    failed = shop.launch("sh", "-c", "exit 3")
    readable(failed.pidfd)
    assert reaper.next_dead() is None
    assert reaper.exit_of(failed.pid, -1) == ExitStatus(code=3)
    again = reaper.exit_of(failed.pid, -1)
    assert again is not None
    assert again.unknown


def test_without_children_nobody_is_dead():
    assert reaper.next_dead() is None


def test_a_subreaper_stays_one_over_an_exec_and_gets_the_orphans(shop):
    package = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(subreaper.__file__))))
    second = f"""
import os, sys
sys.path.insert(0, {package!r})
from oxherd.system.subreaper import is_subreaper
assert is_subreaper()
assert "asyncio" not in sys.modules
if os.fork() == 0:
    if os.fork() == 0:
        os.read(0, 1)
        while os.getppid() != int(sys.argv[1]):
            os.sched_yield()
        os._exit(7)
    os._exit(0)
print(sorted(os.waitstatus_to_exitcode(os.wait()[1]) for _ in range(2)))
"""
    first = f"""
import os, sys
sys.path.insert(0, {package!r})
from oxherd.system.subreaper import become_subreaper, is_subreaper
assert not is_subreaper()
assert become_subreaper()
os.execv(sys.executable, [sys.executable, "-c", {second!r}, str(os.getpid())])
"""
    assert shop.run(sys.executable, "-c", first) == (ExitStatus(code=0), "[0, 7]\n")


def test_handlers_of_a_process_are_seen(shop):
    program = f"import os, signal; signal.signal(signal.SIGHUP, print); os.write(1, b'ready 1\\n'); {programs.SLEEP}"
    launch = shop.launch(*programs.PYTHON, program)
    shop.read_until(b"ready 1")
    assert identity.catches(launch.pid, signal.SIGHUP)
    assert not identity.catches(launch.pid, signal.SIGTERM)
    assert not identity.catches(2**22 + 1, signal.SIGTERM)
