"""Every call of the port fails with every error it plausibly has, once and until further notice, at every stage.

Three kinds of processes are started, crash, are reloaded and stopped, and during one of these stages one call fails. The
loop never sees an exception, what could not be done is told with its reason, nothing is leaked, and as soon as the call
works again everything does.
"""

from __future__ import annotations

import errno
import math
import os

import pytest

from oxherd.config.model import Command, HostSpec, HostWay, LimitSpec
from oxherd.core.exits import ExitStatus
from oxherd.core.restart import RestartPolicy
from oxherd.errors import SpawnError
from support.faulty import FaultySystem
from support.services import unused_port
from support.workbench import Workbench, spec

KILLED = ExitStatus(signal=9)

SCARCE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

# Of each call, the errors that the calls behind it are documented to have and that no program can prevent.
PLAUSIBLE = {
    "launch": (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EIO),
    "open_sink": (*SCARCE, errno.ENOSPC, errno.EROFS, errno.EIO),
    "exit_of": (errno.EINVAL, errno.ENOMEM),
    "next_dead": (errno.EINVAL, errno.ENOMEM),
    "signal": (errno.EPERM, errno.EINVAL, errno.EAGAIN),
    "tree": SCARCE,
    "survey": SCARCE,
    "leftovers": SCARCE,
    "kill_all": (*SCARCE, errno.EPERM),
    "sample": (*SCARCE, errno.ESRCH),
    "pss": (*SCARCE, errno.EACCES),
    "accepting": (*SCARCE, errno.EPERM),
    "stop_accepting": (*SCARCE, errno.EPERM),
    "established": SCARCE,
}
# What these bring is a figure or a hint, without which all goes on as well; it shows as unknown.
UNTOLD = {"sample", "pss", "accepting", "established"}
KINDS = ("command", "hosted", "executed", "passed")
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
        self.answers: list[object] = []

    def play(self, stage: str) -> None:
        """Do what the stage is about, and let a while pass."""
        getattr(self, stage)()
        self.bench.loop.advance(20)

    def start(self) -> None:
        self.answers.append(self.bench.ask("start", self.spec))

    def reload(self) -> None:
        self.answers.append(self.bench.ask("reload", self.spec))

    def stop(self) -> None:
        self.answers.append(self.bench.ask("stop"))

    def crash(self) -> None:
        for worker in self.workers()[:1]:
            self.bench.system.leave_behind(worker)
            self.bench.system.end(worker, KILLED)

    def workers(self):
        """Who lives of the process, zygotes and leftovers aside."""
        return [
            one
            for one in self.bench.system.living()
            if "zygote" not in one.mark.split("/") and not one.orphan
        ]

    def told(self) -> str:
        """Everything that was said to anybody."""
        return "\n".join([*self.bench.events(), *(f"{answer.value} {answer.problem}" for answer in self.answers)])


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
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("call", "number"),
    [
        pytest.param(call, number, id=f"{call}-{errno.errorcode[number]}")
        for call, numbers in PLAUSIBLE.items()
        for number in numbers
    ],
)
def test_a_call_that_fails(bench, call, number, kind, stage, times):
    """The loop goes on, the reason is told, nothing leaks, and with the fault all its consequences end."""
    stories = Stories(bench, kind)
    for before in STAGES[: STAGES.index(stage)]:
        stories.play(before)
    bench.system.break_down(call, error_of(call, number), times=times)
    stories.play(stage)
    bench.system.heal()
    if bench.system.hits[call] and call not in UNTOLD:
        assert os.strerror(number) in stories.told()
    # Whatever state that left it in, a person gets it up again, and it behaves as if nothing had been.
    bench.loop.advance(60)
    stories.play("start")
    assert set(bench.status().values()) == {"running"}, (bench.status(), bench.events()[-20:])
    stories.play("crash")
    assert len(stories.workers()) == 2
    assert set(bench.status().values()) == {"running"}
    stories.play("reload")
    assert len(stories.workers()) == 2
    stories.play("stop")
    assert set(bench.status().values()) == {"stopped"}
    assert bench.system.living() == []
    assert all(sink.open_pipes == 0 for sink in bench.system.sinks.values())
