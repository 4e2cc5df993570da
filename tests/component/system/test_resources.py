"""Memory and CPU of whole process trees, and what there is to have."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

import pytest

from oxherd.system import resources
from oxherd.system.resources import TreeSample

from . import programs
from .conftest import until

MEGABYTE = 1 << 20

# A parent with 60 MB that its three children share: resident four times, there once.
POOL = """
import os, signal
block = bytearray(os.urandom(1024)) * 1024 * 60
pids = []
for _ in range(3):
    pid = os.fork()
    if pid == 0:
        signal.pause()
    pids.append(pid)
os.write(1, b"ready")
signal.pause()
"""

BURN = """
import os, time
def burn():
    while time.process_time() < 0.3:
        pass
pid = os.fork()
burn()
if pid == 0:
    os._exit(0)
os.wait()
os.write(1, b"ready")
import signal; signal.pause()
"""


@pytest.fixture
def pool(shop):
    launch = shop.launch(*programs.PYTHON, POOL)
    shop.read_until(b"ready")
    return launch


def test_a_sample_sums_the_whole_tree(pool):
    sample = resources.sample(pool.pid)
    assert sample.processes == 4
    assert sample.rss_bytes > 4 * 60 * MEGABYTE
    assert 0 < sample.cpu_seconds < 60


def test_shared_memory_counts_once_in_the_proportional_size(pool):
    assert 60 * MEGABYTE < resources.pss_bytes(pool.pid) < 2 * 60 * MEGABYTE


def test_what_may_not_be_read_counts_with_its_resident_size(pool, monkeypatch):
    monkeypatch.setattr(resources, "_pss", lambda _pid: 0)
    before = resources.sample(pool.pid).rss_bytes
    assert before <= resources.pss_bytes(pool.pid) <= resources.sample(pool.pid).rss_bytes


def test_cpu_time_of_children_that_are_gone_stays_in_the_sum(shop):
    launch = shop.launch(*programs.PYTHON, BURN)
    shop.read_until(b"ready")
    sample = resources.sample(launch.pid)
    assert sample.processes == 1
    assert sample.cpu_seconds >= 0.55  # twice 0.3, in clock ticks of 10 ms


def test_many_trees_are_sampled_at_once(shop, pool):
    other = shop.launch("sleep", "1000")
    samples = resources.sample_all([pool.pid, other.pid])
    assert {pid: sample.processes for pid, sample in samples.items()} == {pool.pid: 4, other.pid: 1}


def test_of_a_process_that_is_gone_or_dead_there_is_nothing(shop):
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert resources.sample(gone.pid) == TreeSample(0, 0, 0.0)
    assert resources.pss_bytes(gone.pid) == 0
    launch = shop.launch("sleep", "1000")
    os.kill(launch.pid, signal.SIGKILL)
    until(lambda: resources.sample(launch.pid).processes == 0)


def test_the_supervisors_own_memory_is_about_what_getrusage_says():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert 5 * MEGABYTE < resources.own_memory() <= peak * 1.2


def test_without_proc_the_peak_is_told(monkeypatch):
    monkeypatch.setattr(resources, "read_file", lambda _path: None)
    assert resources.own_memory() == resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_usable_cpus_follow_affinity_and_quota(monkeypatch):
    allowed = len(os.sched_getaffinity(0))
    monkeypatch.setattr(resources.placement, "cpu_quota", lambda: None)
    assert resources.usable_cpus() == allowed
    for quota, usable in ((0.1, 1), (0.5, 1), (1.0, 1), (allowed + 5.5, allowed)):
        monkeypatch.setattr(resources.placement, "cpu_quota", lambda quota=quota: quota)
        assert resources.usable_cpus() == usable
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))
    monkeypatch.setattr(resources.placement, "cpu_quota", lambda: 2.5)
    assert resources.usable_cpus() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert resources.usable_cpus() == 2


def test_memory_to_have_is_the_machines_or_the_cgroups(monkeypatch):
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(resources.placement, "memory_limit", lambda: None)
    assert resources.memory_total() == machine
    monkeypatch.setattr(resources.placement, "memory_limit", lambda: 512 * MEGABYTE)
    assert resources.memory_total() == 512 * MEGABYTE
    monkeypatch.setattr(resources.placement, "memory_limit", lambda: machine * 2)
    assert resources.memory_total() == machine


def test_nothing_heavy_is_imported_for_all_of_this():
    """The supervisor pays for every module for as long as it lives."""
    program = (
        "import sys\n"
        "from oxherd.system import spawn, reaper, tree, resources, cgroups, placement, identity, subreaper, launcher\n"
        "print(*sorted({'typing', 'asyncio', 'logging', 'argparse', 'pathlib', 'shutil', 'tempfile', 'ctypes',\n"
        " 'datetime', 'json'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{program}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "\n"
