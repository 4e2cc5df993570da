"""Crash cards: what is known about an end, kept for ``oxherd why``.

What it says is found out at the moment of the exit, while the last lines, the port's holder and the OOM counters still say
something. It is masked and written at the end of the turn, when the successor has been started.
"""

from __future__ import annotations

import os

from oxherd import jsons as json
from oxherd.core.instance import Reason, State
from oxherd.daemon.environment import mask_of
from oxherd.daemon.journal import replace_file
from oxherd.records import dataclass, replace
from oxherd.system import portholders
from oxherd.units import format_seconds, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.config.model import ProcessSpec
    from oxherd.control.paths import Home
    from oxherd.core.exits import ExitStatus
    from oxherd.daemon.cgrouping import Cgroups
    from oxherd.daemon.handles import InstanceHandle
    from oxherd.system.loop import Loop
    from oxherd.system.ports import System

__all__ = ["CardWriter", "exit_record"]

_LINES = 40
_LINE_MAX = 2000
# Cards that wait to be written at the most: when a hundred programs die at once, their last lines must not fill the memory.
_AT_ONCE = 16
_SIGKILL = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card that is not kept yet: its lines are as the program wrote them, secrets and all."""

    spec: ProcessSpec
    env: Mapping[str, str]
    lines: list[str]
    record: dict[str, object]

    def masked(self) -> dict[str, object]:
        """Return it as it may be kept and shown."""
        if not self.lines:
            return self.record
        mask = mask_of(self.spec, self.env)
        return {**self.record, "last_lines": [mask.text(line) for line in self.lines]}


class CardWriter:
    """Makes the card of every end that nobody asked for.

    Args:
        loop: For uptimes.
        system: For the wall clock.
        home: Where cards are kept.
        cgroups: Knows of OOM kills.
    """

    def __init__(self, *, loop: Loop, system: System, home: Home, cgroups: Cgroups) -> None:
        """Keep the parts."""
        self._loop = loop
        self._system = system
        self._home = home
        self._cgroups = cgroups
        self._unkept: list[tuple[InstanceHandle, Card]] = []

    def spawn_failed(self, handle: InstanceHandle, text: str) -> None:
        """Record a start that did not come about; the first line is the cause, the rest are hints."""
        cause, *hints = mask_of(handle.spec, handle.env).text(text).split("\n")
        self._keep_soon(handle, cause=cause, hints=hints, lines=[], status=None, uptime=None)

    def ended(self, handle: InstanceHandle, status: ExitStatus) -> str:
        """Record an exit and return the line that says why, as far as it is known."""
        machine = handle.machine
        asked = machine.state is State.STOPPING
        uptime = None if machine.started_at is None else self._loop.now() - machine.started_at
        if asked and not machine.reason.condemned:
            return status.text
        lines = self._last_lines(handle)
        cause, hints = status.text, []
        if asked:
            cause = f"{machine.detail}; {status.text}" if machine.detail else status.text
            if machine.reason is Reason.UNHEALTHY:
                cause = f"unhealthy: {cause}"
            elif machine.reason is Reason.TIMEOUT and handle.last_failure:
                cause = f"{machine.detail}: {handle.last_failure}; {status.text}"
        elif self._killed_for_memory(handle, status):
            status = replace(status, oom=True)
            cause = "killed by the kernel: out of memory"
            hints.append(
                "give it more memory (limits.memory_mb) or find what it allocates; the machine may be too small"
            )
        elif handle.failure is not None:
            # Its own words, from within the app's interpreter, are more exact than anything seen from outside.
            cause = str(handle.failure.get("text", "")) or status.text
        elif not status.success:
            holder = _port_trouble(handle, lines)
            if holder:
                cause = f"{status.text}: {mask_of(handle.spec, handle.env).text(holder)}"
                hints.append("stop that program, or give this process another port")
            elif status.signal is not None:
                hints.append(f"{signal_name(status.signal)} came from outside Oxherd, or from the program itself")
        if uptime is not None and not asked:
            cause = f"{cause} after {format_seconds(uptime)}"
        self._keep_soon(handle, cause=cause, hints=hints, lines=lines, status=status, uptime=uptime)
        return cause

    def load(self, handle: InstanceHandle) -> list[dict[str, object]]:
        """Return the cards of an instance, newest first, also those of before a restart of the supervisor."""
        self._keep_all()
        self._load(handle)
        return list(reversed(handle.cards))

    def _load(self, handle: InstanceHandle) -> None:
        if not handle.cards:
            try:
                with open(self._path(handle), "rb") as file:
                    kept = json.loads(file.read()).get("cards", [])
            except (OSError, ValueError, AttributeError, RecursionError):
                kept = []
            kept = kept if isinstance(kept, list) else []
            handle.cards.extend(card for card in kept if isinstance(card, dict))

    def _path(self, handle: InstanceHandle) -> str:
        return os.path.join(
            self._home.stack(handle.process.stack.identity), f"why-{handle.process.name}-{handle.slot}.json"
        )

    def _keep_soon(
        self,
        handle: InstanceHandle,
        *,
        cause: str,
        hints: list[str],
        lines: list[str],
        status: ExitStatus | None,
        uptime: float | None,
    ) -> None:
        # What the handle holds is that of the successor when the card is written.
        card = Card(
            spec=handle.spec,
            env=handle.env,
            lines=lines,
            record={
                "time": self._system.wall(),
                "incarnation": handle.machine.incarnation,
                "cause": cause,
                "exit": exit_record(status),
                "uptime_seconds": None if uptime is None else round(uptime, 3),
                "memory_peak_bytes": handle.memory_peak or None,
                "last_lines": [],
                "traceback": _traceback_of(handle),
                "hints": hints,
            },
        )
        self._unkept.append((handle, card))
        self._loop.call_last(self._keep_all)
        if len(self._unkept) >= _AT_ONCE:
            self._keep_all()

    def _keep_all(self) -> None:
        unkept, self._unkept = self._unkept, []
        for handle, card in unkept:
            self._keep(handle, card.masked())

    def _keep(self, handle: InstanceHandle, record: dict[str, object]) -> None:
        self._load(handle)
        handle.cards.append(record)
        try:
            replace_file(self._path(handle), {"cards": list(handle.cards)}, durable=False)
        except OSError:
            # In memory the card lives as long as the supervisor; the disk's trouble is told by the journal and the logs.
            return

    def _last_lines(self, handle: InstanceHandle) -> list[str]:
        lines: list[bytes] = []
        # Of its own pipes: beside it another instance of the slot, or a zygote, may write to the same file.
        for pipe in handle.pipes:
            lines.extend(pipe.tail(_LINES))
        return [line[:_LINE_MAX].decode("utf-8", "backslashreplace") for line in lines[-_LINES:]]

    def _killed_for_memory(self, handle: InstanceHandle, status: ExitStatus) -> bool:
        if status.signal != _SIGKILL or handle.oom_before is None:
            return False
        now = self._cgroups.oom_kills(handle)
        return now is not None and now > handle.oom_before


def _traceback_of(handle: InstanceHandle) -> list[str]:
    """Return the traceback, or the stacks, that came out of the app's interpreter, line by line."""
    said = handle.failure or {}
    return [line for line in str(said.get("traceback") or "").splitlines() if line.strip()]


def exit_record(status: ExitStatus | None) -> dict[str, object] | None:
    """Return an exit for ``--json``."""
    if status is None:
        return None
    return {"code": status.code, "signal": status.signal, "text": status.text}


def _port_trouble(handle: InstanceHandle, lines: list[str]) -> str:
    """Return "port 8000 is held by nginx (pid 12)" if that is what the last lines complain about."""
    try:
        address = portholders.address_in_use([line.encode() for line in lines]) if lines else None
    except (ImportError, OSError):
        # It is loaded when it is needed, and there is no descriptor to do it with: then the last lines have to say it all.
        address = None
    if address is None:
        return ""
    # Not every server says which address it was; the command line may.
    wanted = [address] if address[1] or address[0] else _binds(handle)
    held = []
    for host, port in wanted:
        what = f"port {port}" if port else host
        holders = [holder.text for holder in portholders.holder_of(host, port) if holder.pid != handle.main_pid]
        held.append(f"{what} is held by {', '.join(holders)}" if holders else f"{what} was in use")
    return "; ".join(held) or "an address it wants is in use"


def _binds(handle: InstanceHandle) -> list[tuple[str, int]]:
    from oxherd.programs.recognise import recognise  # noqa: PLC0415 - only for those who do not say it themselves

    command = handle.spec.command
    return [(bind.path or bind.host, bind.port) for bind in recognise(command).binds] if command is not None else []
