"""Speaking to systemd: the one unit of Oxherd, installed whole or not at all."""

from __future__ import annotations

import os
import subprocess

from oxherd.errors import OperationError, SystemFault
from oxherd.export.systemd import UNIT_NAME
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Manager", "UnitState", "find_manager", "lingers"]

_PATIENCE = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """What systemd says of the unit: "enabled", "active", 0 where there is no process."""

    installed: bool
    enabled: str = ""
    active: str = ""
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manager:
    """One systemd: that of the machine or that of the user.

    Attributes:
        user: Which of the two.
        directory: Where units written by an administrator (or the user) stand.
        environ: The environment that ``systemctl`` is run with.
    """

    user: bool
    directory: str
    environ: Mapping[str, str]

    @property
    def path(self) -> str:
        """The unit file."""
        return os.path.join(self.directory, UNIT_NAME)

    def call(self, *arguments: str) -> str:
        """Run one ``systemctl`` and return what it prints.

        Raises:
            SystemFault: There is no systemctl, or it reached no systemd.
            OperationError: systemd refused.
        """
        command = ["systemctl", *(["--user"] if self.user else []), *arguments]
        shown = " ".join(command)
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                # What stops the service takes what its stacks take; systemd knows when that is too long.
                timeout=None if {"restart", "--now"} & set(arguments) else _PATIENCE,
                check=False,
                env=dict(self.environ),
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise SystemFault(
                "there is no systemctl on this machine",
                hint="without systemd, let what starts this machine's services run `oxherd daemon run`",
                code="OX650",
            ) from None
        except subprocess.TimeoutExpired:
            raise OperationError(
                f"`{shown}` did not end within {_PATIENCE:.0f} s", hint="see `systemctl list-jobs`", code="OX471"
            ) from None
        if done.returncode == 0:
            return done.stdout
        said = (done.stderr or done.stdout).strip()
        if "Failed to connect to" in said or "not been booted with systemd" in said:
            raise self._not_running(said)
        raise OperationError(
            f"`{shown}` ended with exit code {done.returncode}: {said}",
            hint=f"see `journalctl {'--user ' if self.user else ''}-u {UNIT_NAME}`",
            code="OX470",
        )

    def _not_running(self, said: str) -> SystemFault:
        if self.user:
            hint = "log in as that user (not by su or sudo), or install for the machine: sudo oxherd service install --system"
        else:
            hint = "in a container, use `oxherd run` as its command; elsewhere let your init run `oxherd daemon run`"
        first = said.partition("\n")[0]
        return SystemFault(
            f"systemd does not run here{' for this user' if self.user else ''}: {first}", hint=hint, code="OX651"
        )

    def install(self, text: str) -> None:
        """Write the unit, enable it and start it; if any of that fails, everything is as it was.

        Raises:
            OxherdError: It did not work; nothing is left of the attempt.
        """
        self.call("daemon-reload")  # before anything is written: no systemd, no file
        before = self._read()
        try:
            self._write(text)
            self.call("daemon-reload")
            self.call("enable", UNIT_NAME)
            self.call("restart" if before is not None else "start", UNIT_NAME)
        except BaseException:
            self._roll_back(before)
            raise

    def _roll_back(self, before: str | None) -> None:
        """Undo as far as it goes: the first failure is what the person is told, a second one here is not raised."""
        if before is None:
            self._attempt("disable", "--now", UNIT_NAME)
            if os.path.exists(self.path):
                os.unlink(self.path)
        else:
            self._write(before)
        self._attempt("daemon-reload")
        if before is not None:
            self._attempt("restart", UNIT_NAME)

    def _attempt(self, *arguments: str) -> bool:
        try:
            self.call(*arguments)
        except (OperationError, SystemFault):
            return False
        return True

    def uninstall(self) -> bool:
        """Stop, disable and remove the unit; False if there was none.

        Raises:
            OxherdError: systemd refused; the unit is still there.
        """
        self.call("daemon-reload")
        if not os.path.lexists(self.path):
            return False
        self.call("disable", "--now", UNIT_NAME)
        os.unlink(self.path)
        self.call("daemon-reload")
        return True

    def version(self) -> int:
        """Return the version of systemd, 0 if there is none that tells it. A unit can be printed without one."""
        try:
            said = self.call("--version")
        except (OperationError, SystemFault):
            return 0
        # "systemd 252 (252.38-1~deb12u1)", and a second line.
        number = said.split(maxsplit=2)[1:2]
        return int(number[0]) if number and number[0].isdigit() else 0

    def state(self) -> UnitState:
        """Ask for the state of the unit.

        Raises:
            OxherdError: systemd cannot be asked.
        """
        said = self.call("show", UNIT_NAME, "--property=UnitFileState,ActiveState,MainPID")
        values = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
        pid = values.get("MainPID", "0")
        return UnitState(
            installed=os.path.exists(self.path),
            enabled=values.get("UnitFileState", ""),
            active=values.get("ActiveState", ""),
            pid=int(pid) if pid.isdigit() else 0,
        )

    def _read(self) -> str | None:
        try:
            with open(self.path, encoding="utf-8") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._fault(error) from error

    def _fault(self, error: OSError) -> SystemFault:
        return SystemFault(
            f"cannot write {self.path}: {error.strerror}",
            hint="a unit of the machine needs root; `oxherd service install --user` needs none",
            code="OX652",
        )

    def _write(self, text: str) -> None:
        draft = f"{self.path}.new"
        try:
            os.makedirs(self.directory, exist_ok=True)
            with open(draft, "w", encoding="utf-8") as file:
                file.write(text)
            os.replace(draft, self.path)
        except OSError as error:
            raise self._fault(error) from error


def find_manager(*, user: bool, environ: Mapping[str, str], directory: str | None = None) -> Manager:
    """Return the systemd of the machine or of the user.

    Args:
        user: Which of the two.
        environ: For XDG_CONFIG_HOME and HOME.
        directory: Where units stand, if not at the usual place.
    """
    if directory is None and user:
        config = environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
        directory = os.path.join(config, "systemd", "user")
    return Manager(user=user, directory=directory or "/etc/systemd/system", environ=environ)


def lingers(user: str, directory: str = "/var/lib/systemd/linger") -> bool:
    """Whether the user's systemd runs without a login; without that it begins with the first one."""
    return os.path.exists(os.path.join(directory, user))
