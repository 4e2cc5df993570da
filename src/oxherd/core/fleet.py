"""The processes of a stack as a whole: who needs whom, in which order they start and stop, what changed.

Pure functions over names. Dependencies are given as a mapping from a name to what it needs:
``{"web": (("db", DependencyCondition.READY),)}``. Orders keep the order of the oxfile among equals.
"""

from __future__ import annotations

from enum import Enum

from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

__all__ = [
    "Blocked",
    "DependencyCondition",
    "Diff",
    "ProcessFacts",
    "blocked_by",
    "closure",
    "dependents",
    "diff",
    "find_cycle",
    "order",
    "scale_plan",
    "stop_order",
]


class DependencyCondition(Enum):
    """What has to be true of a dependency before the dependent may start."""

    STARTED = "started"
    READY = "ready"
    COMPLETED = "completed"


if TYPE_CHECKING:
    Depends = Mapping[str, Sequence[tuple[str, DependencyCondition]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessFacts:
    """What is true of a process right now.

    Attributes:
        started: All its instances were exec'd and live, or it has ended with success since.
        ready: All its instances are ready.
        completed: It ended by itself with success.
        failed: It will not come up without a person: crashed, or a oneshot that failed.
    """

    started: bool = False
    ready: bool = False
    completed: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocked:
    """Why a process may not start yet.

    Attributes:
        waiting: One phrase for each dependency that does not hold yet: "db is not ready".
        failed: One phrase for each dependency that never will: "migrate failed". When there is one the dependent
            cannot start at all.
    """

    waiting: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """One line for people: what failed, or else what is waited for."""
        return ", ".join(self.failed or self.waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What one set of processes changes of another, each in the order of its file."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.added or self.changed or self.removed)


def _needs(name: str, depends: Depends) -> tuple[str, ...]:
    return tuple(needed for needed, _ in depends.get(name, ()))


def find_cycle(depends: Depends) -> tuple[str, ...]:
    """Return one cycle, its first name repeated at the end (``("a", "b", "a")``), or the empty tuple."""
    done: set[str] = set()
    for start in depends:
        path: list[str] = []
        on_path: set[str] = set()
        # An explicit stack: the depth of a graph somebody generated must not be the depth of our calls.
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.pop()
                on_path.discard(name)
                done.add(name)
            elif name in on_path:
                return (*path[path.index(name) :], name)
            elif name not in done:
                path.append(name)
                on_path.add(name)
                stack.append((name, True))
                stack.extend((needed, False) for needed in reversed(_needs(name, depends)))
    return ()


def order(names: Iterable[str], depends: Depends) -> list[list[str]]:
    """Return the names in levels: each level needs only earlier ones, so a level starts at the same time.

    Args:
        names: What is to be ordered. Dependencies outside of it are taken to hold.
        depends: Who needs whom.

    Raises:
        ValueError: There is a cycle; the text shows it.
    """
    pending = dict.fromkeys(names)
    levels: list[list[str]] = []
    while pending:
        level = [name for name in pending if not any(needed in pending for needed in _needs(name, depends))]
        if not level:
            cycle = find_cycle({name: depends.get(name, ()) for name in pending})
            raise ValueError(f"the dependencies form a circle: {' -> '.join(cycle)}")
        for name in level:
            del pending[name]
        levels.append(level)
    return levels


def stop_order(names: Iterable[str], depends: Depends) -> list[list[str]]:
    """Return the names in the levels in which they stop: dependents before what they need.

    Raises:
        ValueError: There is a cycle; the text shows it.
    """
    # Levels of the turned graph, not the turned levels: what nothing needs goes at once, however late it started.
    members = list(names)
    turned: dict[str, list[tuple[str, DependencyCondition]]] = {name: [] for name in members}
    for name in members:
        for needed, condition in depends.get(name, ()):
            if needed in turned:
                turned[needed].append((name, condition))
    return order(members, turned)


def closure(names: Iterable[str], depends: Depends) -> tuple[str, ...]:
    """Return the names and everything they need, however far away; what is needed comes first.

    What a cycle names is in the answer once.
    """
    found: dict[str, None] = {}
    seen: set[str] = set()
    stack: list[tuple[str, bool]] = [(name, False) for name in reversed(list(names))]
    while stack:
        name, leaving = stack.pop()
        if leaving:
            found[name] = None
        elif name not in seen:
            seen.add(name)
            stack.append((name, True))
            stack.extend((needed, False) for needed in reversed(_needs(name, depends)))
    return tuple(found)


def dependents(names: Iterable[str], depends: Depends) -> tuple[str, ...]:
    """Return everything that needs one of the names, however far away, without the names themselves."""
    wanted = set(names)
    reached = set(wanted)
    grown = True
    while grown:
        more = {name for name in depends if name not in reached and reached.intersection(_needs(name, depends))}
        reached |= more
        grown = bool(more)
    return tuple(name for name in depends if name in reached and name not in wanted)


def blocked_by(name: str, depends: Depends, facts: Mapping[str, ProcessFacts]) -> Blocked | None:
    """Say why a process may not start, or None when it may.

    Args:
        name: The process.
        depends: Who needs whom.
        facts: What is true of the processes. A dependency that is not in it is not known here: it was deleted, or the
            oxfile has another stack in mind; the process waits and the phrase says so.
    """
    waiting: list[str] = []
    failed: list[str] = []
    for needed, condition in depends.get(name, ()):
        known = facts.get(needed)
        if known is None:
            waiting.append(f"{needed} does not run here")
        elif not _holds(condition, known):
            (failed if known.failed else waiting).append(f"{needed} {_phrase(condition, failed=known.failed)}")
    return Blocked(waiting=tuple(waiting), failed=tuple(failed)) if waiting or failed else None


def _holds(condition: DependencyCondition, facts: ProcessFacts) -> bool:
    match condition:
        case DependencyCondition.STARTED:
            return facts.started or facts.ready or facts.completed
        case DependencyCondition.READY:
            # A oneshot is ready by having completed: nobody means "while the migration runs" by `db = "ready"`.
            return facts.ready or facts.completed
        case DependencyCondition.COMPLETED:
            return facts.completed


def _phrase(condition: DependencyCondition, *, failed: bool) -> str:
    if failed:
        return "failed"
    match condition:
        case DependencyCondition.STARTED:
            return "has not started"
        case DependencyCondition.READY:
            return "is not ready"
        case DependencyCondition.COMPLETED:
            return "has not completed"


def scale_plan(current: Collection[int], wanted: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the slots to add and the slots to remove so that ``wanted`` instances remain.

    Slots are filled from 0 and given up from the top, so that ``{instance}`` stays below the number of instances.

    Args:
        current: The slots there are, in any order, gaps allowed.
        wanted: The number of instances, 0 or more.
    """
    there = set(current)
    add = tuple(slot for slot in range(wanted) if slot not in there)
    remove = tuple(sorted((slot for slot in there if slot >= wanted), reverse=True))
    return add, remove


def diff(old: Mapping[str, object], new: Mapping[str, object]) -> Diff:
    """Compare two sets of processes by name and by value.

    Args:
        old: Name and specification of what runs.
        new: Name and specification of what is wanted.
    """
    return Diff(
        added=tuple(name for name in new if name not in old),
        changed=tuple(name for name in new if name in old and old[name] != new[name]),
        removed=tuple(name for name in old if name not in new),
        unchanged=tuple(name for name in new if name in old and old[name] == new[name]),
    )
