"""The verbs of the control protocol: arguments in, answers out.

The table of verbs stands in ``docs/reference/protocol.md``. A verb checks its arguments, asks the keeper for the
batches, runs them as an operation and answers when that is over.
"""

from __future__ import annotations

from oxherd.config.model import Oxfile
from oxherd.daemon.decoding import Decoder
from oxherd.daemon.hooks import Offer
from oxherd.daemon.looking import Looking, names_of
from oxherd.daemon.operations import Operation
from oxherd.daemon.rows import progress, row
from oxherd.daemon.stacks import Unit
from oxherd.errors import OperationError, OxherdError, ProtocolError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.control.request import Request
    from oxherd.daemon.cards import CardWriter
    from oxherd.daemon.control_server import Reply
    from oxherd.daemon.handles import StackHandle
    from oxherd.daemon.hooks import Hook, Hooks
    from oxherd.daemon.operations import Outcome
    from oxherd.daemon.rolling.reload import Reload
    from oxherd.daemon.sinks import Sinks
    from oxherd.daemon.stacks import Batches, StackKeeper
    from oxherd.daemon.supervisor import Supervisor

__all__ = ["Verbs"]

Args = dict[str, object]

_STARTING = frozenset({"start", "restart", "reload", "apply", "scale"})


class Verbs:
    """Answers requests.

    Args:
        supervisor: What there is.
        keeper: What may be done to it.
        sinks: Knows the log files.
        cards: Knows why processes ended.
        hooks: Runs what comes before a new generation.
        shutdown: Stops everything and ends the supervisor; calls back when all is down.
        upgrade: Becomes another version, run by an interpreter; answers before it does, or with what is in the way.
        facts: Extra facts for ``ping``.
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        keeper: StackKeeper,
        sinks: Sinks,
        cards: CardWriter,
        hooks: Hooks,
        shutdown: Callable[[Callable[[], None]], None],
        upgrade: Callable[[str, Callable[[str, OxherdError | None], None]], None],
        facts: Callable[[], dict[str, object]],
    ) -> None:
        """Keep the parts."""
        self._supervisor = supervisor
        self._keeper = keeper
        self._sinks = sinks
        self._hooks = hooks
        self._shutdown = shutdown
        self._upgrade = upgrade
        self._decoder = Decoder()
        self._verbs: dict[str, Callable[[Args, Reply], None]] = {
            **Looking(supervisor=supervisor, keeper=keeper, sinks=sinks, cards=cards, facts=facts).verbs,
            "start": self._start,
            "stop": self._stop,
            "restart": self._restart,
            "reload": self._reload,
            "apply": self._apply,
            "delete": self._delete,
            "scale": self._scale,
            "signal": self._signal,
            "reopen": self._reopen,
            "shutdown": self._stop_supervisor,
            "upgrade": self._upgrade_supervisor,
        }

    def dispatch(self, request: Request, reply: Reply) -> None:
        """Answer one request; what goes wrong becomes an error answer."""
        verb = self._verbs.get(request.verb)
        try:
            if verb is None:
                raise UsageError(
                    f"this supervisor does not know the verb {request.verb!r:.60}",
                    hint="its version differs from the command's: see `oxherd daemon status`",
                    code="OX220",
                )
            if self._supervisor.ending and request.verb in _STARTING:
                raise OperationError(
                    "the supervisor is stopping; it starts nothing any more",
                    hint="try again when it has stopped: that starts a new one",
                    code="OX432",
                )
            verb(request.args, reply)
        except OxherdError as error:
            reply.error(error)
        except (TypeError, ValueError, KeyError) as error:
            reply.error(ProtocolError(f"the arguments of {request.verb} do not fit: {error!r:.200}", code="OX505"))

    # -- arguments ----------------------------------------------------------------------------------------------

    def _stack(self, args: Args) -> StackHandle:
        return self._keeper.stack(str(args["stack"]))

    def _chosen(self, args: Args) -> list[StackHandle]:
        return list(self._supervisor.stacks.values()) if args.get("stack") is None else [self._stack(args)]

    def _register(self, args: Args, *, running_too: bool) -> tuple[StackHandle, list[str]]:
        """Take the oxfile that came with the request; without one the stack stays as it is."""
        table = args.get("oxfile")
        if not isinstance(table, dict):
            return self._stack(args), []
        return self._keeper.register(
            self._decoder.decode(table),
            _environment(args),
            update_env=args.get("update_env") is True,
            running_too=running_too,
        )

    def _running_units(self, stack: StackHandle, args: Args) -> list[Unit]:
        """Return what is named; without names what is wanted up, so that what was stopped stays stopped."""
        units = self._keeper.units(stack, names_of(args))
        if names_of(args):
            return units
        wanted = [unit for unit in units if unit.process.wanted]
        return wanted or self._keeper.units_to_start(stack, ())

    # -- doing --------------------------------------------------------------------------------------------------

    def _run(
        self,
        batches: Batches,
        reply: Reply,
        *,
        notes: list[str],
        rolling: bool = False,
        then: Callable[[Outcome], dict[str, object]] | None = None,
        extra: dict[str, object] | None = None,
    ) -> None:
        """Run an operation and answer with the instances it was about, and those of ``extra``."""
        handles = list(dict.fromkeys(target.handle for batch in batches for target in batch))

        def done(outcome: Outcome) -> None:
            more = then(outcome) if then is not None else {}
            known = (extra or {}).get("instances")
            reply.result(
                {
                    **(extra or {}),
                    "instances": [
                        *(known if isinstance(known, list) else []),
                        *(row(self._supervisor, handle) for handle in handles),
                    ],
                    "failed": [
                        {"name": handle.process.name, "label": handle.name, "instance": handle.slot, "reason": reason}
                        for handle, reason in outcome.failed
                    ],
                    "notes": [*notes, *outcome.notes],
                    **more,
                }
            )

        # A client that goes away (Ctrl-C) ends only the telling: half a stop or half a reload would help nobody.
        Operation(
            self._supervisor,
            batches,
            progress=lambda handle: reply.progress(progress(handle)),
            done=done,
            abort_on_failure=rolling,
        )

    def _start(self, args: Args, reply: Reply) -> None:
        stack, notes = self._register(args, running_too=False)
        units = self._keeper.units_to_start(stack, names_of(args))
        self._run(self._keeper.start(stack, units), reply, notes=notes)

    def _stop(self, args: Args, reply: Reply) -> None:
        stack = self._stack(args)
        self._run(self._keeper.stop(stack, self._keeper.units(stack, names_of(args))), reply, notes=[])

    def _restart(self, args: Args, reply: Reply) -> None:
        self._not_while_reloading(args, "restart")
        hooks = self._hooks_before(args, reload=False)

        def go() -> None:
            stack, notes = self._register(args, running_too=True)
            units = self._running_units(stack, args)
            batches = self._keeper.restart(stack, units)
            self._hooks.mark(hooks)
            self._run(batches, reply, notes=notes)

        self._after_hooks(hooks, go, reply)

    def _not_while_reloading(self, args: Args, verb: str) -> None:
        """Refuse what would pull the rug from under a reload; a stop ends it instead."""
        table = args.get("oxfile")
        path = table.get("path") if isinstance(table, dict) else args.get("stack")
        stack = self._keeper.find(str(path))
        if stack is not None and self._supervisor.rolls is not None:
            self._supervisor.rolls.refuse(list(stack.processes.values()), verb)

    def _reload(self, args: Args, reply: Reply) -> None:
        self._not_while_reloading(args, "reload")
        hooks = self._hooks_before(args, reload=True)
        self._after_hooks(hooks, lambda: self._begin_reload(args, hooks, reply), reply)

    def _begin_reload(self, args: Args, hooks: list[Hook], reply: Reply) -> None:
        # A megabyte that a supervisor without a reload does not carry.
        from oxherd.daemon.rolling.asking import (  # noqa: PLC0415
            answer_of,
            begin_reload,
            members_of,
            whole_services,
        )

        table = args.get("oxfile")
        oxfile = self._decoder.decode(table) if isinstance(table, dict) else None
        stack = self._keeper.find(str(args["stack"] if oxfile is None else oxfile.path))
        if stack is None:
            self._start(args, reply)
            return
        known = [name for name in names_of(args) if name.partition(":")[0] in stack.processes]
        units = self._running_units(stack, {**args, "names": known}) if known or not names_of(args) else []
        whole, others = whole_services(units)
        for unit in units:
            self._sinks.reopen(unit.process)

        def settled(answer: dict[str, object]) -> None:
            """The transaction is through: take the oxfile, and do what was not part of it."""
            after, notes = self._register(args, running_too=True)
            said = answer.get("notes")
            notes = [*(said if isinstance(said, list) else []), *notes]
            self._hooks.mark(hooks)
            fresh = [name for name in names_of(args) if name not in known]
            batches = self._keeper.refit(after, [unit.process for unit in whole])
            if fresh:
                batches += self._keeper.start(after, self._keeper.units(after, fresh))
            if others:
                batches += self._keeper.rolling_restart(after, others)
            self._run(batches, reply, notes=notes, rolling=True, extra=answer)

        def over(reload: Reload) -> None:
            answer = answer_of(self._supervisor, reload)
            if reload.done:
                settled(answer)
            else:
                reply.result({"notes": [], **answer})

        if not whole:
            settled({})
            return
        members = members_of(self._supervisor, whole, self._offer(stack, oxfile, args))
        begin_reload(self._supervisor, stack, members, show=reply.progress, then=over)

    def _hooks_before(self, args: Args, *, reload: bool) -> list[Hook]:
        """Return the hooks of the generations that a restart or reload begins, with the settings it brings."""
        table = args.get("oxfile")
        oxfile = self._decoder.decode(table) if isinstance(table, dict) else None
        stack = self._keeper.find(str(args["stack"] if oxfile is None else oxfile.path))
        if oxfile is not None:
            self._keeper.refuse_foreign_users(oxfile)
        if stack is None:
            return []
        offer = self._offer(stack, oxfile, args)
        names = names_of(args)
        # What only the new oxfile has does not run yet.
        bases = {name: name.partition(":")[0] for name in names}
        known = [name for name, base in bases.items() if base in stack.processes or base not in offer.specs]
        units = self._running_units(stack, {**args, "names": known}) if known or not names else []
        reloaded = dict.fromkeys(unit.process for unit in units if reload)
        started = dict.fromkeys(unit.process for unit in units if unit.slot is None)
        hooks = [hook for process in reloaded for hook in offer.pre_reload(process)]
        return hooks + [hook for process in started for hook in offer.pre_start(process)]

    def _offer(self, stack: StackHandle, oxfile: Oxfile | None, args: Args) -> Offer:
        return Offer.of(stack, oxfile, _environment(args), update_env=args.get("update_env") is True)

    def _after_hooks(self, hooks: list[Hook], go: Callable[[], None], reply: Reply) -> None:
        """Run the hooks of new generations while the old ones serve, then go; a failure changes nothing."""

        def over(failed: Hook | None, error: str) -> None:
            try:
                if failed is not None:
                    raise OperationError(
                        f"{failed.process.name}: {error}; nothing was changed",
                        hint="its output is in the log",
                        code="OX420",
                    )
                go()
            except OxherdError as problem:
                reply.error(problem)

        self._hooks.run(hooks, over)

    def _apply(self, args: Args, reply: Reply) -> None:
        self._not_while_reloading(args, "apply")
        oxfile = self._decoder.decode(_object(args["oxfile"]))
        self._keeper.refuse_foreign_users(oxfile)
        known = self._keeper.find(oxfile.path)
        hooks: list[Hook] = []
        if known is not None:
            offer = self._offer(known, oxfile, args)
            changing = [process for process in known.processes.values() if offer.restarts(process)]
            hooks = [hook for process in changing for hook in offer.pre_start(process)]

        def go() -> None:
            change = self._keeper.apply(
                oxfile,
                _environment(args),
                update_env=args.get("update_env") is True,
                prune=args.get("prune") is not False,
            )
            stack = self._keeper.stack(oxfile.path)

            def then(_outcome: Outcome) -> dict[str, object]:
                return {
                    "added": change.added,
                    "changed": change.changed,
                    "removed": self._keeper.forget(stack, change.removed),
                    "unchanged": change.unchanged,
                }

            self._hooks.mark(hooks)
            self._run(change.batches, reply, notes=[], then=then)

        self._after_hooks(hooks, go, reply)

    def _delete(self, args: Args, reply: Reply) -> None:
        stack = self._stack(args)
        units = self._keeper.units(stack, names_of(args))
        for unit in units:
            if unit.slot is not None:
                raise UsageError(
                    f"{unit.process.name}:{unit.slot} is one instance; processes are deleted as a whole",
                    hint=f"to run fewer of it: oxherd scale {unit.process.name}-1",
                    code="OX216",
                )
        names = [unit.process.name for unit in units]

        def then(_outcome: Outcome) -> dict[str, object]:
            self._decoder.forget(stack.path)
            return {"deleted": self._keeper.forget(stack, names)}

        self._run(self._keeper.stop(stack, units), reply, notes=[], then=then)

    def _scale(self, args: Args, reply: Reply) -> None:
        self._not_while_reloading(args, "scale")
        stack, notes = self._register(args, running_too=False)
        (unit,) = self._keeper.units(stack, [str(args["name"])])
        wanted = str(args["instances"])
        count = len(unit.handles()) + int(wanted) if wanted[:1] in {"+", "-"} else int(wanted)
        self._run(self._keeper.scale(stack, unit.process, count), reply, notes=notes)

    def _signal(self, args: Args, reply: Reply) -> None:
        stack, signum = self._stack(args), int(str(args["signal"]))
        sent = []
        for unit in self._keeper.units(stack, names_of(args)):
            for handle in unit.handles():
                pid = handle.machine.pid
                if pid is not None and self._supervisor.executor.signal(handle, signum):
                    sent.append(
                        {"name": handle.process.name, "instance": handle.slot, "label": handle.name, "pid": pid}
                    )
        reply.result({"sent": sent})

    def _reopen(self, args: Args, reply: Reply) -> None:
        for stack in self._chosen(args):
            for process in stack.processes.values():
                self._sinks.reopen(process)
        reply.result({})

    def _stop_supervisor(self, _args: Args, reply: Reply) -> None:
        end = self._supervisor.observe(lambda handle: reply.progress(progress(handle)))

        def down() -> None:
            end()
            reply.result({})

        self._shutdown(down)

    def _upgrade_supervisor(self, args: Args, reply: Reply) -> None:
        def answer(version: str, error: OxherdError | None) -> None:
            if error is None:
                reply.result({"version": version})
            else:
                reply.error(error)

        self._upgrade(str(args["python"]), answer)


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError("expected an object")
    return value


def _environment(args: Args) -> dict[str, str] | None:
    env = args.get("env")
    return None if env is None else {str(key): str(value) for key, value in _object(env).items()}
