"""The verbs that only look: arguments in, answers out, nothing changed."""

from __future__ import annotations

import os

from oxherd.daemon.rows import row, rows
from oxherd.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.daemon.cards import CardWriter
    from oxherd.daemon.control_server import Reply
    from oxherd.daemon.handles import StackHandle
    from oxherd.daemon.sinks import Sinks
    from oxherd.daemon.stacks import StackKeeper
    from oxherd.daemon.supervisor import Supervisor

    Args = dict[str, object]

__all__ = ["Looking", "names_of"]


class Looking:
    """Answers requests about what there is.

    Args:
        supervisor: What there is.
        keeper: Finds stacks and processes by name.
        sinks: Knows the log files.
        cards: Knows why processes ended.
        facts: Extra facts for ``ping``.

    Attributes:
        verbs: By name.
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        keeper: StackKeeper,
        sinks: Sinks,
        cards: CardWriter,
        facts: Callable[[], dict[str, object]],
    ) -> None:
        """Keep the parts."""
        self._supervisor = supervisor
        self._keeper = keeper
        self._sinks = sinks
        self._cards = cards
        self._facts = facts
        self.verbs: dict[str, Callable[[Args, Reply], None]] = {
            "ping": self._ping,
            "stacks": self._stacks,
            "environment": self._environment,
            "status": self._status,
            "events": self._events,
            "why": self._why,
            "logfiles": self._logfiles,
            "hosting": self._hosting,
        }

    def _chosen(self, args: Args) -> list[StackHandle]:
        if args.get("stack") is None:
            return list(self._supervisor.stacks.values())
        return [self._keeper.stack(str(args["stack"]))]

    def _ping(self, _args: Args, reply: Reply) -> None:
        reply.result(
            {
                "pid": os.getpid(),
                "uptime_seconds": round(self._supervisor.loop.now() - self._supervisor.started, 3),
                "stacks": len(self._supervisor.stacks),
                **self._facts(),
            }
        )

    def _stacks(self, _args: Args, reply: Reply) -> None:
        reply.result(
            {
                "stacks": [
                    {
                        "stack": stack.path,
                        "name": stack.name,
                        "id": stack.identity,
                        "wanted": stack.wanted,
                        "processes": list(stack.processes),
                    }
                    for stack in self._supervisor.stacks.values()
                ]
            }
        )

    def _environment(self, args: Args, reply: Reply) -> None:
        try:
            stack = self._keeper.stack(str(args["stack"]))
        except UsageError:
            reply.result({"env": None, "profile": None})
        else:
            reply.result({"env": stack.env, "profile": stack.profile})

    def _status(self, args: Args, reply: Reply) -> None:
        reply.result({"rows": rows(self._supervisor, self._chosen(args))})

    def _events(self, args: Args, reply: Reply) -> None:
        path = None if args.get("stack") is None else self._keeper.stack(str(args["stack"])).path
        for event in self._supervisor.events.last(int(str(args.get("last", 20))), path):
            reply.progress(event)
        if args.get("follow") is not True:
            reply.result({})
            return

        def forward(event: dict[str, object]) -> None:
            if path is None or event.get("stack_path") in {path, None}:
                reply.progress(event)

        reply.on_close(self._supervisor.events.subscribe(forward))

    def _why(self, args: Args, reply: Reply) -> None:
        cards: list[dict[str, object]] = []
        stack = self._keeper.stack(str(args["stack"]))
        for unit in self._keeper.units(stack, names_of(args)):
            for handle in unit.handles():
                told = {"stack": stack.name, "name": handle.process.name, "instance": handle.slot, "label": handle.name}
                cards.extend({**told, **card} for card in self._cards.load(handle))
        rows_now = [
            row(self._supervisor, handle)
            for unit in self._keeper.units(stack, names_of(args))
            for handle in unit.handles()
        ]
        reply.result({"cards": cards, "rows": rows_now})

    def _logfiles(self, args: Args, reply: Reply) -> None:
        stack = self._keeper.stack(str(args["stack"]))
        files = []
        for process in {unit.process.name: unit.process for unit in self._keeper.units(stack, names_of(args))}.values():
            paths = self._sinks.paths(process)
            files.append(
                {
                    "process": process.name,
                    "path": paths.path,
                    "index": paths.index,
                    "error_path": paths.error_path,
                    "error_index": paths.error_index,
                    "instances": max(process.wanted_instances, len(process.instances)),
                }
            )
        reply.result({"files": files})

    def _hosting(self, args: Args, reply: Reply) -> None:
        hosting = self._supervisor.hosting
        units = self._keeper.units(self._keeper.stack(str(args["stack"])), names_of(args))
        found = [hosting.facts(unit.process) for unit in units] if hosting is not None else []
        reply.result({"processes": [facts for facts in found if facts]})


def names_of(args: Args) -> list[str]:
    """Return the names of a request, none for all.

    Raises:
        TypeError: They are no list.
    """
    names = args.get("names", [])
    if not isinstance(names, list):
        raise TypeError("names must be a list")
    return [str(name) for name in names]
