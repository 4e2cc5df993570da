"""``oxherd run``: one stack in the foreground, output on stdout, over when the stack is over.

Right as PID 1: the supervisor reaps whatever is left to it, ends on TERM, INT and QUIT by stopping everything, and
forces the end at the second one.
"""

from __future__ import annotations

import os
import signal
import sys

from oxherd import jsons as json
from oxherd.config.codec import decode, encode
from oxherd.config.model import Oxfile
from oxherd.control.request import Request
from oxherd.core.instance import State
from oxherd.daemon.control_server import Reply
from oxherd.daemon.operations import Operation
from oxherd.daemon.records import oxfile_of, take_facts
from oxherd.errors import OxherdError
from oxherd.system.logs.echo import Echo
from oxherd.system.nameless import nameless

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oxherd.daemon.adopting.adoption import Adoption
    from oxherd.daemon.assembly import Assembly
    from oxherd.daemon.handles import InstanceHandle, StackHandle
    from oxherd.daemon.operations import Outcome
    from oxherd.daemon.options import Options

__all__ = ["Foreground"]

# What a person in front of `oxherd run` wants to read beside the output of the processes.
_SHOWN = frozenset(
    {
        "started",
        "ready",
        "spawn-failed",
        "ended",
        "backoff",
        "crashed",
        "killed",
        "unhealthy",
        "healthy",
        "over-memory",
        "over-cpu",
        "timed-out",
        "blocked",
        "warning",
        "hook",
        "alert",
        "log-trouble",
        "log-recovered",
        "watch",
        "reload",
        "reloading",
        "reloaded",
        "reload-failed",
        "not-preloaded",
        "zygote-died",
        "zygote-stuck",
        "zygote-trouble",
        "process-trouble",
        "recycle",
        "recycle-failed",
        "slow",
        "not-ready",
        "ready-again",
        "cron-restart",
        "internal-error",
        "state-trouble",
        "adopted",
        "lost",
        "back",
        "strays",
        "adoption-trouble",
        "reload-finished",
        "supervisor-adopted",
        "supervisor-upgraded",
        "upgrading",
        "upgrade-failed",
        "upgrade-refused",
    }
)


class Foreground:
    """The foreground side of a supervisor.

    Args:
        assembly: The supervisor.
        options: What the CLI handed over.
    """

    def __init__(self, assembly: Assembly, options: Options) -> None:
        """Read what is to be run."""
        self._assembly = assembly
        self._options = options
        self._stack: StackHandle | None = None
        self._over = False
        with os.fdopen(options.spec_fd, "rb") as file:
            job = json.loads(file.read())
        self._oxfile = decode(Oxfile, job["oxfile"])
        self._env = {str(key): str(value) for key, value in job["env"].items()}
        self._reloading = False
        self._spec_fd = -1
        self.echo = Echo(loop=assembly.loop, tags=_tags(self._oxfile), environ=self._env)

    def begin(self, inherited: Mapping[str, Mapping[str, int]] | None = None) -> None:
        """Go on with what an earlier run of this stack has left running, end what cannot be, and start the rest.

        Args:
            inherited: Listeners that this very process has kept through an upgrade.
        """
        assembly = self._assembly
        assembly.events.subscribe(self._show)
        stack, _ = assembly.keeper.register(self._oxfile, self._env, update_env=True)
        self._stack = stack
        records = assembly.journal.load_stacks()
        take_facts(stack, records.get(stack.identity, {}))
        adoption = assembly.boot.adopt(records, inherited)
        assembly.supervisor.observe(self._changed)
        assembly.boot.end_strays(adoption, lambda: self._start(stack, adoption))

    def _start(self, stack: StackHandle, adoption: Adoption | None) -> None:
        assembly = self._assembly
        if adoption is not None and stack in adoption.stacks:
            adoption.start_the_rest(stack)
        try:
            units = assembly.keeper.units_to_start(stack, self._options.names)
        except OxherdError as error:
            sys.stderr.write(f"oxherd: {error.render()}\n")
            assembly.leave(error.exit_code)
            return
        Operation(assembly.supervisor, assembly.keeper.start(stack, units), progress=None, done=self._up)

    def _up(self, outcome: Outcome) -> None:
        if not outcome.failed:
            self.say("everything is up")
        # A unit whose command is `oxherd run` is this stack: what comes after it may count on the stack. What failed
        # is in the status; the others run.
        self._assembly.watchdog.ready()
        self._consider_the_end()

    def arguments(self) -> list[str]:
        """Return what another version of this run has to be started with."""
        assert self._stack is not None
        if self._spec_fd >= 0:
            os.close(self._spec_fd)  # of an exec that did not come about
        job = {"oxfile": encode(oxfile_of(self._stack)), "env": self._stack.env, "names": list(self._options.names)}
        self._spec_fd = nameless(json.dumps(job).encode(), inheritable=True)
        words = ["--run", self._options.run or "", "--spec-fd", str(self._spec_fd), "--color", self._options.color]
        for name in self._options.names:
            words += ["--name", name]
        return words

    def say(self, text: str) -> None:
        """Print a line of Oxherd's own."""
        self.echo.say(text)

    # -- signals, as users of gunicorn know them ----------------------------------------------------------------

    def obey(self) -> None:
        """Take HUP (reload), TTIN and TTOU (a worker more, a worker less)."""
        loop = self._assembly.loop
        loop.on_signal(signal.SIGHUP, lambda _signum: self._reload())
        loop.on_signal(signal.SIGTTIN, lambda _signum: self._scale("+1"))
        loop.on_signal(signal.SIGTTOU, lambda _signum: self._scale("-1"))

    def _reload(self) -> None:
        """Read the oxfile again and reload everything that runs."""
        if self._stack is None or self._reloading:
            self.say("SIGHUP: a reload is under way already")
            return
        self._reloading = True
        self.say("SIGHUP: reading the oxfile again")
        self._assembly.records.flush()
        self._assembly.rereader().read(self._stack, self._reread)

    def _reread(self, oxfile: Oxfile | None, trouble: str) -> None:
        stack = self._stack
        if oxfile is None or stack is None:
            self._reloading = False
            self.say(f"not reloaded, nothing was changed: {trouble}")
            return
        self._ask("reload", oxfile=encode(oxfile), names=[])

    def _scale(self, change: str) -> None:
        stack = self._stack
        for process in tuple(stack.processes.values()) if stack is not None else ():
            if process.spec.hosted:
                self._ask("scale", name=process.name, instances=change)

    def _ask(self, verb: str, **args: object) -> None:
        assert self._stack is not None
        request = Request(id=0, verb=verb, args={"stack": self._stack.path, **args})
        self._assembly.verbs.dispatch(request, _Spoken(self, verb))

    def answered(self, verb: str, text: str) -> None:
        """A request of our own is over; what went wrong with it is said."""
        if verb == "reload":
            self._reloading = False
        if text:
            self.say(f"{verb}: {text}")

    def _show(self, event: dict[str, object]) -> None:
        if event["kind"] in _SHOWN:
            self.say(str(event["text"]))

    def forward(self, signum: int) -> None:
        """Pass a signal on to every program that has a handler for it; the others would die of it."""
        assembly = self._assembly
        for handle in assembly.supervisor.instances():
            pid = handle.machine.pid
            if pid is not None and assembly.system.catches(pid, signum):
                assembly.executor.signal(handle, signum)

    def _changed(self, handle: InstanceHandle) -> None:
        if handle.down:
            self._assembly.loop.call_soon(self._consider_the_end)

    def _consider_the_end(self) -> None:
        """A run is over when nothing runs and nothing is going to without a person's doing."""
        stack = self._stack
        if stack is None or self._over or self._assembly.ending:
            return
        handles = list(stack.instances())
        if any(not handle.down or (handle.process.scheduled and handle.process.wanted) for handle in handles):
            return
        self._over = True
        code = _exit_code(handles)
        self.say(f"nothing is left to run; exit code {code}")
        self._assembly.leave(code)

    def close(self) -> None:
        """Write what is pending."""
        self.echo.close()


class _Spoken(Reply):
    """The answer to a request that a signal made: what went well is in the events, the rest is said."""

    __slots__ = ("_foreground", "_verb")

    def __init__(self, foreground: Foreground, verb: str) -> None:
        """Nobody is at the other end of a socket."""
        self._foreground = foreground
        self._verb = verb

    @property
    def closed(self) -> bool:
        """Never: the answer is always heard."""
        return False

    def on_close(self, callback: Callable[[], None]) -> None:
        """Nobody goes away."""

    def progress(self, progress: dict[str, object]) -> None:
        """The events tell it."""

    def result(self, result: dict[str, object]) -> None:
        """Say what failed."""
        failed = result.get("failed")
        texts = (
            [str(item.get("reason")) for item in failed if isinstance(item, dict)] if isinstance(failed, list) else []
        )
        self._foreground.answered(self._verb, "; ".join(texts))

    def error(self, error: OxherdError) -> None:
        """Say it."""
        self._foreground.answered(self._verb, error.message)


def _exit_code(handles: list[InstanceHandle]) -> int:
    """Return 0 when everything ended well, else the code of the first that did not, as a shell would give it."""
    for handle in handles:
        machine = handle.machine
        if machine.completed or machine.state is State.STOPPED:
            continue
        status = machine.exit
        if status is None:
            return 1
        if not status.success:
            return status.code if status.code is not None else 128 + (status.signal or 0)
    return 0


def _tags(oxfile: Oxfile) -> list[str]:
    return ["oxherd"] + [f"{process.name}:{slot}" for process in oxfile.processes for slot in range(process.instances)]
