"""What the figures depend on: the machine, its load, the versions of everything measured."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from frame.places import BENCH, BIN, CHECKOUT, executable

__all__ = ["load", "machine", "source", "versions"]

AUTOGROUP = Path("/proc/sys/kernel/sched_autogroup_enabled")
PM2 = BENCH / "node_modules" / "pm2" / "package.json"
# How programs that are no Python packages say their version.
ASKED = {"oxmgr": ["--version"], "node": ["--version"], "wrk": ["-v"], "nginx": ["-v"]}


def load() -> list[float]:
    """Return the load averages of 1, 5 and 15 minutes."""
    return [round(value, 2) for value in os.getloadavg()]


def machine() -> dict[str, object]:
    """Return the kernel, the processors, the memory and the interpreter."""
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return {
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "libc": " ".join(platform.libc_ver()),
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": model.group(1) if model else "unknown",
        "memory, MB": int(memory.group(1)) // 1024 if memory else 0,
        "python": platform.python_version(),
        # Whether processors are shared out by session before they are by process, sched(7).
        "autogroup": AUTOGROUP.read_text().strip() == "1" if AUTOGROUP.exists() else False,
    }


def source() -> str:
    """Return which source of Oxherd is measured: its tree in git, with a plus where it was changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=CHECKOUT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return (git("rev-parse", "--short=12", "HEAD:src") or "unknown") + ("+" if git("status", "-s", "src") else "")


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Return the versions of what is named: Python packages in the benchmark's environment, and other programs."""
    script = (
        "import sys\nfrom importlib.metadata import version, PackageNotFoundError\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(name, version(name))\n"
        "    except PackageNotFoundError: pass\n"
    )
    done = subprocess.run(
        [BIN / "python", "-c", script, *packages], capture_output=True, text=True, check=True, cwd="/"
    )
    found = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    for name, arguments in ASKED.items():
        # Oxherd answers to the name of Oxmgr too.
        program = BENCH / ".cargo" / "bin" / name if name == "oxmgr" else executable(name)
        if name in packages and program and program.exists():
            # wrk exits with 1 after it has said it.
            told = subprocess.run([program, *arguments], capture_output=True, text=True, check=False, timeout=60)
            match = re.search(r"\d+\.\d+(\.\d+)?", told.stdout + told.stderr)
            if match:
                found[name] = match.group()
    if "pm2" in packages and PM2.exists():
        # Asked with `pm2 --version` it would start its daemon, for the user's own home.
        found["pm2"] = str(json.loads(PM2.read_text())["version"])
    return found
