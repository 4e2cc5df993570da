"""A supervisor and an operating system for one rolling replacement, which check every command they are given.

The world starts, promotes and ends workers as the rollout tells it. What may happen next is a list of moves: the answers
it owes, misfortunes, and what comes from above. A test draws from them at random, or tries every order of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from oxherd.core import rollout_messages as m
from oxherd.core.phases import Kind, Phase, Plan, Rollout, Stage, Timer, Which
from oxherd.core.rollout import step

__all__ = ["Worker", "World"]

Move = tuple[str, tuple[object, ...]]


@dataclass(frozen=True)
class Worker:
    """A candidate as the operating system sees it.

    It is starting, ready, promoted, accepting; condemned (told to go by its own lifecycle), leaving (told by the
    rollout) or gone.
    """

    slot: int
    which: Which
    state: str = "starting"

    @property
    def wanted(self) -> bool:
        return self.state in {"starting", "ready", "promoted", "accepting"}


class World:
    """The rollout of a plan and everything around it.

    Args:
        plan: What is to be done.
        misfortunes: How many workers may die, be too slow or be reverted.

    Attributes:
        cells: The cells of the table that were used, by this world and its copies, and the phases they led to.
    """

    def __init__(self, plan: Plan, misfortunes: int) -> None:
        self.misfortunes = misfortunes
        self.rollout = Rollout.of(plan)
        self.old = {slot: "down" if slot in plan.down else "up" for slot in plan.order}
        self.workers: dict[int, Worker] = {}
        # Slots whose last worker that accepted died by itself.
        self.bereaved = set(plan.down)
        self.timers: set[Timer] = set()
        self.preparing = self.settled = self.committed = self.failed = False
        self.dropped: list[Which] = []
        self.handed: set[int] = set()
        self.result: Phase | None = None
        self.now = 100.0
        self.cells: set[tuple[Phase, m.EventKind, Phase]] = set()

    def copy(self) -> World:
        twin = object.__new__(World)
        twin.__dict__.update(self.__dict__)
        for name in ("old", "workers", "bereaved", "timers", "dropped", "handed"):
            setattr(twin, name, getattr(self, name).copy())
        return twin

    @property
    def key(self) -> object:
        """Equal for worlds whose future is the same."""
        return (
            replace(self.rollout, spent=(), since=0.0, cause="x" if self.rollout.cause else ""),
            tuple(self.old.items()),
            tuple(self.workers.items()),
            frozenset(self.bereaved),
            self.misfortunes,
            self.preparing,
            self.settled,
            self.failed,
        )

    # -- carrying out -------------------------------------------------------------------------------------------

    def feed(self, event: m.Event) -> None:
        self.now += 0.01
        over = self.result is not None
        known, before = self.reaches_the_table(event), self.rollout.phase
        self.rollout, commands = step(self.rollout, event, self.now)
        if known:
            self.cells.add((before, m.kind_of(event), self.rollout.phase))
        for command in commands:
            assert not over, f"{command} after the end"
            assert self.result is None, f"{command} after Finish"
            self.obey(command)
        assert (self.result is not None) == self.rollout.phase.over
        self.bereaved -= {slot for slot in self.old if self.accepts(slot)}

    def reaches_the_table(self, event: m.Event) -> bool:
        if isinstance(event, m.TimerFired):
            return event.timer in self.rollout.timers
        slot, attempt = getattr(event, "slot", None), getattr(event, "attempt", None)
        seat = None if slot is None else self.rollout.seat(slot)
        return slot is None or (seat is not None and attempt in {None, seat.candidate, seat.back})

    def obey(self, command: m.Command) -> None:
        plan = self.rollout.plan
        match command:
            case m.Prepare():
                self.preparing = True
            case m.StartCandidate(slot, attempt, which):
                assert not self.some("starting"), "two at a time"
                assert attempt not in self.workers
                if not plan.overlap:
                    assert self.old[slot] == "gone", "the new one beside the old one"
                    assert {one.state for one in self.workers.values() if one.slot == slot} <= {"gone"}
                self.workers[attempt] = Worker(slot, which)
            case m.Promote(slot, attempt):
                assert self.workers[attempt].slot == slot
                assert self.workers[attempt].state == "ready"
                self.set(attempt, "promoted")
            case m.RetireOld(slot):
                assert self.old[slot] in {"up", "down"}, "told to go twice"
                if plan.overlap:
                    assert self.settled or plan.kind is Kind.REPLACE, "told to go before the canary was settled"
                    assert self.accepts(slot, Which.NEW), "told to go before the new one accepted"
                self.old[slot] = "leaving"
            case m.DiscardCandidate(slot, attempt, serving):
                worker = self.workers[attempt]
                assert worker.slot == slot
                assert serving or worker.state not in {"promoted", "accepting"}, "a server was cut off"
                self.set(attempt, "leaving")  # to be answered, also where it is dead already
            case m.HandOver(slot, _):
                assert not self.accepts(slot, Which.OLD)
                self.handed.add(slot)
            case m.CommitGeneration():
                assert not self.committed
                assert set(self.old.values()) <= {"leaving", "gone"}
                self.committed = True
            case m.DropGeneration(which):
                assert not self.dropped
                assert which is (Which.OLD if self.committed else Which.NEW)
                self.dropped.append(which)
            case m.Arm(timer, seconds):
                assert seconds > 0
                self.timers.add(timer)
            case m.Disarm(timer):
                self.timers.discard(timer)
            case m.Finish(result, _):
                self.result = result
            case m.Ignored(detail):
                raise AssertionError(detail)
            case m.Announce():
                pass

    def set(self, attempt: int, state: str) -> None:
        self.workers[attempt] = replace(self.workers[attempt], state=state)

    def some(self, *states: str) -> list[int]:
        return [attempt for attempt, worker in self.workers.items() if worker.state in states]

    def accepts(self, slot: int, which: Which | None = None) -> bool:
        """Whether a worker of the slot accepts: any, or one of a generation."""
        if self.old[slot] == "up" and which is not Which.NEW:
            return True
        return any(
            one.slot == slot and one.state == "accepting" and which in {None, one.which}
            for one in self.workers.values()
        )

    # -- what may happen ----------------------------------------------------------------------------------------

    def move(self, move: Move) -> None:
        name, arguments = move
        getattr(self, name)(*arguments)

    def owed(self) -> list[Move]:
        """The answers that come if nothing goes wrong."""
        moves: list[Move] = []
        if self.rollout.phase is Phase.PLANNED:
            moves.append(("feed", (m.Begin(),)))
        if self.rollout.phase in {Phase.SETTLED, Phase.MOVED}:
            moves.append(("feed", (m.Proceed(),)))
        if self.preparing:
            moves.append(("prepared", (True,)))
        if Timer.SETTLE in self.timers:
            moves.append(("fire", (Timer.SETTLE,)))
        moves += [("goes_on", (attempt,)) for attempt in self.some("starting", "promoted", "condemned", "leaving")]
        moves += [("old_gone", (slot,)) for slot, state in self.old.items() if state == "leaving"]
        return moves

    def mishaps(self) -> list[Move]:
        """What may go wrong, as long as misfortunes are left; and old workers that come back by themselves."""
        moves: list[Move] = [("old_comes_back", (slot,)) for slot, state in self.old.items() if state == "down"]
        if not self.misfortunes:
            return moves
        for attempt in self.some("starting", "ready", "promoted", "accepting"):
            moves += [("dies", (attempt, seen)) for seen in (True, False)]
        moves += [("old_dies", (slot,)) for slot, state in self.old.items() if state == "up"]
        moves += [("fire", (timer,)) for timer in (Timer.READY, Timer.ACCEPT) if timer in self.timers]
        if self.preparing:
            moves.append(("prepared", (False,)))
        if self.rollout.plan.gated and self.rollout.phase is not Phase.DRAINING:
            moves.append(("revert", ()))
        return moves

    def prepared(self, ok: bool) -> None:
        self.preparing = False
        # Without a time to settle it is settled when it is ready, and nothing is told to go before that either.
        self.settled = self.rollout.plan.settle == 0
        if not ok:
            self.unfortunate()
        self.feed(m.Prepared() if ok else m.PrepareFailed("pre_reload exited with status 1"))

    def goes_on(self, attempt: int) -> None:
        slot = self.workers[attempt].slot
        match self.workers[attempt].state:
            case "starting":
                self.set(attempt, "ready")
                self.feed(m.CandidateReady(slot, attempt))
            case "promoted":
                self.set(attempt, "accepting")
                self.feed(m.Accepting(slot, attempt))
            case _:
                self.set(attempt, "gone")
                self.feed(m.CandidateGone(slot, attempt))

    def old_gone(self, slot: int) -> None:
        self.old[slot] = "gone"
        self.feed(m.OldGone(slot))

    def fire(self, timer: Timer) -> None:
        self.timers.discard(timer)
        if timer is Timer.SETTLE:
            self.settled = True
        else:
            self.unfortunate()
        self.feed(m.TimerFired(timer))

    def unfortunate(self) -> None:
        self.misfortunes -= 1
        self.failed = True

    def dies(self, attempt: int, seen: bool) -> None:
        """A candidate fails, or is simply gone."""
        self.unfortunate()
        slot = self.workers[attempt].slot
        self.set(attempt, "condemned" if seen else "gone")
        if not self.accepts(slot):
            self.bereaved.add(slot)
        failed = m.CandidateFailed(slot, attempt, "exited with status 3")
        self.feed(failed if seen else m.CandidateGone(slot, attempt))

    def old_dies(self, slot: int) -> None:
        self.misfortunes -= 1
        self.old[slot] = "down"
        if not self.accepts(slot):
            self.bereaved.add(slot)
        self.feed(m.OldCrashed(slot))

    def old_comes_back(self, slot: int) -> None:
        self.old[slot] = "up"
        self.feed(m.OldReady(slot))

    def revert(self) -> None:
        self.unfortunate()
        self.feed(m.Revert("api: exited with status 3"))

    def cancel(self) -> None:
        over = self.result
        self.feed(m.Cancel("the stack is being stopped"))
        assert self.result is (over or Phase.CANCELLED), "a stop is honoured at once"
        self.check()

    def noise(self) -> None:
        """News that change nothing: of candidates that are none, of readiness and listeners that come and go, late."""
        before = self.rollout
        events: list[m.Event] = [m.TimerFired(timer) for timer in Timer if timer not in self.timers]
        for attempt, slot in {0: 0, 999: 0, 998: 99, **{a: w.slot for a, w in self.workers.items()}}.items():
            seat, worker = before.seat(slot), self.workers.get(attempt)
            known = seat is not None and attempt in {seat.candidate, seat.back}
            if not known or (worker is not None and worker.state in {"ready", "accepting"}):
                events.append(m.CandidateReady(slot, attempt))
            if not known or (worker is not None and worker.state == "accepting"):
                events.append(m.Accepting(slot, attempt))
            if not known:
                events += [m.CandidateFailed(slot, attempt, "late"), m.CandidateGone(slot, attempt)]
        events += [m.OldGone(99), m.OldCrashed(99), m.OldReady(99)]
        for slot, old in self.old.items():
            if old in {"leaving", "gone"}:
                # Told to go is told to go, whatever else is said of it.
                events += [m.OldCrashed(slot), m.OldReady(slot)]
            if old == "gone":
                events.append(m.OldGone(slot))
        for event in events:
            self.feed(event)
            assert self.rollout == before, event

    # -- what always holds --------------------------------------------------------------------------------------

    def check(self) -> None:
        """Assert everything that has to hold at every moment."""
        assert self.rollout.timers == self.timers
        for slot, old in self.old.items():
            workers = [one for one in self.workers.values() if one.slot == slot]
            if self.rollout.plan.overlap:
                # An old worker that is down died by itself: its lifecycle is at it.
                assert self.accepts(slot) or slot in self.bereaved or old == "down", f"nobody accepts in slot {slot}"
            else:
                running = sum(one.state not in {"gone", "leaving"} for one in workers) + (old == "up")
                assert running <= 1, f"old and new at once in slot {slot}"
        if self.result is not None:
            self.check_the_end()

    def check_the_end(self) -> None:
        reload = self.rollout.plan.kind is Kind.RELOAD
        wanted = [worker for worker in self.workers.values() if worker.wanted]
        match self.result:
            case Phase.DONE:
                assert set(self.old.values()) <= {"gone"}
                assert self.committed == reload
                assert self.dropped == ([Which.OLD] if reload else [])
                assert {one.which for one in wanted} <= {Which.NEW}
            case Phase.ABORTED:
                assert self.failed
                assert self.rollout.cause
                assert not self.committed
                if reload:
                    assert set(self.old.values()) <= {"up", "down"}
                    assert wanted == []
            case Phase.ROLLED_BACK:
                assert self.failed
                assert self.rollout.cause
                assert not self.committed
                assert self.dropped == [Which.NEW]
                for slot, old in self.old.items():
                    kinds = {one.which for one in wanted if one.slot == slot}
                    if old in {"up", "down"}:
                        assert kinds == set()
                    elif slot not in self.handed:
                        seat = self.rollout.seat(slot)
                        assert seat is not None
                        assert seat.stage is Stage.RETURNED
                        assert kinds <= {Which.OLD}, "it may have died again since"
            case _:
                assert self.some("starting", "ready", "promoted") == []

    def to_the_end(self) -> None:
        """From here on nothing goes wrong any more: it has to end, and well if nothing went wrong before."""
        for _ in range(200):
            if self.result is not None:
                break
            moves = self.owed()
            assert moves, f"it waits for nothing: {self.rollout}"
            self.move(moves[0])
            self.check()
        assert self.result is not None, f"it does not end: {self.rollout}"
        assert self.failed or self.result in {Phase.DONE, Phase.CANCELLED}
