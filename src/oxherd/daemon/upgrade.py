"""``oxherd daemon upgrade``: the supervisor becomes another version of itself, below what it supervises.

First the new version is asked, in a process of its own, whether it starts at all and can read what is written down. Only when
it says so does the supervisor exec it; until then, and whenever it does not, the old one goes on as if nothing had been asked.
"""

from __future__ import annotations

import os
import sys

from oxherd import jsons as json
from oxherd.daemon.helpers import HelperRequest
from oxherd.daemon.inheritance import Inheritance, hand_over, take_back
from oxherd.errors import OperationError, OxherdError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oxherd.daemon.helpers import HelperEnd, Helpers
    from oxherd.daemon.supervisor import Supervisor
    from oxherd.daemon.watchdog import Watchdog

    Answer = Callable[[str, OxherdError | None], None]

__all__ = ["Upgrade", "command_of"]

# The answer is sent before the exec closes the connection.
_SENDING = 0.05


def command_of(python: str, *arguments: str) -> list[str]:
    """Return the command line of a supervisor that is a subreaper already."""
    return [python, "-P", "-m", "oxherd.daemon", *arguments]


class Upgrade:
    """Replaces this program by a newer one.

    Args:
        supervisor: Is upgraded; not while it reloads something.
        helpers: Asks the new version.
        mark: Prefix of the marks of this home.
        arguments: Those the new version is started with, beside what it inherits.
        inherit: Returns what is handed over, and makes sure that everything is written down.
        watchdog: Tells the service manager.
    """

    def __init__(
        self,
        supervisor: Supervisor,
        helpers: Helpers,
        mark: str,
        *,
        arguments: Callable[[], list[str]],
        inherit: Callable[[], Inheritance],
        watchdog: Watchdog,
    ) -> None:
        """Nothing is under way."""
        self._supervisor = supervisor
        self._helpers = helpers
        self._mark = mark
        self._arguments = arguments
        self._inherit = inherit
        self._watchdog = watchdog
        self._under_way = False

    def begin(self, python: str, answer: Answer) -> None:
        """Ask the new version, then become it.

        Args:
            python: The interpreter it runs in.
            answer: Called once: with its version just before the exec, or with "" and why it does not come about.
        """
        try:
            self._refuse()
        except OxherdError as error:
            answer("", error)
            return
        self._under_way = True
        try:
            self._ask(python, answer)
        except (OxherdError, OSError) as error:
            self._under_way = False
            answer("", _fault(error.message if isinstance(error, OxherdError) else f"{python}: {error.strerror}"))

    def _refuse(self) -> None:
        supervisor = self._supervisor
        if self._under_way:
            raise OperationError("an upgrade is under way already", hint="see oxherd events", code="OX433")
        if supervisor.ending:
            raise OperationError("the supervisor is stopping", hint="start it anew: oxherd start", code="OX432")
        if supervisor.rolls is not None and (names := supervisor.rolls.reloading):
            raise OperationError(
                f"{', '.join(names)} is being reloaded; upgrade when that is over",
                hint="oxherd events -f shows how far it is",
                code="OX421",
            )

    def _ask(self, python: str, answer: Answer) -> None:
        output: list[bytes] = []
        request = HelperRequest(
            argv=tuple(command_of(python, "--check", *self._arguments())),
            cwd="/",
            env=dict(os.environ),
            mark=f"{self._mark}:upgrade/check",
        )
        self._helpers.start(request, output.append, lambda end: self._asked(python, b"".join(output), end, answer))

    def _asked(self, python: str, output: bytes, end: HelperEnd, answer: Answer) -> None:
        said = _last_object(output)
        if not end.success or said.get("ok") is not True:
            self._under_way = False
            text = str(said.get("error") or output.decode("utf-8", "backslashreplace")[-2000:].strip() or end.text)
            self._supervisor.tell("upgrade-failed", f"the new version cannot take over, this one goes on: {text}")
            answer("", _fault(text))
            return
        version = str(said.get("version", ""))
        try:
            self._refuse_late()
        except OxherdError as error:
            self._under_way = False
            answer("", error)
            return
        self._supervisor.tell("upgrading", f"becoming version {version}")
        answer(version, None)
        self._supervisor.loop.call_later(_SENDING, lambda: self._become(python))

    def _refuse_late(self) -> None:
        """Something may have begun while the new version was asked."""
        self._under_way = False
        self._refuse()
        self._under_way = True

    def _become(self, python: str) -> None:
        inheritance = self._inherit()
        try:
            fd = hand_over(inheritance)
        except OSError as error:
            self._stay(f"handing over: {error.strerror}")
            return
        command = command_of(python, "--inherit", str(fd), *self._arguments())
        self._watchdog.reloading()
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            os.execve(command[0], command, {**os.environ, **self._watchdog.environ})
        except OSError as error:
            take_back(inheritance, fd)
            self._watchdog.ready()
            self._stay(f"{python}: {error.strerror}")

    def _stay(self, text: str) -> None:
        self._under_way = False
        self._supervisor.tell("upgrade-failed", f"this version goes on: {text}")


def _fault(text: str) -> OperationError:
    return OperationError(
        f"the new version cannot take over; the supervisor goes on as it is: {text}",
        hint="mend what it says and upgrade again; nothing was changed",
        code="OX434",
    )


def _last_object(output: bytes) -> Mapping[str, object]:
    """Return the last line of an output as an object: what came before it are warnings of the interpreter."""
    lines = output.strip().splitlines()
    try:
        said = json.loads(lines[-1]) if lines else {}
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
