"""Children of a zygote: their parent reaps them, and what it tells is how they ended."""

from __future__ import annotations

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
