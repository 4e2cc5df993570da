"""Preloading: eight workers of a heavy app share what it imports."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.scene import LOSS_APPS
from support.services import unused_port
from support.web import ask

WORKERS = 8

OXFILE = """
[processes.web]
app = "heavy_app:app"
server = "uvicorn"
bind = "127.0.0.1:{port}"
workers = {workers}
preload = {preload}
working_dir = "{apps}"
[processes.web.health_check]
endpoint = "http://127.0.0.1:{port}/health"
"""


def proportional_set_size(pid: int) -> int:
    """Bytes of a process, what it shares counted in proportion; proc_pid_smaps_rollup(5)."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except PermissionError:
        pytest.skip("needs the right to read smaps_rollup")
    return 1024 * int(next(line for line in lines if line.startswith("Pss:")).split()[1])


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def family(ox) -> set[int]:
    """The workers, and the zygote they were forked from if there is one."""
    workers = {pid for pid in ox.pids().values() if pid}
    assert len(workers) == WORKERS
    parents = {parent(pid) for pid in workers} - {ox.supervisor}
    return workers | parents


def use(ox, preload: str) -> int:
    """Start eight workers, let each answer, and return what all take."""
    port = unused_port()
    ox.oxfile(OXFILE.format(port=port, workers=WORKERS, preload=preload, apps=LOSS_APPS), folder=f"preload-{preload}")
    ox.ok("start")
    for _ in range(48 * WORKERS):
        assert ask(port, "/fast?n=x").body == b"x"
    size = sum(map(proportional_set_size, family(ox)))
    ox.ok("stop")
    return size


def test_eight_workers_take_a_third_of_eight_cold_ones(ox):
    cold, shared = use(ox, "false"), use(ox, "true")
    assert shared <= cold / 3, f"{shared >> 20} MB shared, {cold >> 20} MB cold"
