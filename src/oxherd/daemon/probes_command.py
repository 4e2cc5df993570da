"""The command probe: a program that exits with 0 passes."""

from __future__ import annotations

from oxherd.config.redact import Mask
from oxherd.daemon.helpers import HelperRequest
from oxherd.daemon.probe import Outcome, trouble_of
from oxherd.errors import SpawnError
from oxherd.units import format_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.daemon.helpers import Helper, HelperEnd, Helpers
    from oxherd.daemon.probe import Done, ProbeContext
    from oxherd.system.loop import Loop, Timer

__all__ = ["CommandProbe"]

# Bytes of output that are kept for the text: the end, where the error stands.
_TAIL = 2048
# Characters of the last line that are shown.
_LINE = 200


class CommandProbe:
    """Passes when a command exits with 0; killed, with all it started, when it is cancelled.

    Args:
        loop: The loop.
        helpers: Starts it.
        argv: Program and arguments.
        context: Environment, directory and user.
        done: Called once with the outcome.
    """

    def __init__(self, loop: Loop, helpers: Helpers, argv: tuple[str, ...], context: ProbeContext, done: Done) -> None:
        """Start nothing yet."""
        self._loop = loop
        self._helpers = helpers
        self._argv = argv
        self._context = context
        self._done = done
        self._started = loop.now()
        self._output = b""
        self._helper: Helper | None = None
        self._timer: Timer | None = None

    @property
    def missing(self) -> str:
        """What has not come yet."""
        return f"no end of {self._argv[0]}"

    def start(self) -> None:
        """Start the command; what prevents it is reported later, from the loop."""
        context = self._context
        env = dict(context.env or {})
        request = HelperRequest(
            argv=self._argv,
            cwd=context.cwd,
            env=env,
            mark=f"{env.get('OXHERD_MARK', '')}/probe",
            user=context.user,
            group=context.group,
            umask=context.umask,
        )
        try:
            self._helper = self._helpers.start(request, self._heard, self._ended)
        except SpawnError as error:
            lacking = trouble_of(OSError(error.errno, ""))
            self._fail(Outcome(None if lacking else False, f"could not start: {error.message}"))
        except OSError as error:
            self._fail(Outcome(None, f"could not start: making its pipe: {error.strerror}"))

    def cancel(self) -> None:
        """Kill it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._helper is not None:
            self._helper.kill()
            self._helper = None

    def _fail(self, outcome: Outcome) -> None:
        self._timer = self._loop.call_later(0.0, lambda: self._done(outcome))

    def _heard(self, data: bytes) -> None:
        self._output = (self._output + data)[-_TAIL:]

    def _ended(self, end: HelperEnd) -> None:
        self._helper = None
        took = format_seconds(self._loop.now() - self._started)
        # What it prints is its own business in its own log; here it is shown to people, like the last lines of a crash.
        line = Mask(self._context.env or {}, self._argv).text(_last_line(self._output))
        self._done(
            Outcome(end.success, f"passed in {took}" if end.success else f"{end.text}: {line}" if line else end.text)
        )


def _last_line(output: bytes) -> str:
    """Return the last line with something in it, fit to be shown on one line of a terminal."""
    for line in reversed(output.splitlines()):
        text = "".join(char if char.isprintable() else " " for char in line.decode(errors="replace")).strip()
        if text:
            return text if len(text) <= _LINE else f"{text[:_LINE]}..."
    return ""
