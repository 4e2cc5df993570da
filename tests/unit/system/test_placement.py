"""Where a process lives in the cgroup hierarchies is read right on every kind of machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from oxherd.system.placement import CgroupKind, Placement, cpu_quota, memory_limit, oom_counter


class Machine:
    """A ``/proc`` and cgroup trees in a temporary folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.proc = str(folder / "proc")
        self._mounts: list[str] = []
        self.write("proc/self/mountinfo", "")
        self.write("proc/self/cgroup", "")

    def write(self, path: str, text: str) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)

    def mount(self, point: str, kind: str, options: str = "rw", root: str = "/") -> None:
        place = self.folder / point
        place.mkdir(parents=True, exist_ok=True)
        escaped = str(place).replace(" ", "\\040")
        self._mounts.append(f"31 23 0:28 {root} {escaped} rw,nosuid shared:9 - {kind} {kind} {options}")
        self.write("proc/self/mountinfo", "\n".join(["22 1 0:21 / / rw - ext4 /dev/vda rw", *self._mounts]) + "\n")

    def lives(self, *lines: str) -> None:
        self.write("proc/self/cgroup", "\n".join(lines) + "\n")

    def placement(self) -> Placement:
        return Placement(0, self.proc)


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def systemd(machine: Machine, controllers: str = "cpu memory pids") -> str:
    machine.mount("cg", "cgroup2")
    machine.lives("0::/system.slice/oxherd.service")
    machine.write("cg/system.slice/oxherd.service/cgroup.controllers", controllers + "\n")
    return "cg/system.slice/oxherd.service"


def test_one_v2_tree(machine, tmp_path):
    own = systemd(machine)
    home = machine.placement().of("memory")
    assert home is not None
    assert (home.kind, home.mount, home.folder) == (CgroupKind.V2, str(tmp_path / "cg"), str(tmp_path / own))
    assert list(home.upwards()) == [str(tmp_path / own), str(tmp_path / "cg/system.slice"), str(tmp_path / "cg")]


def test_a_controller_the_v2_cgroup_was_not_given_is_not_there(machine):
    systemd(machine, "memory pids")
    assert machine.placement().of("cpu") is None
    assert machine.placement().unified_controllers() == {"memory", "pids"}


def test_a_v1_tree_for_each_controller_beside_an_empty_v2_tree(machine, tmp_path):
    machine.mount("cg/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct")
    machine.mount("cg/memory", "cgroup", "rw,memory")
    machine.mount("cg/unified", "cgroup2")
    machine.lives("3:memory:/box/one", "2:cpu,cpuacct:/", "1:name=systemd:/", "0::/")
    machine.write("cg/unified/cgroup.controllers", "hugetlb\n")
    placement = machine.placement()
    memory, cpu = placement.of("memory"), placement.of("cpu")
    assert memory is not None
    assert cpu is not None
    assert (memory.kind, memory.folder) == (CgroupKind.V1, str(tmp_path / "cg/memory/box/one"))
    assert cpu.folder == str(tmp_path / "cg/cpu,cpuacct")
    assert placement.of("pids") is None


def test_in_a_container_the_tree_begins_at_the_containers_own_cgroup(machine, tmp_path):
    machine.mount("cg", "cgroup2", root="/docker/abc")
    machine.lives("0::/docker/abc/inner")
    machine.write("cg/inner/cgroup.controllers", "memory\n")
    home = machine.placement().of("memory")
    assert home is not None
    assert home.folder == str(tmp_path / "cg/inner")


@pytest.mark.parametrize("path", ["/docker/other", "/docker/abcd", "/../elsewhere"])
def test_a_cgroup_outside_of_what_is_mounted_is_nowhere(machine, path):
    machine.mount("cg", "cgroup2", root="/docker/abc")
    machine.lives(f"0::{path}")
    assert machine.placement().unified is None
    assert machine.placement().of("memory") is None


def test_mount_points_with_spaces(tmp_path):
    (tmp_path / "a b").mkdir()
    machine = Machine(tmp_path / "a b")
    own = systemd(machine)
    home = machine.placement().unified
    assert home is not None
    assert home.folder == str(tmp_path / "a b" / own)


def test_without_any_cgroup_nothing_is_limited_and_nothing_found(machine):
    assert machine.placement().of("memory") is None
    assert cpu_quota(proc=machine.proc) is None
    assert memory_limit(proc=machine.proc) is None
    assert oom_counter(0, proc=machine.proc) is None


def test_without_proc_nothing_is_found(tmp_path):
    gone = str(tmp_path / "none")
    assert Placement(0, gone).of("memory") is None
    assert cpu_quota(proc=gone) is memory_limit(proc=gone) is oom_counter(0, proc=gone) is None


def test_the_smallest_limit_on_the_way_up_counts(machine):
    own = systemd(machine)
    machine.write(f"{own}/cpu.max", "max 100000\n")
    machine.write("cg/system.slice/cpu.max", "150000 100000\n")
    machine.write(f"{own}/memory.max", "max\n")
    machine.write("cg/system.slice/memory.max", "1073741824\n")
    assert cpu_quota(proc=machine.proc) == 1.5
    assert memory_limit(proc=machine.proc) == 1 << 30


def test_limits_of_version_1(machine):
    machine.mount("cg/cpu", "cgroup", "rw,cpu")
    machine.mount("cg/memory", "cgroup", "rw,memory")
    machine.lives("2:cpu:/a", "1:memory:/a")
    machine.write("cg/cpu/cpu.cfs_quota_us", "-1\n")
    machine.write("cg/cpu/cpu.cfs_period_us", "100000\n")
    machine.write("cg/cpu/a/cpu.cfs_quota_us", "50000\n")
    machine.write("cg/cpu/a/cpu.cfs_period_us", "100000\n")
    machine.write("cg/memory/memory.limit_in_bytes", "9223372036854771712\n")
    machine.write("cg/memory/a/memory.limit_in_bytes", "9223372036854771712\n")
    assert cpu_quota(proc=machine.proc) == 0.5
    assert memory_limit(proc=machine.proc) is None
    machine.write("cg/memory/a/memory.limit_in_bytes", "62914560\n")
    assert memory_limit(proc=machine.proc) == 60 << 20


def test_kills_for_memory_are_counted_where_the_process_lives(machine):
    own = systemd(machine)
    machine.write("proc/vmstat", "nr_free_pages 12\noom_kill 7\n")
    assert oom_counter(0, proc=machine.proc) == 7
    machine.write(f"{own}/memory.events", "low 0\nhigh 0\nmax 4\noom 2\noom_kill 1\noom_group_kill 0\n")
    assert oom_counter(0, proc=machine.proc) == 1
    assert oom_counter(4711, proc=machine.proc) is None


def test_kills_for_memory_in_version_1(machine):
    machine.mount("cg/memory", "cgroup", "rw,memory")
    machine.lives("1:memory:/")
    machine.write("cg/memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert oom_counter(0, proc=machine.proc) == 3
