"""What is done to the stack, one action a step, and what each may touch: all but the deaths, and the table of all.

An action says which instances may have another pid afterwards, which processes it killed, and which events have to tell of
it; everything else has to be as it was.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from chaos import deaths
from chaos.action import FEWER, WHILE, Action, Done, a_command, a_worker, a_zygote, fill, the_other
from chaos.stack import SERVICES
from support.waiting import wait_until

if TYPE_CHECKING:
    from random import Random

    from chaos.world import World

__all__ = ["ACTIONS"]

# -- standstills ----------------------------------------------------------------------------------------------------


def stop_worker(world: World, rng: Random) -> Done:
    """SIGSTOP of a worker, SIGCONT later: its sibling takes new connections, those it has wait."""
    service, label, pid = a_worker(world, rng)
    with world.stopped(pid):
        world.traffic.answers(WHILE, the_other(service))
    return Done(what=f"{label}, pid {pid}")


def stop_zygote(world: World, rng: Random) -> Done:
    """SIGSTOP of a zygote while one of its workers is killed: the successor comes when the zygote goes on."""
    service, zygote = a_zygote(world, rng)
    label = f"{service}:{rng.randrange(world.stack.count(service))}"
    pid = world.ox.pid(label)
    with world.stopped(zygote):
        world.kill(pid)
        world.traffic.answers(WHILE, the_other(service))
    # How it ended the zygote alone knows, and if it stands still for long that counts as unknown.
    events = (("ended", service, ""),)
    what = f"of {service}, pid {zygote}, and SIGKILL of {label}, pid {pid}"
    return Done(what=what, touched=frozenset({label}), gone=frozenset({pid}), events=events)


def stop_command(world: World, rng: Random) -> Done:
    """SIGSTOP of a command, SIGCONT later."""
    name, pid = a_command(world, rng)
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


def fill_disk(world: World, rng: Random) -> Done:
    """The disk of a log is full for a while: everybody serves, and the lines come later or are counted as dropped."""
    position = world.events.position()
    ballast = fill(world)
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


def no_small_disk(world: World) -> str:
    return "" if world.stack.spill is not None else "needs root to mount a small disk"


def _no_upgrade(world: World) -> str:
    return "" if world.ox.cli("daemon", "upgrade", "--help").code == 0 else "there is no `oxherd daemon upgrade`"


ACTIONS = {
    action.name: action
    for action in (
        Action(name="kill-worker", do=deaths.kill_worker),
        Action(name="kill-zygote", do=deaths.kill_zygote),
        Action(name="kill-zygote-and-worker", do=deaths.kill_zygote_and_worker),
        Action(name="kill-command", do=deaths.kill_command),
        Action(name="kill-supervisor", do=deaths.kill_supervisor),
        Action(name="kill-supervisor-and-worker", do=deaths.kill_supervisor_and_worker),
        Action(name="kill-supervisor-and-command", do=deaths.kill_supervisor_and_command),
        Action(name="kill-supervisor-twice", do=deaths.kill_supervisor_twice),
        Action(name="kill-supervisor-in-reload", do=deaths.kill_supervisor_in_reload),
        Action(name="kill-supervisor-in-verb", do=deaths.kill_supervisor_in_verb),
        Action(name="kill-supervisor-and-zygote", do=deaths.kill_supervisor_and_zygote),
        Action(name="kill-supervisor-beside-stopped", do=deaths.kill_supervisor_beside_stopped),
        Action(name="kill-supervisor-on-full-disk", do=deaths.kill_supervisor_on_full_disk, needs=no_small_disk),
        Action(name="stop-worker", do=stop_worker),
        Action(name="stop-zygote", do=stop_zygote),
        Action(name="stop-command", do=stop_command),
        Action(name="stop-supervisor", do=stop_supervisor),
        Action(name="reload", do=reload),
        Action(name="reload-broken", do=reload_broken),
        Action(name="kill-in-reload", do=deaths.kill_in_reload),
        Action(name="scale", do=scale),
        Action(name="restart", do=restart),
        Action(name="stop-and-start", do=stop_and_start),
        Action(name="edit", do=edit),
        Action(name="edit-badly", do=edit_badly),
        Action(name="fill-disk", do=fill_disk, needs=no_small_disk),
        Action(name="remove-socket", do=remove_socket),
        Action(name="upgrade", do=upgrade, needs=_no_upgrade),
        Action(name="sighup", do=hang_up),
    )
}
