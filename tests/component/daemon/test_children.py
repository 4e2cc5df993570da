"""Children of a zygote: their parent reaps them, and what it tells is how they ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

import pytest

from oxherd.core.exits import ExitStatus
from oxherd.daemon.children import Children
from oxherd.system.loop import Loop
from oxherd.system.machine import Machine
from oxherd.system.spawn import Launch
from support.fake_loop import FakeLoop
from support.waiting import DEADLINE, wait_gone

# Forks a child that waits, says its pid, and reaps it when it is told to.
PARENT = """
import os, signal, sys
pid = os.fork()
if not pid:
    signal.pause()
print(pid, flush=True)
sys.stdin.readline()
print(os.waitpid(pid, 0)[1], flush=True)
sys.stdin.readline()
"""


class Family:
    """A parent with one child, and the registry that has been told of the child."""

    def __init__(self):
        self.errors, self.ended = [], []
        self.loop = Loop(self.errors.append)
        self.children = Children(self.loop, Machine(), lambda: None)
        self.parent = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = int(self.parent.stdout.readline())
        launch = Launch(self.pid, os.pidfd_open(self.pid))
        self.pidfd = os.dup(launch.pidfd)
        self.child = self.children.adopt(launch, self.ended.append, foreign=self.parent.pid)

    def reap(self):
        """Let the parent reap its child; returns the wait status."""
        self.parent.stdin.write("\n")
        self.parent.stdin.flush()
        return int(self.parent.stdout.readline())

    def turn_until(self, condition):
        end = self.loop.now() + DEADLINE
        while not condition():
            assert self.loop.now() < end
            self.loop.run_once(0.05)
        assert self.errors == []

    def close(self):
        # Also where no test has: a child that waits for a signal would outlive the whole run.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        os.close(self.pidfd)
        self.parent.kill()
        self.parent.wait()
        for stream in (self.parent.stdin, self.parent.stdout):
            stream.close()
        self.loop.close()


@pytest.fixture
def family():
    made = Family()
    yield made
    made.close()


def test_the_end_of_a_foreign_child_is_what_its_parent_tells(family):
    os.kill(family.pid, signal.SIGKILL)
    # The pidfd tells that it is dead; how, only its parent can say, which has not looked yet.
    family.turn_until(lambda: family.child.pidfd not in family.loop.watched)
    assert family.ended == []
    family.children.told(family.pid, family.reap(), family.parent.pid)
    assert family.ended == [ExitStatus(signal=signal.SIGKILL)]
    assert family.pid not in family.children.pids


def test_what_is_told_first_is_not_told_again_by_the_pidfd(family):
    os.kill(family.pid, signal.SIGTERM)
    status = family.reap()
    family.children.told(family.pid, status, family.parent.pid)
    assert family.ended == [ExitStatus(signal=signal.SIGTERM)]
    family.loop.run_once(0)
    family.children.told(family.pid, 0, family.parent.pid)
    assert len(family.ended) == 1
    wait_gone(family.pid)


def test_a_child_nobody_tells_of_is_not_waited_for_for_ever(family):
    """Its parent was stopped, or has forgotten it: the end counts, how it came is unknown."""
    os.kill(family.pid, signal.SIGKILL)
    family.turn_until(lambda: family.ended)
    assert family.ended == [ExitStatus()]


def test_nobody_else_is_told_of(family):
    family.children.told(os.getpid(), 0, family.parent.pid)
    assert family.ended == []


def test_only_its_own_parent_is_believed(family):
    """A zygote runs an app's code: what it says of another stack's workers is nothing."""
    family.children.told(family.pid, 0, family.parent.pid + 1)
    family.children.told(family.pid, 0, 0)
    assert family.ended == []


# -- strangers: an earlier supervisor had started them ----------------------------------------------------------------


class Kernel:
    """A machine whose kernel tells how a stranger ended, or does not, as the test says."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.asked = 0

    def exit_of(self, _pid, _pidfd):
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    def next_dead(self):
        return None


@pytest.fixture
def stranger():
    """Return a way to let a stranger end under a kernel: what is told of it, how often was asked, seconds until then."""
    made = []

    def ends(*answers):
        loop, kernel, ended = FakeLoop(), Kernel(answers), []
        children = Children(loop, kernel, lambda: None)
        pidfd = os.eventfd(1, os.EFD_NONBLOCK)  # readable, as that of a dead process is
        child = children.adopt(Launch(4242, pidfd), ended.append, stranger=True)
        made.append((loop, children))
        began = loop.now()
        loop.advance(0)
        while not ended and loop.next_timer_in() is not None:
            loop.advance(loop.next_timer_in())
        assert children.pids == set()
        assert child.pidfd == -1
        return ended, kernel.asked, loop.now() - began

    yield ends
    for loop, _ in made:
        assert loop.timers == 0
        loop.close()


def test_what_the_kernel_tells_at_once_is_taken(stranger):
    ended, asked, waited = stranger(ExitStatus(code=3))
    assert (ended, asked, waited) == ([ExitStatus(code=3)], 1, 0)


def test_a_stranger_whose_parent_has_not_reaped_it_yet_is_asked_again(stranger):
    """Until it is reaped the kernel says nothing of a process that is not one's own child."""
    unknown = ExitStatus()
    ended, asked, waited = stranger(unknown, unknown, unknown, ExitStatus(signal=11))
    assert (ended, asked) == ([ExitStatus(signal=11)], 4)
    assert waited == pytest.approx(0.075)


def test_a_kernel_that_never_tells_is_not_asked_for_ever(stranger):
    ended, asked, waited = stranger(ExitStatus())
    assert ended == [ExitStatus()]
    assert asked > 2
    assert 0.25 <= waited < 0.3


def test_one_that_lives_after_all_is_watched_on():
    loop, kernel, ended = FakeLoop(), Kernel([None]), []
    children = Children(loop, kernel, lambda: None)
    pidfd = os.eventfd(1, os.EFD_NONBLOCK)
    child = children.adopt(Launch(4242, pidfd), ended.append, stranger=True)
    loop.advance(1)
    assert (ended, child.pidfd, pidfd in loop.watched) == ([], pidfd, True)
    kernel.answers = [ExitStatus(code=0)]
    loop.advance(0)
    assert ended == [ExitStatus(code=0)]
    loop.close()


def test_the_real_kernel_tells_of_a_stranger_or_says_that_it_does_not(family):
    """Its parent reaps it, and tells nobody; what comes is the truth, or nothing that was made up."""
    family.child.foreign, family.child.stranger = False, True
    os.kill(family.pid, signal.SIGKILL)
    family.reap()
    family.turn_until(lambda: family.ended)
    assert family.ended in ([ExitStatus(signal=signal.SIGKILL)], [ExitStatus()])
