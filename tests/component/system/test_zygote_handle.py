"""What a zygote says it forked is looked up in the kernel: it could name any process of the machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from oxherd.system.zygote_handle import forked_by
from support.waiting import wait_gone

# Forks a child that waits, says its pid, and reaps it when it is told to.
ZYGOTE = """
import os, signal, sys
pid = os.fork()
if not pid:
    signal.pause()
print(pid, flush=True)
sys.stdin.readline()
os.waitpid(pid, 0)
print("reaped", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def zygote():
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", ZYGOTE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    process.child = int(process.stdout.readline())
    process.pidfd = os.pidfd_open(process.child)
    yield process
    signal.pidfd_send_signal(process.pidfd, signal.SIGKILL) if process.child else None
    os.close(process.pidfd)
    process.kill()
    process.communicate()


def test_its_child_is_its_child(zygote):
    assert forked_by(zygote.child, zygote.pidfd, zygote.pid)
    assert forked_by(zygote.child, -1, zygote.pid)


def test_any_other_process_is_not(zygote):
    others = (1, os.getpid(), os.getppid(), zygote.pid)
    assert [pid for pid in others if forked_by(pid, -1, zygote.pid)] == []
    assert not forked_by(zygote.child, -1, os.getpid())


def test_a_pid_and_a_descriptor_of_two_processes_are_not_one(zygote):
    ours = os.pidfd_open(os.getpid())
    with socket.socket() as no_process:
        assert not forked_by(zygote.child, ours, zygote.pid)
        assert not forked_by(os.getpid(), zygote.pidfd, zygote.pid)
        assert not forked_by(zygote.child, no_process.fileno(), zygote.pid)
    os.close(ours)


def test_one_that_has_ended_and_is_reaped_is_nobody(zygote):
    """A worker may end before its birth is told; there is nobody left to be taken for it."""
    os.kill(zygote.child, signal.SIGKILL)
    zygote.stdin.write("\n")
    zygote.stdin.flush()
    assert zygote.stdout.readline() == "reaped\n"
    wait_gone(zygote.child)
    assert forked_by(zygote.child, zygote.pidfd, zygote.pid)
    assert not forked_by(zygote.child, -1, zygote.pid)
    # Not with the pid of somebody who lives.
    assert not forked_by(os.getpid(), zygote.pidfd, zygote.pid)
    zygote.child = 0
