"""What is done to the stack, one action a step, and what each may touch.

An action says which instances may have another pid afterwards, which processes it killed, and which events have to tell of
it; everything else has to be as it was.
"""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from chaos.stack import COMMANDS, SERVICES
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from chaos.world import World

__all__ = ["ACTIONS", "Action", "Done"]

# Requests that are answered while something is out of order: that is what measures how long, and it needs no clock.
WHILE = 150
FEWER = 40

# The first that is told of a restart, a scale or an apply.
BEGUN = {"waiting", "stopping", "restarting", "started"}


@dataclass(frozen=True, kw_only=True)
class Done:
    """What was done.

    Attributes:
        what: In words, with pids.
        touched: Instances (``web:0``) and processes (``web``) that may have another pid now.
        gone: Pids that must not be shown any more.
        events: Kind, process (None: any) and a part of the text of events that have to be there.
        supervisor: Whether there may be another supervisor now.
        unread: Programs that died while there was no supervisor: what was in their pipes is lost.
        ring: Whether a supervisor died that held lines for a full disk.
    """

    what: str
    touched: frozenset[str] = frozenset()
    gone: frozenset[int] = frozenset()
    events: tuple[tuple[str, str | None, str], ...] = ()
    supervisor: bool = False
    unread: frozenset[int] = frozenset()
    ring: bool = False


@dataclass(frozen=True, kw_only=True)
class Action:
    """One kind of thing to do.

    Attributes:
        name: For the command line and the table.
        do: Does it; the randomness is all it may decide by.
        needs: Returns why it cannot be done here, or "".
    """

    name: str
    do: Callable[[World, Random], Done]
    needs: Callable[[World], str] = field(default=lambda _: "")


def _worker(world: World, rng: Random, *, siblings: bool = False) -> tuple[str, str, int]:
    """Choose a worker: its service, its label, its pid; where it must have siblings, another one is started first."""
    service = rng.choice(SERVICES)
    if siblings and world.stack.count(service) == 1:
        world.ox.ok("scale", f"{service}=2")
        world.stack.scaled[service] = 2
    label = f"{service}:{rng.randrange(world.stack.count(service))}"
    return service, label, world.ox.pid(label)


def _zygote(world: World, rng: Random) -> tuple[str, int]:
    """Choose a zygote: its service and its pid."""
    service = rng.choice(SERVICES)
    (pid,) = world.zygotes()[service]
    return service, pid


def _command(world: World, rng: Random) -> tuple[str, int]:
    name = rng.choice([name for name in COMMANDS if f"{name}:0" in world.stack.running()])
    return name, world.ox.pid(name)


def _other(service: str) -> str:
    return SERVICES[1 - SERVICES.index(service)]


# -- deaths ---------------------------------------------------------------------------------------------------------


def kill_worker(world: World, rng: Random) -> Done:
    """kill -9 of a worker: what was in flight on it may be lost."""
    service, label, pid = _worker(world, rng)
    world.kill(pid)
    events = (("ended", service, "SIGKILL"),)
    return Done(what=f"{label}, pid {pid}", touched=frozenset({label}), gone=frozenset({pid}), events=events)


def kill_zygote(world: World, rng: Random) -> Done:
    """kill -9 of a zygote: its workers live on, and it is replaced."""
    service, pid = _zygote(world, rng)
    world.kill(pid)
    return Done(what=f"of {service}, pid {pid}", gone=frozenset({pid}), events=(("zygote-died", service, ""),))


def kill_zygote_and_worker(world: World, rng: Random) -> Done:
    """kill -9 of a worker, and of the zygote its successor would be forked from."""
    service, label, pid = _worker(world, rng)
    (zygote,) = world.zygotes()[service]
    world.kill(zygote)
    world.kill(pid)
    return Done(
        what=f"{label}, pid {pid}, and its zygote {zygote}",
        touched=frozenset({label}),
        gone=frozenset({pid, zygote}),
        events=(("zygote-died", service, ""), ("ended", service, "")),
    )


def kill_command(world: World, rng: Random) -> Done:
    """kill -9 of a command."""
    name, pid = _command(world, rng)
    world.kill(pid)
    events = (("ended", name, "SIGKILL"),)
    return Done(what=f"{name}, pid {pid}", touched=frozenset({name}), gone=frozenset({pid}), events=events)


def kill_supervisor(world: World, rng: Random) -> Done:
    """kill -9 of the supervisor; the services go on; the next verb brings a new one, which adopts what lives."""
    position = world.events.position()
    pid = world.kill_supervisor()
    world.traffic.answers(WHILE)
    verb = rng.choice([("status",), ("start",), ("apply",)])
    world.ox.ok(*verb)
    world.new_era()
    assert world.events.matching(position, "supervisor-started"), "no event tells of the new supervisor"
    return Done(what=f"pid {pid}, then `oxherd {verb[0]}`", supervisor=True)


def kill_supervisor_and_worker(world: World, rng: Random) -> Done:
    """While there is no supervisor a worker dies too; its sibling serves all, and the next supervisor replaces it."""
    _, label, worker = _worker(world, rng, siblings=True)
    pid = world.kill_supervisor()
    world.kill(worker)
    world.ox.ok("status")
    world.new_era()
    what = f"pid {pid}, then {label}, pid {worker}"
    return Done(what=what, touched=frozenset({label}), gone=frozenset({worker}), supervisor=True)


def kill_supervisor_and_command(world: World, rng: Random) -> Done:
    """While there is no supervisor a command dies too, with what it wrote since: its pipe is nobody's any more."""
    name, victim = _command(world, rng)
    pid = world.kill_supervisor()
    world.traffic.answers(FEWER)
    world.kill(victim)
    world.ox.ok("status")
    world.new_era()
    what = f"pid {pid}, then {name}, pid {victim}"
    gone = frozenset({victim})
    return Done(what=what, touched=frozenset({name}), gone=gone, supervisor=True, unread=gone)


def kill_supervisor_twice(world: World, rng: Random) -> Done:
    """The new supervisor is killed as soon as there is one."""
    first = world.kill_supervisor()
    world.ox.ok("status")
    second = world.kill_supervisor()
    world.ox.ok("status")
    world.new_era()
    return Done(what=f"pids {first} and {second}", supervisor=True)


# -- standstills ----------------------------------------------------------------------------------------------------


def stop_worker(world: World, rng: Random) -> Done:
    """SIGSTOP of a worker, SIGCONT later: its sibling takes new connections, those it has wait."""
    service, label, pid = _worker(world, rng)
    with world.stopped(pid):
        world.traffic.answers(WHILE, _other(service))
    return Done(what=f"{label}, pid {pid}")


def stop_zygote(world: World, rng: Random) -> Done:
    """SIGSTOP of a zygote while one of its workers is killed: the successor comes when the zygote goes on."""
    service, zygote = _zygote(world, rng)
    label = f"{service}:{rng.randrange(world.stack.count(service))}"
    pid = world.ox.pid(label)
    with world.stopped(zygote):
        world.kill(pid)
        world.traffic.answers(WHILE, _other(service))
    events = (("ended", service, "SIGKILL"),)
    what = f"of {service}, pid {zygote}, and SIGKILL of {label}, pid {pid}"
    return Done(what=what, touched=frozenset({label}), gone=frozenset({pid}), events=events)


def stop_command(world: World, rng: Random) -> Done:
    """SIGSTOP of a command, SIGCONT later."""
    name, pid = _command(world, rng)
    with world.stopped(pid):
        world.traffic.answers(FEWER)
    return Done(what=f"{name}, pid {pid}")


def stop_supervisor(world: World, rng: Random) -> Done:
    """SIGSTOP of the supervisor, SIGCONT later: all serve, and who writes more than a pipe holds waits."""
    pid = world.ox.supervisor
    with world.stopped(pid):
        world.traffic.answers(WHILE)
    return Done(what=f"pid {pid}")


# -- verbs ----------------------------------------------------------------------------------------------------------


def reload(world: World, rng: Random) -> Done:
    """A reload to good code: afterwards only the new release answers."""
    service = rng.choice([*SERVICES, ""])
    release = world.stack.deploy()
    chosen = [service] if service else list(SERVICES)
    result = world.ox.cli("reload", *chosen)
    assert result.code == 0, result
    for name in chosen:
        world.wait_release(name, release)
    events = tuple(("reloaded", name, "") for name in chosen)
    return Done(what=f"{' '.join(chosen)} to release {release}", touched=frozenset(chosen), events=events)


def reload_broken(world: World, rng: Random) -> Done:
    """A reload to broken code: exit code 1, and nobody is touched."""
    service = rng.choice(SERVICES)
    mode = rng.choice(["import", "health", "exit", *(["startup"] if service == "web" else [])])
    before = world.stack.release
    world.stack.deploy(mode)
    try:
        result = world.ox.cli("reload", service)
    finally:
        world.stack.undeploy(before)
    assert result.code == 1, result
    return Done(what=f"{service}, broken in its {mode}", events=(("reload-failed", service, ""),))


def kill_in_reload(world: World, rng: Random) -> Done:
    """kill -9 of a worker in the middle of a reload: it ends well or aborts, and all workers are of one release."""
    service, label, pid = _worker(world, rng)
    old, release = world.stack.release, world.stack.deploy()
    position = world.events.position()
    with world.verb("reload", service) as verb:
        world.events.wait(position, "reloading", service, meanwhile=verb.ended)
        world.kill(pid)
        code = verb.wait()
    assert code in {0, 1}, f"the reload ended with {code}: {verb.said}"
    if code:
        world.stack.undeploy(old)
    world.wait_release(service, old if code else release)
    what = f"{label}, pid {pid}, in a reload, which {'failed' if code else 'went on'}"
    return Done(what=what, touched=frozenset({service}), gone=frozenset({pid}))


def kill_supervisor_in_reload(world: World, rng: Random) -> Done:
    """kill -9 of the supervisor in the middle of a reload: whatever becomes of it, the services go on."""
    service = rng.choice(SERVICES)
    release = world.stack.deploy()
    position = world.events.position()
    with world.verb("reload", service) as verb:
        world.events.wait(position, "reloading", service, meanwhile=verb.ended)
        pid = world.kill_supervisor()
        code = verb.wait()
    world.traffic.answers(FEWER)
    world.ox.ok("status")
    world.new_era()
    what = f"pid {pid}, in a reload of {service} to release {release}, which ended with {code}"
    return Done(what=what, touched=frozenset({service}), supervisor=True)


def kill_supervisor_in_verb(world: World, rng: Random) -> Done:
    """kill -9 of the supervisor while it restarts, scales or applies: what was written down is brought about.

    A restart is of a command: a service that was stopped to be started again would have nobody until the next supervisor.
    """
    stack = world.stack
    service, verb = rng.choice(SERVICES), rng.choice(["restart", "scale", "apply"])
    now = stack.count(service)
    wanted = now % 3 + 1
    words, touched = (verb,), frozenset({"writer"})
    match verb:
        case "restart":
            words = ("restart", "writer")
        case "apply":
            stack.turns["writer"] = stack.turns.get("writer", 0) + 1
            world.ox.oxfile(stack.oxfile())
        case _:
            words = ("scale", f"{service}={wanted}")
            touched = frozenset(f"{service}:{slot}" for slot in range(min(now, wanted), max(now, wanted)))
    position = world.events.position()
    with world.verb(*words) as running:
        begun = lambda: any(event["kind"] in BEGUN for event in world.events.since(position))  # noqa: E731
        wait_until(lambda: running.ended() or begun(), "its beginning")
        pid = world.kill_supervisor()
        code = running.wait()
    world.ox.ok("status")
    world.new_era()
    if verb == "scale":
        # What is wanted is written down before anything is done about it; it may not have come to that.
        stack.scaled[service] = wanted
        world.ox.ok("scale", f"{service}={wanted}")
    if verb == "apply":
        world.ox.ok("apply")
    what = f"pid {pid}, in `oxherd {' '.join(words)}`, which ended with {code}"
    return Done(what=what, touched=touched, supervisor=True)


def kill_supervisor_and_zygote(world: World, rng: Random) -> Done:
    """While there is no supervisor a zygote dies too; its workers live on, and the next supervisor makes another one."""
    service, zygote = _zygote(world, rng)
    pid = world.kill_supervisor()
    world.kill(zygote)
    world.traffic.answers(FEWER)
    world.ox.ok("status")
    world.new_era()
    return Done(what=f"pid {pid}, then the zygote of {service}, {zygote}", gone=frozenset({zygote}), supervisor=True)


def kill_supervisor_beside_stopped(world: World, rng: Random) -> Done:
    """A worker stands still while the supervisor dies and the next one comes; it goes on later, and is the same."""
    service, label, worker = _worker(world, rng)
    with world.stopped(worker):
        pid = world.kill_supervisor()
        world.ox.ok("status")
        world.new_era()
        world.traffic.answers(FEWER, _other(service))
    return Done(what=f"pid {pid}, while {label}, pid {worker}, stood still", supervisor=True)


def kill_supervisor_on_full_disk(world: World, rng: Random) -> Done:
    """The disk of a log is full when the supervisor dies: lines of that log that it held are lost, and all else goes on."""
    position = world.events.position()
    ballast = _fill(world)
    world.events.wait(position, "log-trouble", "spiller")
    pid = world.kill_supervisor()
    world.ox.ok("status")
    world.new_era()
    world.traffic.answers(FEWER)
    ballast.unlink()
    return Done(what=f"pid {pid}", supervisor=True, ring=True)


def scale(world: World, rng: Random) -> Done:
    """More workers, or fewer; those that stay are not touched."""
    service = rng.choice(SERVICES)
    now = world.stack.count(service)
    wanted = rng.choice([number for number in (1, 2, 3, 4) if number != now])
    world.ox.ok("scale", f"{service}={wanted}")
    world.stack.scaled[service] = wanted
    kind = "started" if wanted > now else "stopped"
    labels = frozenset(f"{service}:{slot}" for slot in range(min(now, wanted), max(now, wanted)))
    return Done(what=f"{service} from {now} to {wanted}", touched=labels, events=((kind, service, ""),))


def restart(world: World, rng: Random) -> Done:
    """A restart: connections wait for the new workers of a service, and none is refused."""
    name = rng.choice([*SERVICES, "writer", "single"])
    pids = {label: pid for label, pid in world.ox.pids().items() if label.startswith(f"{name}:")}
    world.ox.ok("restart", name)
    gone = frozenset(pid for pid in pids.values() if pid is not None)
    return Done(what=name, touched=frozenset({name}), gone=gone, events=(("started", name, ""),))


def stop_and_start(world: World, rng: Random) -> Done:
    """`oxherd stop` and `oxherd start` of a command."""
    name = rng.choice(["writer", "single"])
    pid = world.ox.pid(name)
    world.ox.ok("stop", name)
    world.ox.ok("start", name)
    events = (("stopped", name, ""), ("started", name, ""))
    return Done(what=f"{name}, pid {pid}", touched=frozenset({name}), gone=frozenset({pid}), events=events)


def edit(world: World, rng: Random) -> Done:
    """A good edit of the oxfile and `oxherd apply`: only what changed is touched."""
    stack = world.stack
    what = rng.choice(
        ["a comment", "extra", "writer", "single", *SERVICES, *(f"workers of {name}" for name in SERVICES)]
    )
    name = what.rpartition(" ")[2]
    touched = frozenset({name})
    if what == "a comment":
        stack.remark += 1
        touched = frozenset()
    elif what == "extra":
        stack.extra = not stack.extra
    elif what == name:
        stack.turns[name] = stack.turns.get(name, 0) + 1
    else:
        now, wanted = stack.count(name), rng.choice([number for number in (2, 3, 4) if number != stack.workers[name]])
        stack.workers[name] = wanted
        stack.scaled.pop(name, None)
        touched = frozenset(f"{name}:{slot}" for slot in range(min(now, wanted), max(now, wanted)))
    world.ox.oxfile(stack.oxfile())
    world.ox.ok("apply")
    return Done(what=what, touched=touched)


# What a person may get wrong, put behind a good oxfile.
MISTAKES = (
    "[processes.wbe]\ncomand = 'x'\n",
    "[processes.web.env]\nTWICE = 'a'\n",
    "max_restarts = 'many'\n",
    "[processes.broken\n",
    "[processes.other]\ncommand = 'true'\ndepends_on = ['nobody']\n",
)


def edit_badly(world: World, rng: Random) -> Done:
    """A bad edit: `apply`, `reload` and `restart` end with 2 and touch nothing."""
    mistake = rng.choice(MISTAKES)
    verb = rng.choice([("apply",), ("reload", "web"), ("restart", "writer")])
    world.ox.oxfile(world.stack.oxfile() + mistake)
    result = world.ox.cli(*verb)
    world.ox.oxfile(world.stack.oxfile())
    assert result.code == 2, result
    return Done(what=f"{mistake.splitlines()[0]!r}, then `oxherd {' '.join(verb)}`")


# -- the machine ----------------------------------------------------------------------------------------------------


def _fill(world: World) -> Path:
    """Leave no room on the small disk; return what has to go to make room again."""
    disk = world.stack.spill
    assert disk is not None
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    left = os.statvfs(disk).f_bavail
    assert left == 0, f"the disk has {left} blocks left"
    return ballast


def fill_disk(world: World, rng: Random) -> Done:
    """The disk of a log is full for a while: everybody serves, and the lines come later or are counted as dropped."""
    position = world.events.position()
    ballast = _fill(world)
    world.events.wait(position, "log-trouble", "spiller")
    world.traffic.answers(FEWER)
    ballast.unlink()
    world.events.wait(position, "log-recovered", "spiller")
    return Done(what="it was full for a while", events=(("log-trouble", "spiller", "No space left"),))


def remove_socket(world: World, rng: Random) -> Done:
    """Somebody removes the control socket: the next command finds the supervisor all the same."""
    pid = world.ox.supervisor
    world.ox.hang_up()
    os.unlink(world.ox.home.socket)
    wait_until(lambda: os.path.exists(world.ox.home.socket), "the socket to be back")
    world.ox.ok("status")
    world.ox.ok("start")
    return Done(what=f"of pid {pid}", events=(("socket", None, "it is back"),))


def upgrade(world: World, rng: Random) -> Done:
    """`oxherd daemon upgrade`: the same supervisor pid, the same children."""
    world.survivors = set(world.ox.marked())
    world.ox.hang_up()
    world.ox.ok("daemon", "upgrade")
    world.new_era()
    return Done(what="to the same version")


def hang_up(world: World, rng: Random) -> Done:
    """SIGHUP to the supervisor: log files are opened again."""
    pid = world.ox.supervisor
    os.kill(pid, signal.SIGHUP)
    return Done(what=f"pid {pid}")


def _no_small_disk(world: World) -> str:
    return "" if world.stack.spill is not None else "needs root to mount a small disk"


def _no_upgrade(world: World) -> str:
    return "" if world.ox.cli("daemon", "upgrade", "--help").code == 0 else "there is no `oxherd daemon upgrade`"


ACTIONS = {
    action.name: action
    for action in (
        Action(name="kill-worker", do=kill_worker),
        Action(name="kill-zygote", do=kill_zygote),
        Action(name="kill-zygote-and-worker", do=kill_zygote_and_worker),
        Action(name="kill-command", do=kill_command),
        Action(name="kill-supervisor", do=kill_supervisor),
        Action(name="kill-supervisor-and-worker", do=kill_supervisor_and_worker),
        Action(name="kill-supervisor-and-command", do=kill_supervisor_and_command),
        Action(name="kill-supervisor-twice", do=kill_supervisor_twice),
        Action(name="kill-supervisor-in-reload", do=kill_supervisor_in_reload),
        Action(name="kill-supervisor-in-verb", do=kill_supervisor_in_verb),
        Action(name="kill-supervisor-and-zygote", do=kill_supervisor_and_zygote),
        Action(name="kill-supervisor-beside-stopped", do=kill_supervisor_beside_stopped),
        Action(name="kill-supervisor-on-full-disk", do=kill_supervisor_on_full_disk, needs=_no_small_disk),
        Action(name="stop-worker", do=stop_worker),
        Action(name="stop-zygote", do=stop_zygote),
        Action(name="stop-command", do=stop_command),
        Action(name="stop-supervisor", do=stop_supervisor),
        Action(name="reload", do=reload),
        Action(name="reload-broken", do=reload_broken),
        Action(name="kill-in-reload", do=kill_in_reload),
        Action(name="scale", do=scale),
        Action(name="restart", do=restart),
        Action(name="stop-and-start", do=stop_and_start),
        Action(name="edit", do=edit),
        Action(name="edit-badly", do=edit_badly),
        Action(name="fill-disk", do=fill_disk, needs=_no_small_disk),
        Action(name="remove-socket", do=remove_socket),
        Action(name="upgrade", do=upgrade, needs=_no_upgrade),
        Action(name="sighup", do=hang_up),
    )
}
