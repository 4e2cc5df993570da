"""Files of the kernel that are kept open, because they are read between the death of a program and its successor."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest

from oxherd.system import identity, placement, tree
from oxherd.system.identity import KeptFile
from oxherd.system.machine import Machine
from oxherd.system.placement import OomCounter, oom_counter


def test_a_kept_file_says_what_is_in_it_now(tmp_path):
    path = tmp_path / "file"
    kept = KeptFile(str(path))
    assert kept.read() is None
    path.write_bytes(b"one\n" * 5000)
    assert kept.read() == b"one\n" * 5000
    path.write_bytes(b"two")
    assert kept.read() == b"two"
    kept.close()


def test_a_kept_file_that_cannot_be_read_is_opened_again(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"x")
    kept = KeptFile(str(path))
    assert kept.read() == b"x"

    def gone(_fd, _size, _offset):
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

    with monkeypatch.context() as patch:
        patch.setattr(identity.os, "pread", gone)
        assert kept.read() is None
    path.unlink()
    path.write_bytes(b"another")
    assert kept.read() == b"another"
    kept.close()


def test_without_descriptors_it_is_an_error_where_it_matters(tmp_path, monkeypatch):
    def none_left(*_arguments):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    kept = KeptFile(str(tmp_path / "file"))
    monkeypatch.setattr(identity.os, "open", none_left)
    assert kept.read() is None
    with pytest.raises(OSError, match="Too many open files"):
        kept.read(insist=True)


def test_whoever_forgets_a_kept_file_gives_its_descriptor_back(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    kept = KeptFile("/proc/self/cgroup")
    kept.read()
    assert set(os.listdir("/proc/self/fd")) > before
    del kept
    assert set(os.listdir("/proc/self/fd")) <= before


def test_the_own_children_are_all_there_living_and_dead():
    """More of them than go into one read, some of them dead, some reaped between two looks."""
    own = tree.OwnChildren()
    command = [sys.executable, "-I", "-S", "-c", "input()"]
    programs = [subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True) for _ in range(20)]
    try:
        assert {program.pid for program in programs} <= set(own.pids())
        for program in programs[::2]:
            program.kill()
            os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
        assert {program.pid for program in programs} <= set(own.pids())
        for program in programs[::2]:
            program.wait()
        assert set(own.pids()) & {program.pid for program in programs} == {program.pid for program in programs[1::2]}
        assert set(own.pids()) == set(tree.children(os.getpid()))
    finally:
        for program in programs:
            program.kill()
            program.wait()
            program.stdin.close()


def test_a_survey_of_nobody_is_empty_and_one_of_somebody_is_whole():
    machine = Machine()
    program = subprocess.Popen([sys.executable, "-I", "-S", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        known = tree.children(os.getpid())
        assert machine.survey(known).processes == {}
        assert os.getpid() in machine.survey([pid for pid in known if pid != program.pid]).processes
    finally:
        program.kill()
        program.wait()
        program.stdin.close()


def test_oom_kills_are_those_of_the_cgroup_this_process_is_in_now(monkeypatch, tmp_path):
    assert Machine().oom_kills() == oom_counter()
    homes = {b"0::/one\n": str(tmp_path / "one"), b"0::/two\n": str(tmp_path / "two")}
    for number, folder in enumerate(homes.values()):
        os.mkdir(folder)
        for name in ("memory.events", "memory.oom_control"):
            with open(f"{folder}/{name}", "w", encoding="ascii") as file:
                file.write(f"oom_kill {number + 7}\n")
    looks = []

    class Somewhere:
        def __init__(self, *, cgroup):
            looks.append(cgroup)
            self.home = placement.Home(placement.CgroupKind.V2, str(tmp_path), homes[cgroup])

        def of(self, _controller):
            return self.home

    counter = OomCounter()
    monkeypatch.setattr(placement, "Placement", Somewhere)
    (tmp_path / "cgroup").write_bytes(b"0::/one\n")
    counter._membership = KeptFile(str(tmp_path / "cgroup"))
    assert [counter.count(), counter.count()] == [7, 7]
    (tmp_path / "cgroup").write_bytes(b"0::/two\n")
    assert [counter.count(), counter.count()] == [8, 8]
    assert looks == [b"0::/one\n", b"0::/two\n"]
