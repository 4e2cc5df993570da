"""The usable CPUs are the affinity mask, cut by the quota of the cgroup or of any above it."""

from __future__ import annotations

import os

import pytest

from oxherd.config.cpus import usable_cpus


@pytest.fixture
def machine(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    own = tmp_path / "self-cgroup"

    def _machine(cgroup: str, files: dict[str, str]) -> int:
        own.write_text(cgroup)
        for name, text in files.items():
            path = tmp_path / "fs" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return usable_cpus(os.fspath(tmp_path / "fs"), os.fspath(own))

    return _machine


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/\n", {}, 8),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8),
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "150000 100000"}, 2),
        ("0::/a\n", {"a/cpu.max": "10000 100000"}, 1),
        ("0::/gone\n", {"cpu.max": "300000 100000"}, 3),
        ("4:cpu,cpuacct:/x\n", {"cpu/x/cpu.cfs_quota_us": "400000", "cpu/x/cpu.cfs_period_us": "100000"}, 4),
        ("4:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1", "cpu/x/cpu.cfs_period_us": "100000"}, 8),
        ("0::/\n", {"cpu.max": "nonsense"}, 8),
        ("0::/../../up\n", {"cpu.max": "100000 100000"}, 1),
        ("", {}, 8),
    ],
)
def test_usable_cpus(machine, cgroup, files, expected):
    assert machine(cgroup, files) == expected


def test_there_is_always_one(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cpus("/nowhere", "/nowhere/else") == 1
