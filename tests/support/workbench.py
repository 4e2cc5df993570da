"""A whole supervisor on a fake operating system and a fake clock, driven by the verbs of the control protocol."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from oxherd.config.codec import encode
from oxherd.config.model import Command, Oxfile, ProcessSpec
from oxherd.control.paths import Home
from oxherd.control.request import Request
from oxherd.daemon.assembly import Assembly
from oxherd.daemon.options import Options
from support.fake_loop import FakeLoop
from support.fake_system import FakeSystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from oxherd.daemon.handles import InstanceHandle
    from oxherd.errors import OxherdError

__all__ = ["Answer", "Workbench", "spec"]


def spec(name: str, **fields: Any) -> ProcessSpec:
    """Return a process that runs ``name``."""
    return ProcessSpec(**{"name": name, "command": Command(text=name, argv=(name,)), "working_dir": "/srv", **fields})


class Answer:
    """The way back of one request."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []
        self.value: dict[str, Any] | None = None
        self.problem: OxherdError | None = None
        self.callbacks: list[Any] = []

    closed = False

    def on_close(self, callback: Any) -> None:
        self.callbacks.append(callback)

    def progress(self, step: dict[str, Any]) -> None:
        self.steps.append(step)

    def result(self, value: dict[str, Any]) -> None:
        assert self.value is None, "answered twice"
        self.value = value

    def error(self, problem: OxherdError) -> None:
        assert self.value is None
        assert self.problem is None, "answered twice"
        self.problem = problem

    @property
    def done(self) -> bool:
        return self.value is not None or self.problem is not None

    @property
    def failed(self) -> dict[str, str]:
        assert self.value is not None
        return {failure["label"]: failure["reason"] for failure in self.value["failed"]}


class Workbench:
    """A supervisor to experiment with."""

    def __init__(self, directory: Path, system: FakeSystem | None = None) -> None:
        self.home = Home(runtime=str(directory / "run"), state=str(directory / "state"))
        self.home.prepare()
        self.loop = FakeLoop()
        self.system = FakeSystem() if system is None else system
        self.system.loop = self.loop
        self.path = "/srv/oxfile.toml"
        self._build()

    def _build(self) -> None:
        self.assembly = Assembly(self.home, Options(), version="test", system=self.system, loop=self.loop)
        self.supervisor = self.assembly.supervisor

    def reboot(self) -> None:
        """Begin again with nothing but the state directory, as after a power cut."""
        self.assembly.journal.close()
        self.assembly.events.close()
        self.loop.close()
        self.loop = FakeLoop(self.loop.time + 100)
        self.system.loop = self.loop
        for process in self.system.launched:
            process.end(None)
        self._build()

    def begin(self) -> None:
        """Begin as a supervisor does, so that the journal names this boot of the machine."""
        self.assembly.boot.begin()
        self.loop.advance(0)

    def die(self, *, upgrade: bool = False) -> None:
        """Let the supervisor be killed; the kernel closes its descriptors, and nothing else is done about anything.

        Args:
            upgrade: It execs another version instead: what runs stays its own.
        """
        self.system.orphan_all(same_parent=upgrade)
        for fd in tuple(self._descriptors()):
            if fd >= 0:
                os.close(fd)
        self.assembly.journal.close()
        self.assembly.events.close()
        self.loop.close()

    def _descriptors(self) -> Iterator[int]:
        supervisor = self.supervisor
        for child in self.assembly.children._by_pid.values():
            yield child.pidfd
        for handle in supervisor.instances():
            yield from (pipe.fd for pipe in handle.pipes)
            if handle.passed is not None and handle.passed._listener is not None:
                yield handle.passed._listener.detach()
        for host in supervisor.hosting.hosts() if supervisor.hosting is not None else ():
            for listener in host.listeners._listeners.values() if host.listeners is not None else ():
                yield listener.sock.detach()

    def rise(self, *, after: float = 0.0, upgrade: bool = False) -> None:
        """Let another supervisor begin over the same home, some seconds later."""
        self.loop = FakeLoop(self.loop.time + after)
        self.system.loop = self.loop
        self._build()
        self.assembly.boot.begin({} if upgrade else None)
        self.loop.advance(0)

    def succeed(self, *, after: float = 0.0) -> None:
        """Kill the supervisor and let another one begin."""
        self.die()
        self.rise(after=after)

    def ask(self, verb: str, *processes: ProcessSpec, **args: Any) -> Answer:
        """Send a request; with processes it carries an oxfile that holds them."""
        answer = Answer()
        args = {"stack": self.path, "names": [], **args}
        if processes:
            oxfile = Oxfile(path=str(args["stack"]), name="shop", processes=processes)
            args = {"env": {"PATH": "/bin", "CALLER": "yes"}, "oxfile": encode(oxfile), **args}
        self.assembly.verbs.dispatch(Request(id=1, verb=verb, args=args), answer)  # type: ignore[arg-type]
        self.loop.advance(0)
        return answer

    def up(self, *processes: ProcessSpec, **args: Any) -> Answer:
        """Start and let everything settle."""
        answer = self.ask("start", *processes, **args)
        self.loop.advance(1)
        assert answer.done, answer.steps
        return answer

    def instance(self, name: str, slot: int = 0, path: str | None = None) -> InstanceHandle:
        stack = self.assembly.keeper.stack(path or self.path)
        return stack.processes[name].instances[slot]

    def status(self) -> dict[str, str]:
        """What the STATUS column says, by label."""
        return {handle.name: handle.machine.status for handle in self.supervisor.instances()}

    def events(self, *kinds: str) -> list[str]:
        return [
            str(event["text"]) for event in self.supervisor.events.last(1000) if not kinds or event["kind"] in kinds
        ]

    def changed(self, process: ProcessSpec, **fields: Any) -> ProcessSpec:
        return dataclasses.replace(process, **fields)

    def close(self) -> None:
        """Stop everything; nothing may be left."""
        self.ask("shutdown")
        self.loop.advance(60)
        assert self.system.living() == []
        assert all(handle.down for handle in self.supervisor.instances())
        self.loop.advance(60)
        assert self.loop.timers == 0, "timers are left"
        assert not self.events("ignored"), "something happened that cannot happen"
        assert not self.events("internal-error")
        self.assembly.journal.close()
        self.assembly.events.close()
        self.loop.close()
