"""Every call of the port fails with every error it plausibly has, once and until further notice, at every stage.

Three kinds of processes are started, crash, are reloaded and stopped, and during one of these stages one call fails. The
loop never sees an exception, what could not be done is told with its reason, nothing is leaked, and as soon as the call
works again everything does.
"""

from __future__ import annotations

import errno
import math
import os
import signal

import pytest

from oxherd.config.model import Command, HostSpec, HostWay, LimitSpec
from oxherd.core.exits import ExitStatus
from oxherd.core.restart import STABLE_AFTER, RestartPolicy
from oxherd.errors import SpawnError
from support.faulty import FaultySystem
from support.services import unused_port
from support.workbench import Answer, Workbench, spec

KILLED = ExitStatus(signal=9)

# Of each call, the errors that the calls behind it are documented to have and that no program can prevent.
PLAUSIBLE = {
    "launch": (errno.EAGAIN, errno.ENOMEM, errno.EMFILE),
    "open_sink": (errno.EMFILE, errno.ENOSPC, errno.EROFS),
    "open_pipe": (errno.ENFILE,),
    "exit_of": (errno.EINVAL,),
    "next_dead": (errno.ENOMEM,),
    "signal": (errno.EPERM, errno.EAGAIN),
    "tree": (errno.EMFILE,),
    "survey": (errno.ENFILE,),
    "leftovers": (errno.ENOMEM,),
    "kill_all": (errno.EMFILE, errno.EPERM),
    "sample": (errno.EMFILE,),
    "accepting": (errno.ENOMEM,),
    "stop_accepting": (errno.EMFILE,),
    "established": (errno.EMFILE,),
    "watch": (errno.ENOSPC,),
}
# What these bring is a figure or a hint, without which all goes on as well; it shows as unknown.
UNTOLD = {"sample", "accepting", "established"}
KINDS = ("command", "hosted", "executed", "passed")
# Calls that only some kinds need.
NEEDED = {
    "accepting": ("passed",),
    "stop_accepting": ("passed",),
    "established": ("passed",),
    "watch": ("hosted", "executed"),  # the fake programs of the others have no descriptor to be watched
}
STAGES = ("start", "crash", "reload", "stop")


def process(kind: str, port: int):
    """Return one process of a kind, two instances of it, with limits so that it is weighed."""
    fields = {
        "instances": 2,
        "restart": RestartPolicy(max_restarts=0),
        "limits": LimitSpec(memory=1 << 40),
    }
    if kind == "command":
        return spec("web", **fields)
    if kind == "passed":
        host = HostSpec(
            way=HostWay.PASSED,
            engine="server",
            argv=("server", "--fd", "{fd:0}"),
            bind=(f"127.0.0.1:{port}",),
            balance="shared",
            overlap=True,
            linger=2.0,
        )
        return spec("web", host=host, **fields)
    host = HostSpec(
        python="/usr/bin/python3",
        target="main:app",
        bind=(f"127.0.0.1:{port}",),
        preload="false" if kind == "executed" else "auto",
        balance="shared",
    )
    return spec("web", host=host, command=Command(text="uvicorn main:app", argv=("uvicorn", "main:app")), **fields)


class Stories:
    """What is done to a process."""

    def __init__(self, bench: Workbench, kind: str) -> None:
        self.bench = bench
        self.kind = kind
        self.spec = process(kind, unused_port())
        self.answers: list[Answer] = []
        self.heard = 0

    def play(self, stage: str) -> None:
        """Do what the stage is about, and let a while pass, after which nothing is remembered against it."""
        getattr(self, stage)()
        self.bench.loop.advance(STABLE_AFTER + 1)

    def start(self) -> None:
        self.answers.append(self.bench.ask("start", self.spec))

    def reload(self) -> None:
        self.answers.append(self.bench.ask("reload", self.spec))

    def stop(self) -> None:
        for worker in self.workers()[:1]:
            worker.ignores.add(signal.SIGTERM)  # so that it has to be killed, with all it has started
        self.answers.append(self.bench.ask("stop"))

    def crash(self) -> None:
        for worker in self.workers()[:1]:
            self.bench.system.leave_behind(worker)
            self.bench.system.end(worker, KILLED)

    def workers(self):
        """Who lives of the process, zygotes and leftovers aside."""
        return [one for one in self.bench.system.living() if "zygote" not in one.mark.split("/") and not one.orphan]

    def forget(self) -> None:
        """What was said is heard."""
        self.answers.clear()
        self.heard = len(self.bench.events())

    def told(self) -> str:
        """Everything that was said to anybody since."""
        return "\n".join(
            [*self.bench.events()[self.heard :], *(f"{answer.value} {answer.problem}" for answer in self.answers)]
        )


@pytest.fixture
def bench(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    bench = Workbench(tmp_path, FaultySystem())
    yield bench
    bench.system.heal()
    bench.close()
    assert set(os.listdir("/proc/self/fd")) <= before


def error_of(call: str, number: int):
    """Return what makes the error of a call."""
    if call == "launch":
        return lambda: SpawnError("starting a new process", number, "", os.strerror(number))
    return lambda: OSError(number, os.strerror(number))


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_fault(bench, kind):
    """What the stories are when nothing is wrong."""
    stories = Stories(bench, kind)
    for stage in STAGES:
        stories.play(stage)
        assert len(stories.workers()) == (0 if stage == "stop" else 2)
    assert set(bench.status().values()) == {"stopped"}


@pytest.mark.parametrize("times", [1, math.inf], ids=["once", "lasting"])
@pytest.mark.parametrize(
    ("call", "number", "kind"),
    [
        pytest.param(call, number, kind, id=f"{call}-{errno.errorcode[number]}-{kind}")
        for call, numbers in PLAUSIBLE.items()
        for number in numbers
        for kind in NEEDED.get(call, KINDS)
    ],
)
def test_a_call_that_fails(bench, call, number, kind, times):
    """The loop goes on, the reason is told, nothing leaks, and with the fault all its consequences end."""
    stories = Stories(bench, kind)
    for stage in STAGES:
        hits = bench.system.hits[call]
        bench.system.break_down(call, error_of(call, number), times=times)
        stories.play(stage)
        bench.system.heal()
        looked_only = call in UNTOLD or (call == "tree" and kind == "passed")
        if bench.system.hits[call] > hits and not looked_only:
            assert os.strerror(number) in stories.told()
        stories.forget()
        # Whatever state that left it in, a person gets it up again, and it behaves as if nothing had been.
        bench.loop.advance(30)
        if stage != "stop":
            stories.play("start")
            assert set(bench.status().values()) == {"running"}, (stage, bench.status(), bench.events()[-20:])
            assert len(stories.workers()) == 2
    assert bench.system.hits[call], "it was never called"
    for stage in ("start", "crash", "reload"):
        stories.play(stage)
        assert set(bench.status().values()) == {"running"}, stage
        assert len(stories.workers()) == 2
    stories.play("stop")
    assert set(bench.status().values()) == {"stopped"}
    assert bench.system.living() == []
    assert all(sink.open_pipes == 0 for sink in bench.system.sinks.values())
