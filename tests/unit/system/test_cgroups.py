"""Hard limits: what is written where, and why it cannot be done, on machines this one is not.

The trees are folders; making a directory in one brings the files of a cgroup with it, as the kernel does.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from oxherd.config.model import LimitSpec
from oxherd.errors import SystemFault
from oxherd.system import cgroups
from oxherd.system.cgroups import CgroupKind

from .test_placement import Machine

ALL = LimitSpec(memory=64 << 20, cpu_percent=150.0, pids=20, hard=True)
V2_KNOBS = {
    "cgroup.controllers": "",
    "cgroup.procs": "",
    "cgroup.subtree_control": "",
    "cgroup.kill": "",
    "cgroup.type": "domain",
    "memory.max": "max",
    "memory.swap.max": "max",
    "memory.events": "oom_kill 0",
    "cpu.max": "max 100000",
    "pids.max": "max",
}
V1_KNOBS = {
    "memory": {"cgroup.procs": "", "memory.limit_in_bytes": "", "memory.memsw.limit_in_bytes": ""},
    "cpu": {"cgroup.procs": "", "cpu.cfs_quota_us": "-1", "cpu.cfs_period_us": ""},
    "pids": {"cgroup.procs": "", "pids.max": "max"},
}


def own_cgroup(machine: Machine, path: str, controllers: str = "cpu memory pids") -> None:
    for name, text in V2_KNOBS.items():
        machine.write(f"{path}/{name}", text)
    machine.write(f"{path}/cgroup.controllers", controllers)


class Kernel:
    """`os` as the module under test sees it: a new directory comes with its files, and goes with them."""

    def __getattr__(self, name: str) -> object:
        return getattr(os, name)

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(path, mode)
        knobs = next((files for name, files in V1_KNOBS.items() if f"/{name}/" in path), V2_KNOBS)
        for name, text in knobs.items():
            Path(path, name).write_text(text)

    def open(self, path: str, flags: int) -> int:
        return os.open(path, flags | os.O_TRUNC)

    def rmdir(self, path: str) -> None:
        for name in os.listdir(path):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    monkeypatch.setattr(cgroups, "os", Kernel())
    return Machine(tmp_path)


@pytest.fixture
def delegated(machine) -> Machine:
    machine.mount("cg", "cgroup2")
    machine.lives("0::/ox.service/supervisor")
    own_cgroup(machine, "cg/ox.service")
    own_cgroup(machine, "cg/ox.service/supervisor")
    return machine


def test_in_version_2_one_directory_holds_all_limits_beside_the_supervisors_leaf(delegated, tmp_path):
    handle = cgroups.prepare("0a/web/0/1", ALL, proc=delegated.proc)
    folder = tmp_path / "cg/ox.service/oxherd-0a-web-0-1"
    assert handle.folders == (str(folder),)
    assert handle.kinds == (CgroupKind.V2,)
    assert handle.join_paths == (f"{folder}/cgroup.procs",)
    assert str(handle) == str(folder)
    assert (folder / "memory.max").read_text() == str(64 << 20)
    assert (folder / "memory.swap.max").read_text() == "0"
    assert (folder / "cpu.max").read_text() == "150000 100000"
    assert (folder / "pids.max").read_text() == "20"
    handle.kill()
    assert (folder / "cgroup.kill").read_text() == "1"
    assert handle.oom_kills() == 0
    (folder / "memory.events").write_text("oom 3\noom_kill 2\n")
    assert handle.oom_kills() == 2
    handle.remove()
    assert not folder.exists()
    handle.remove()


def test_only_what_is_limited_needs_its_controller(delegated, tmp_path):
    own_cgroup(delegated, "cg/ox.service/supervisor", "memory")
    handle = cgroups.prepare("one", LimitSpec(memory=1 << 20, hard=True), proc=delegated.proc)
    assert (tmp_path / "cg/ox.service/cgroup.subtree_control").read_text() == "+memory"
    assert (tmp_path / "cg/ox.service/oxherd-one/pids.max").read_text() == "max"
    assert handle.procs() == []


def test_without_limits_no_cgroup_is_made(machine):
    handle = cgroups.prepare("one", LimitSpec(hard=True), proc=machine.proc)
    assert handle.join_paths == ()
    assert handle.oom_kills() is None
    handle.kill()
    handle.remove()


def test_in_version_1_each_controller_has_a_directory(machine, tmp_path):
    for name in V1_KNOBS:
        machine.mount(f"cg/{name}", "cgroup", f"rw,{name}")
        machine.write(f"cg/{name}/box/cgroup.procs", "")
    machine.lives("3:memory:/box", "2:cpu:/box", "1:pids:/box")
    handle = cgroups.prepare("one", ALL, proc=machine.proc)
    assert handle.folders == tuple(str(tmp_path / f"cg/{name}/box/oxherd-one") for name in ("memory", "cpu", "pids"))
    assert handle.kinds == (CgroupKind.V1,) * 3
    memory, cpu, pids = (Path(folder) for folder in handle.folders)
    assert (memory / "memory.limit_in_bytes").read_text() == str(64 << 20)
    assert (memory / "memory.memsw.limit_in_bytes").read_text() == str(64 << 20)
    assert (cpu / "cpu.cfs_quota_us").read_text() == "150000"
    assert (pids / "pids.max").read_text() == "20"
    handle.kill()
    assert (pids / "pids.max").read_text() == "0"  # nobody is born any more


def test_a_cgroup_left_by_a_killed_supervisor_is_made_anew(delegated, tmp_path):
    cgroups.prepare("one", ALL, proc=delegated.proc)
    (tmp_path / "cg/ox.service/oxherd-one/memory.max").write_text("of the earlier run")
    cgroups.prepare("one", ALL, proc=delegated.proc)
    assert (tmp_path / "cg/ox.service/oxherd-one/memory.max").read_text() == str(64 << 20)


def test_the_supervisor_moves_itself_into_a_leaf_of_its_own(machine, tmp_path, monkeypatch):
    """In version 2 the cgroup systemd gives may have processes or children with limits, not both."""
    machine.mount("cg", "cgroup2")
    machine.lives("0::/ox.service")
    own_cgroup(machine, "cg/ox.service")
    machine.write("cg/ox.service/cgroup.procs", f"{os.getpid()}\n")
    moved = []
    write = cgroups._write

    def follow(path: str, text: str) -> None:
        write(path, text)
        if path.endswith("supervisor/cgroup.procs"):
            moved.append(int(text))
            machine.write("cg/ox.service/cgroup.procs", "")

    monkeypatch.setattr(cgroups, "_write", follow)
    handle = cgroups.prepare("one", ALL, proc=machine.proc)
    assert moved == [os.getpid()]
    assert handle.folders == (str(tmp_path / "cg/ox.service/oxherd-one"),)


def test_processes_of_others_in_the_same_cgroup_are_not_moved(machine):
    machine.mount("cg", "cgroup2")
    machine.lives("0::/session.scope")
    own_cgroup(machine, "cg/session.scope")
    stranger = os.getppid()
    machine.write("cg/session.scope/cgroup.procs", f"{stranger}\n{os.getpid()}\n")
    with pytest.raises(SystemFault, match=rf"holds processes that are not Oxherd's \(pid {stranger}\)") as caught:
        cgroups.prepare("one", ALL, proc=machine.proc)
    assert "Delegate=yes" in caught.value.hint


def test_processes_that_cannot_be_moved_end_the_attempt(machine):
    machine.mount("cg", "cgroup2")
    machine.lives("0::/ox.service")
    own_cgroup(machine, "cg/ox.service")
    machine.write("cg/ox.service/cgroup.procs", f"{os.getpid()}\n")
    with pytest.raises(SystemFault, match="cannot be moved to supervisor/ below it"):
        cgroups.prepare("one", ALL, proc=machine.proc)


def test_the_root_of_the_machine_may_have_processes_and_children(machine, tmp_path):
    machine.mount("cg", "cgroup2")
    machine.lives("0::/")
    own_cgroup(machine, "cg")
    (tmp_path / "cg/cgroup.type").unlink()
    machine.write("cg/cgroup.procs", f"{os.getppid()}\n")
    assert cgroups.prepare("one", ALL, proc=machine.proc).folders == (str(tmp_path / "cg/oxherd-one"),)


def test_a_knob_that_refuses_leaves_no_directory_behind(delegated, tmp_path, monkeypatch):
    monkeypatch.setitem(V2_KNOBS, "pids.max", "")
    monkeypatch.delitem(V2_KNOBS, "pids.max")
    with pytest.raises(SystemFault, match=r"making the cgroup .*/pids\.max: No such file or directory"):
        cgroups.prepare("one", ALL, proc=delegated.proc)
    assert not (tmp_path / "cg/ox.service/oxherd-one").exists()


# -- why not -----------------------------------------------------------------------------------------------------------


def test_a_usable_machine_has_no_reason(delegated):
    assert cgroups.why_not(ALL, proc=delegated.proc) == ""


def test_nothing_is_mounted(machine):
    assert cgroups.why_not(ALL, proc=machine.proc) == "no cgroup hierarchy with the memory controller is mounted"
    with pytest.raises(SystemFault):
        cgroups.prepare("one", ALL, proc=machine.proc)


def test_the_controller_was_not_delegated(machine, tmp_path):
    machine.mount("cg", "cgroup2")
    machine.lives("0::/user.slice")
    own_cgroup(machine, "cg/user.slice", "pids memory")
    assert cgroups.why_not(ALL, proc=machine.proc) == (
        f"cgroup v2 is mounted at {tmp_path}/cg but cpu is not among the controllers of {tmp_path}/cg/user.slice "
        "(it has: memory, pids)"
    )


def test_the_cgroup_is_not_ours_to_write(machine, tmp_path, monkeypatch):
    machine.mount("cg", "cgroup2")
    machine.lives("0::/user.slice")
    own_cgroup(machine, "cg/user.slice")
    monkeypatch.setattr(Kernel, "access", lambda *_: False, raising=False)
    assert cgroups.why_not(ALL, proc=machine.proc) == (
        f"cgroup v2 is mounted at {tmp_path}/cg but {tmp_path}/cg/user.slice is not writable"
    )
