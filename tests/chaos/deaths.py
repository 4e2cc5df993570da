"""Deaths: SIGKILL of anything, alone, in pairs, and in the middle of something."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chaos.action import BEGUN, FEWER, WHILE, Done, a_command, a_worker, a_zygote, fill, the_other
from chaos.stack import SERVICES
from support.waiting import wait_until

if TYPE_CHECKING:
    from random import Random

    from chaos.world import World

__all__ = [
    "kill_command",
    "kill_in_reload",
    "kill_supervisor",
    "kill_supervisor_and_command",
    "kill_supervisor_and_worker",
    "kill_supervisor_and_zygote",
    "kill_supervisor_beside_stopped",
    "kill_supervisor_in_reload",
    "kill_supervisor_in_verb",
    "kill_supervisor_on_full_disk",
    "kill_supervisor_twice",
    "kill_worker",
    "kill_zygote",
    "kill_zygote_and_worker",
]


def kill_worker(world: World, rng: Random) -> Done:
    """kill -9 of a worker: what was in flight on it may be lost."""
    service, label, pid = a_worker(world, rng)
    world.kill(pid)
    events = (("ended", service, "SIGKILL"),)
    return Done(what=f"{label}, pid {pid}", touched=frozenset({label}), gone=frozenset({pid}), events=events)


def kill_zygote(world: World, rng: Random) -> Done:
    """kill -9 of a zygote: its workers live on, and it is replaced."""
    service, pid = a_zygote(world, rng)
    world.kill(pid)
    return Done(what=f"of {service}, pid {pid}", gone=frozenset({pid}), events=(("zygote-died", service, ""),))


def kill_zygote_and_worker(world: World, rng: Random) -> Done:
    """kill -9 of a worker, and of the zygote its successor would be forked from."""
    service, label, pid = a_worker(world, rng)
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
    name, pid = a_command(world, rng)
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
    _, label, worker = a_worker(world, rng, siblings=True)
    pid = world.kill_supervisor()
    world.kill(worker)
    world.ox.ok("status")
    world.new_era()
    what = f"pid {pid}, then {label}, pid {worker}"
    return Done(what=what, touched=frozenset({label}), gone=frozenset({worker}), supervisor=True)


def kill_supervisor_and_command(world: World, rng: Random) -> Done:
    """While there is no supervisor a command dies too, with what it wrote since: its pipe is nobody's any more."""
    name, victim = a_command(world, rng)
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


def kill_in_reload(world: World, rng: Random) -> Done:
    """kill -9 of a worker in the middle of a reload: it ends well or aborts, and all workers are of one release."""
    service, label, pid = a_worker(world, rng)
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
    service, zygote = a_zygote(world, rng)
    pid = world.kill_supervisor()
    world.kill(zygote)
    world.traffic.answers(FEWER)
    world.ox.ok("status")
    world.new_era()
    return Done(what=f"pid {pid}, then the zygote of {service}, {zygote}", gone=frozenset({zygote}), supervisor=True)


def kill_supervisor_beside_stopped(world: World, rng: Random) -> Done:
    """A worker stands still while the supervisor dies and the next one comes; it goes on later, and is the same."""
    service, label, worker = a_worker(world, rng)
    with world.stopped(worker):
        pid = world.kill_supervisor()
        world.ox.ok("status")
        world.new_era()
        world.traffic.answers(FEWER, the_other(service))
    return Done(what=f"pid {pid}, while {label}, pid {worker}, stood still", supervisor=True)


def kill_supervisor_on_full_disk(world: World, rng: Random) -> Done:
    """The disk of a log is full when the supervisor dies: lines of that log that it held are lost, and all else goes on."""
    position = world.events.position()
    ballast = fill(world)
    world.events.wait(position, "log-trouble", "spiller")
    pid = world.kill_supervisor()
    world.ox.ok("status")
    world.new_era()
    world.traffic.answers(FEWER)
    ballast.unlink()
    return Done(what=f"pid {pid}", supervisor=True, ring=True)
