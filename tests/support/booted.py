"""A machine that systemd has booted, made in a second of what this machine has in ``/usr``.

`Booted` lays out a root directory (``/usr`` and the checkout are mounted into it read-only, everything else is its own and
empty) and lets systemd-nspawn boot it: systemd is PID 1 there, journald runs, and nothing else that this machine has installed.
No image, no network. Commands run in it by nsenter.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.harness import OXHERD
from support.waiting import DEADLINE, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["UNIT", "Booted", "Service", "machine", "service"]

CHECKOUT = Path(__file__).resolve().parent.parent.parent
UNIT = "oxherd.service"
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
    # With an id it is not the first boot, at which systemd would enable every unit there is.
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/hostname": "booted\n",
    # Nobody waits for a machine that is to go down.
    "etc/systemd/system.conf.d/short.conf": "[Manager]\nDefaultTimeoutStopSec=5s\n",
}
ENVIRON = {"PATH": f"{os.path.dirname(OXHERD)}:/usr/bin:/usr/sbin", "HOME": "/root", "LANG": "C.UTF-8"}
FOLDERS = ("usr", "proc", "sys", "dev", "run", "root", "var/lib", "var/log/journal", "etc/systemd/system")
LINKS = ("bin", "sbin", "lib", "lib64")


class Booted:
    """The machine.

    Raises:
        pytest.skip.Exception: None can be had here.
    """

    def __init__(self) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root to boot one")
        if shutil.which("systemd-nspawn") is None:
            pytest.skip("no systemd-nspawn here: ./scripts/debian-packages installs it")
        self.root = Path(tempfile.mkdtemp(prefix="ox-booted-", dir="/tmp"))
        self.log = self.root.with_suffix(".log")
        self._cgroups: list[Path] = []
        self._lay_out()
        self._command = self._nspawn()
        # Is it allowed here at all? What fails after this is a failure.
        tried = subprocess.run([*self._command, "/usr/bin/true"], capture_output=True, text=True, check=False)
        if tried.returncode != 0:
            self._clear()
            pytest.skip(f"needs a running systemd; systemd-nspawn makes none: {tried.stderr.strip()[-200:]}")
        self._boot()

    def _boot(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "--boot"], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            self._wait_up()
        except BaseException:
            self.close()
            raise

    def _lay_out(self) -> None:
        self.root.chmod(0o755)
        for folder in FOLDERS:
            (self.root / folder).mkdir(parents=True)
        for name in LINKS:
            if os.path.isdir(f"/usr/{name}"):
                (self.root / name).symlink_to(f"usr/{name}")
        for name, text in FILES.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        shutil.copy("/usr/lib/os-release", self.root / "etc/os-release")
        units = self.root / "etc/systemd/system"
        (units / "default.target").symlink_to("/lib/systemd/system/multi-user.target")
        # What this machine has installed beside systemd itself; systemctl needs no bus.
        for name in {path.name for path in Path("/lib/systemd/system").glob("multi-user.target.wants/*")} | {
            "dbus.socket"
        }:
            (units / name).symlink_to("/dev/null")

    def _nspawn(self) -> list[str]:
        folders: list[str] = []
        for folder in sorted({str(CHECKOUT), sys.prefix, sys.base_prefix}):
            if not folder.startswith(("/usr/", *(f"{other}/" for other in folders))):
                folders.append(folder)
        command = ["systemd-nspawn", "--quiet", "--register=no", "--private-network", "--console=pipe"]
        command += [f"--directory={self.root}", "--machine=booted"]
        command += [f"--bind-ro={folder}" for folder in ("/usr", *folders)]
        if os.path.isdir("/run/systemd/system"):
            return command
        # Without a systemd around it nobody gives it a cgroup; two machines in the same one would end each other.
        joins = ""
        for tree in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified", "/sys/fs/cgroup/systemd"):
            if os.path.exists(f"{tree}/cgroup.procs"):
                cgroup = Path(tree, self.root.name)
                cgroup.mkdir()
                self._cgroups.append(cgroup)
                joins += f"echo $$ >{cgroup}/cgroup.procs; "
        return ["sh", "-c", f'{joins}exec "$@"', "sh", *command, "--keep-unit"]

    # -- what runs in it --------------------------------------------------------------------------------------------

    @property
    def init(self) -> int:
        """The pid of its PID 1, 0 while there is none."""
        assert self._process.poll() is None, f"it does not boot:\n{self.log.read_text()[-2000:]}"
        try:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        except FileNotFoundError:
            return 0
        return next((int(pid) for pid in children if comm(pid) == "systemd"), 0)

    def _wait_up(self) -> None:
        def up() -> bool:
            return self.init != 0 and self.try_("systemctl", "is-active", "multi-user.target").returncode == 0

        wait_until(up, lambda: f"a machine that is up: {self.log.read_text()[-3000:]}")

    def _enter(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self.init}", *("--mount", "--pid", "--ipc", "--uts", "--net"), "--", *command]

    def try_(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, to its end."""
        return subprocess.run(
            self._enter("env", "-i", *(f"{name}={value}" for name, value in {**ENVIRON, **env}.items()), *command),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="backslashreplace",
            timeout=2 * DEADLINE,
            check=False,
        )

    def run(self, *command: str, **env: str) -> str:
        """Run a command in it, insist on exit code 0, and return what it prints."""
        done = self.try_(*command, **env)
        assert done.returncode == 0, f"{command} -> {done.returncode}\n{done.stdout}{done.stderr}\n{self.report()}"
        return done.stdout

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command in it, beside the test, which waits for its end."""
        return subprocess.Popen(
            self._enter(*command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def show(self, *names: str, unit: str = UNIT) -> dict[str, str]:
        """Return properties of a unit."""
        said = self.run("systemctl", "show", unit, f"--property={','.join(names)}")
        return dict(line.split("=", 1) for line in said.splitlines())

    def wait_show(self, **wanted: str) -> None:
        """Wait until properties of the service have these values."""
        wait_until(
            lambda: self.show(*wanted) == wanted, lambda: f"{wanted}, it is {self.show(*wanted)}\n{self.report()}"
        )

    @property
    def supervisor(self) -> int:
        """The pid of the service's main process, as the machine numbers it; 0 for none."""
        return int(self.show("MainPID")["MainPID"])

    def wait_other_supervisor(self, than: int) -> int:
        """Wait until the service runs with another main process, which is ready; return it."""

        def other() -> int:
            state = self.show("MainPID", "SubState")
            pid = int(state["MainPID"])
            return pid if state["SubState"] == "running" and pid != than else 0

        return wait_until(other, lambda: f"a supervisor in the place of {than}\n{self.report()}")

    def kill(self, pid: int, name: str) -> None:
        """Send a signal to a process of the machine."""
        self.run("kill", f"-{name}", str(pid))

    def marked(self) -> list[str]:
        """Return every process there that carries a mark of a supervisor, as ``pid command line``."""
        look = (
            "for p in /proc/[0-9]*; do if tr '\\0' '\\n' <$p/environ | grep -q ^OXHERD_MARK=; then "
            'echo "${p#/proc/} $(tr "\\0" " " <$p/cmdline)"; fi; done 2>/dev/null'
        )
        return self.try_("sh", "-c", look).stdout.splitlines()

    def journal(self) -> str:
        """Return what the journal has of the service, whoever wrote it."""
        return self.try_("journalctl", "--no-pager", "--output=short-monotonic", f"--unit={UNIT}").stdout

    def report(self) -> str:
        """Return what a person needs to see of a failure."""
        status = self.try_("systemctl", "status", "--no-pager", "--full", "--lines=0", UNIT).stdout
        return f"{status}\n{self.journal()[-4000:]}"

    def reboot(self) -> None:
        """Switch it off in good order and on again."""
        # Not `systemctl reboot`: with --keep-unit it is whoever runs systemd-nspawn that boots again.
        self.try_("systemctl", "poweroff")
        self._process.wait(2 * DEADLINE)
        self._boot()

    # -- the end ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Switch it off; what hangs is killed."""
        init = self.init if self._process.poll() is None else 0
        try:
            self.try_("systemctl", "poweroff", "--force")
            self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            if init:
                os.kill(init, signal.SIGKILL)  # and with it everything in its namespace
            self._process.kill()
            self._process.wait()
        self._clear()

    def _clear(self) -> None:
        for cgroup in self._cgroups:
            for folder, _, _ in os.walk(cgroup, topdown=False):
                with contextlib.suppress(OSError):
                    os.rmdir(folder)
        shutil.rmtree(self.root, ignore_errors=True)
        self.log.unlink(missing_ok=True)


class Service:
    """The installed service, and a stack in it."""

    def __init__(self, machine: Booted) -> None:
        self.machine = machine
        self.folder = machine.root / "srv"
        self.dropin = machine.root / "etc/systemd/system" / f"{UNIT}.d" / "test.conf"

    def install(self, **service: str) -> None:
        """Install the unit, with other values for some directives."""
        if service:
            self.dropin.parent.mkdir(exist_ok=True)
            self.dropin.write_text("[Service]\n" + "".join(f"{name}={value}\n" for name, value in service.items()))
        self.machine.run("oxherd", "service", "install")

    def up(self, oxfile: str) -> None:
        """Start a stack."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "oxfile.toml").write_text(oxfile)
        self.oxherd("start")

    def oxherd(self, *arguments: str) -> str:
        return self.machine.run("oxherd", *arguments, "--config", "/srv/oxfile.toml")

    def rows(self) -> dict[str, dict]:
        done = self.machine.try_("oxherd", "status", "--json", "--config", "/srv/oxfile.toml")
        return {row["name"]: row for row in json.loads(done.stdout)} if done.returncode == 0 else {}

    def wait_running(self, *names: str, other_than: dict[str, int] | None = None) -> dict[str, int]:
        """Wait until these processes run, under other pids than those; return the pids."""
        before = other_than or {}

        def running() -> dict[str, int]:
            rows = self.rows()
            up = all(name in rows and rows[name]["status"] == "running" for name in names)
            pids = {name: rows[name]["pid"] for name in names} if up else {}
            return pids if not pids.items() & before.items() else {}

        return wait_until(running, lambda: f"{names} to run: {self.rows()}\n{self.machine.report()}")

    def remove(self) -> None:
        """Leave the machine as it was."""
        self.machine.run("oxherd", "service", "uninstall")
        self.dropin.unlink(missing_ok=True)
        self.machine.run("systemctl", "daemon-reload")
        self.machine.try_("systemctl", "reset-failed", UNIT)
        self.machine.run("rm", "-rf", "/var/lib/oxherd", "/run/oxherd", "/srv")
        assert self.machine.marked() == []


def comm(pid: str) -> str:
    """Return what a process calls itself."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except FileNotFoundError:
        return ""


@pytest.fixture(scope="module")
def machine() -> Iterator[Booted]:
    booted = Booted()
    yield booted
    booted.close()


@pytest.fixture
def service(machine) -> Iterator[Service]:
    installed = Service(machine)
    yield installed
    installed.remove()
