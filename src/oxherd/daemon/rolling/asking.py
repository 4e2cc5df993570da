"""The verb ``reload``: what a person names becomes a transaction, and what came of that becomes an answer.

Processes that live under the clock, and single instances that are named, are none of it: they are restarted afterwards,
one instance after the other.
"""

from __future__ import annotations

from oxherd.config.model import ProcessType
from oxherd.daemon.handles import Pin
from oxherd.daemon.rolling.reload import Member
from oxherd.daemon.rows import row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from oxherd.config.model import ProcessSpec
    from oxherd.daemon.handles import ProcessHandle, StackHandle
    from oxherd.daemon.hooks import Offer
    from oxherd.daemon.rolling.reload import Reload
    from oxherd.daemon.stacks import Unit
    from oxherd.daemon.supervisor import Supervisor

    Item = dict[str, object]

__all__ = ["answer_of", "begin_reload", "members_of", "whole_services"]


def whole_services(units: Sequence[Unit]) -> tuple[list[Unit], list[Unit]]:
    """Return the units that are reloaded as one, and the rest."""
    whole = [unit for unit in units if unit.slot is None and unit.process.spec.type is ProcessType.SERVICE]
    return whole, [unit for unit in units if unit not in whole]


def members_of(supervisor: Supervisor, units: Sequence[Unit], offer: Offer) -> list[Member]:
    """Return the processes of a reload, with what an oxfile offers for each."""
    return [_member(supervisor, unit.process, offer) for unit in units]


def _member(supervisor: Supervisor, process: ProcessHandle, offer: Offer) -> Member:
    spec = offer.specs.get(process.name, process.spec)
    pin = Pin(spec=spec, generation=process.new_generation(), env=offer.env)
    slots = tuple(slot for slot, handle in sorted(process.instances.items()) if not handle.retired)
    wanted = _wanted(process, spec)
    return Member(
        process=process,
        order=tuple(slot for slot in slots if slot < wanted) or slots[:1] or (0,),
        pin=pin,
        prepare=_preparing(supervisor, process, pin),
    )


def _wanted(process: ProcessHandle, spec: ProcessSpec) -> int:
    if process.scale is not None and process.spec.instances == spec.instances:
        return process.scale
    return spec.instances


def _preparing(supervisor: Supervisor, process: ProcessHandle, pin: Pin) -> Callable[[Callable[[str], None]], None]:
    if not pin.spec.hosted and not pin.spec.passed:
        return lambda then: then("")
    return lambda then: supervisor.need_hosting().prepare(process, pin, then)


def begin_reload(
    supervisor: Supervisor,
    stack: StackHandle,
    members: Sequence[Member],
    *,
    show: Callable[[Item], None],
    then: Callable[[Reload], None],
) -> None:
    """Begin the transaction.

    Args:
        supervisor: Carries it out.
        stack: Whose processes they are.
        members: At least one.
        show: Takes progress.
        then: Called at its end.

    Raises:
        OperationError: One of them is being reloaded already.
    """
    names = ", ".join(member.process.name for member in members)
    supervisor.tell("reload", f"reloading {names}", None, stack=stack.name, stack_path=stack.path)
    supervisor.need_rolls().reload(members, show=show, done=then)


def answer_of(supervisor: Supervisor, reload: Reload) -> Item:
    """Return what is answered: the instances as they are now, what failed, and what was measured."""
    processes = [member.process for member in reload.members.values()]
    facts = reload.facts()
    failed: list[Item] = []
    if not reload.done:
        # The process that went wrong; those that were only taken back with it are told by their facts.
        culprit = reload.detail.partition(":")[0]
        failed = [
            {
                "name": fact["process"],
                "label": fact["process"],
                "instance": None,
                "reason": fact["text"],
                "traceback": fact["traceback"],
            }
            for fact in facts
            if fact["process"] == culprit or culprit not in reload.members
        ]
    handles = [handle for process in processes for _, handle in sorted(process.instances.items())]
    return {
        "instances": [row(supervisor, handle) for handle in handles],
        "failed": failed,
        "reloads": facts,
        "notes": [fact["note"] for fact in facts if fact["note"]],
    }
