"""From names and ``--config`` to stacks: what a command is about."""

from __future__ import annotations

import os

from oxherd.cli.naming import listed, unknown_process
from oxherd.cli.where import OXFILE, absolute, every_supervisor, oxfile_here
from oxherd.config.discovery import discover
from oxherd.errors import ConfigError, UsageError
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from oxherd.control.paths import Home

__all__ = ["Target", "find_paths", "find_target", "find_targets", "share_names"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A stack, and the processes of it that are meant; none are all."""

    path: str
    names: tuple[str, ...] = ()


def find_paths(configs: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """Return the absolute paths of the oxfiles that apply: those given, the one here, or the user's own; maybe none.

    A path that was given need not be there: that is for the reader of oxfiles to say.
    """
    if configs:
        return list(dict.fromkeys(absolute(path) for path in configs))
    here = oxfile_here()
    if here is not None:
        return [here]
    try:
        return [absolute(discover(None, "/", environ).path)]
    except ConfigError:
        return []


def find_targets(
    home: Home, configs: Sequence[str], names: Sequence[str], environ: Mapping[str, str] | None = None
) -> list[Target]:
    """Return the stacks a command is about.

    Where no oxfile is given and none is in this directory, names are looked up among the stacks of the supervisor.

    Raises:
        UsageError: Nothing is meant, or a name means nothing or several things.
        NoSupervisorError: Names have to be looked up and there is nobody to ask.
    """
    given = find_paths(configs, os.environ if environ is None else environ)
    if names and (len(configs) > 1 or (not configs and oxfile_here() is None)):
        stacks = _known_stacks(home)
        if not configs:
            return _look_up_all(names, stacks)
        return share_names({path: stacks.get(path, ()) for path in given}, names)
    if not given:
        raise no_oxfile()
    return [Target(path=path, names=tuple(names)) for path in given]


def find_target(home: Home, config: str | None, names: Sequence[str]) -> Target:
    """Return the one stack that a command is about, for commands that take one.

    Raises:
        UsageError: Nothing is meant, or the names belong to several stacks.
        NoSupervisorError: Names have to be looked up and there is nobody to ask.
    """
    targets = find_targets(home, [config] if config else [], names)
    if len(targets) > 1:
        raise UsageError(
            f"the names belong to several stacks: {listed(target.path for target in targets)}",
            hint="choose one with --config FILE",
            code="OX242",
        )
    return targets[0]


def share_names(processes: Mapping[str, Sequence[str]], names: Sequence[str]) -> list[Target]:
    """Give each name to the stacks that have such a process.

    Args:
        processes: The names of the processes by the path of their stack.
        names: What was typed; none are all of every stack.

    Raises:
        UsageError: A name fits no stack.
    """
    if not names:
        return [Target(path=path) for path in processes]
    for name in names:
        if not any(_base(name) in known for known in processes.values()):
            raise unknown_process(name, [process for known in processes.values() for process in known])
    shared = [
        Target(path=path, names=tuple(name for name in names if _base(name) in known))
        for path, known in processes.items()
    ]
    return [target for target in shared if target.names]


def no_oxfile() -> UsageError:
    """Return the error for a directory that says nothing."""
    return UsageError(
        f"there is no {OXFILE} in this directory",
        hint="go where it is, name it with --config FILE, or let `oxherd init` write one",
        code="OX240",
    )


def _known_stacks(home: Home) -> dict[str, list[str]]:
    """Return the processes of every stack that a supervisor of this home knows."""
    stacks: dict[str, list[str]] = {}
    for _, client in every_supervisor(home):
        with client:
            answered = client.request("stacks", timeout=10).get("stacks")
        for stack in answered if isinstance(answered, list) else []:
            processes = stack.get("processes")
            stacks[str(stack.get("stack"))] = [str(name) for name in processes] if isinstance(processes, list) else []
    return stacks


def _look_up_all(names: Sequence[str], stacks: Mapping[str, Sequence[str]]) -> list[Target]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(_look_up(name, stacks).path, []).append(name)
    return [Target(path=path, names=tuple(chosen)) for path, chosen in found.items()]


def _look_up(name: str, stacks: Mapping[str, Sequence[str]]) -> Target:
    holders = [path for path, processes in stacks.items() if _base(name) in processes]
    if not holders:
        raise unknown_process(name, [process for processes in stacks.values() for process in processes])
    if len(holders) > 1:
        raise UsageError(
            f'"{name}" is in {len(holders)} stacks: {listed(holders)}',
            hint=f"say which: --config {holders[0]}",
            code="OX241",
        )
    return Target(path=holders[0], names=(name,))


def _base(name: str) -> str:
    return name.partition(":")[0]
