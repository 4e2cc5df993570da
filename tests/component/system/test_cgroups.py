"""Hard limits hold on this machine's own kernel."""

from __future__ import annotations

import os
import signal
import uuid

import pytest

from oxherd.config.model import LimitSpec
from oxherd.core.exits import ExitStatus
from oxherd.errors import SystemFault
from oxherd.system import cgroups
from oxherd.system.placement import CgroupKind
from oxherd.system.tree import descendants

from . import programs
from .conftest import until

EVERYTHING = LimitSpec(memory=60 << 20, cpu_percent=50.0, pids=8, hard=True)

EATER = """
import os
blocks = []
for size in range(200):
    blocks.append(bytearray(os.urandom(1024)) * 1024)
os.write(1, b"ate it all")
"""


@pytest.fixture
def prepared(request):
    """Make cgroups below this process's own, and leave none behind."""
    why = cgroups.why_not(EVERYTHING)
    if why:
        pytest.skip(f"needs writable cgroups: {why}")
    made: list[cgroups.CgroupHandle] = []

    def prepare(limits: LimitSpec) -> cgroups.CgroupHandle:
        made.append(cgroups.prepare(f"test/{uuid.uuid4().hex[:12]}", limits))
        return made[-1]

    yield prepare
    for handle in made:
        handle.kill()
        until(lambda handle=handle: _removed(handle))


def _removed(handle: cgroups.CgroupHandle) -> bool:
    try:
        handle.remove()
    except OSError:
        return False
    return not any(os.path.exists(folder) for folder in handle.folders)


def test_a_program_over_its_memory_is_killed_by_the_kernel_and_that_is_known(shop, prepared):
    handle = prepared(LimitSpec(memory=60 << 20, hard=True))
    before, machine_before = handle.oom_kills(), cgroups.oom_counter(0)
    launch = shop.launch(*programs.PYTHON, EATER, cgroups=handle.join_paths)
    assert shop.outcome(launch).error is None
    assert shop.ended(launch) == ExitStatus(signal=signal.SIGKILL)
    assert (before, handle.oom_kills()) == (0, 1)
    assert cgroups.oom_counter(0) == machine_before or handle.kinds[0] is CgroupKind.V2


def test_a_program_within_its_memory_lives(shop, prepared):
    handle = prepared(LimitSpec(memory=400 << 20, hard=True))
    launch = shop.launch(*programs.PYTHON, EATER, cgroups=handle.join_paths)
    shop.read_until(b"ate it all")
    assert shop.ended(launch).success
    assert handle.oom_kills() == 0


def test_where_a_member_lives_kills_are_counted_for_it(shop, prepared):
    handle = prepared(LimitSpec(memory=60 << 20, hard=True))
    launch = shop.launch("sh", "-c", "echo ready; cat <&3", cgroups=handle.join_paths)
    shop.outcome(launch)
    member = shop.launch("sleep", "1000", cgroups=handle.join_paths)
    shop.outcome(member)
    eater = shop.launch(*programs.PYTHON, EATER, cgroups=handle.join_paths)
    shop.outcome(eater)
    shop.ended(eater)
    count = cgroups.oom_counter(member.pid)
    assert count is not None
    assert count >= 1


def test_a_program_cannot_have_more_processes_than_it_may(shop, prepared):
    handle = prepared(LimitSpec(pids=4, hard=True))
    script = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done"
    launch = shop.launch("sh", "-c", script, cgroups=handle.join_paths)
    shop.outcome(launch)
    assert shop.ended(launch).code == 2
    assert b"fork" in shop.read_until(b"\n")
    assert len(handle.procs()) == 3


def test_the_cpu_quota_is_set(prepared):
    handle = prepared(LimitSpec(cpu_percent=50.0, hard=True))
    (folder,) = handle.folders
    if handle.kinds[0] is CgroupKind.V1:
        with open(f"{folder}/cpu.cfs_quota_us") as quota, open(f"{folder}/cpu.cfs_period_us") as period:
            assert int(quota.read()) / int(period.read()) == 0.5
    else:
        with open(f"{folder}/cpu.max") as both:
            assert both.read() == "50000 100000\n"


@pytest.mark.parametrize("limits", [LimitSpec(memory=400 << 20, hard=True), EVERYTHING], ids=["memory", "everything"])
def test_everything_in_it_is_killed_escapees_included(shop, orphans_fall_here, prepared, limits):
    handle = prepared(limits)
    launch = shop.launch(*programs.PYTHON, programs.DAEMON + programs.SLEEP, cgroups=handle.join_paths)
    shop.outcome(launch)
    shop.read_until(b"ready ")
    escaped = int(shop.read_until(b"\n"))
    assert {launch.pid, escaped} <= set(handle.procs())
    handle.kill()
    assert shop.ended(launch).signal == signal.SIGKILL
    until(lambda: escaped not in descendants(os.getpid()))


def test_a_cgroup_with_living_members_says_so_and_is_not_made_twice(shop, prepared):
    limits = LimitSpec(memory=400 << 20, hard=True)
    handle = prepared(limits)
    launch = shop.launch("sleep", "1000", cgroups=handle.join_paths)
    shop.outcome(launch)
    with pytest.raises(OSError, match="busy"):
        handle.remove()
    with pytest.raises(SystemFault, match="holds processes of an earlier run"):
        cgroups.prepare(handle.name.removeprefix("oxherd-"), limits)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_who_may_not_write_is_told_where(shop):
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(cgroups.__file__))))
    program = (
        f"import os, sys; sys.path.insert(0, {source!r})\n"
        "from oxherd.config.model import LimitSpec; from oxherd.system import cgroups; import oxherd.system.placement\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "print(cgroups.why_not(LimitSpec(memory=1, hard=True)))"
    )
    import sys

    _, text = shop.run(sys.executable, "-c", program, stderr=2)
    assert text.rstrip().endswith("is not writable") or "controller" in text
