"""What the journal holds of one instance, written and read: enough for the next supervisor to go on with it.

A record is a JSON object. Keys that this version does not know are passed over, keys that are missing have the value an
older version meant; what cannot be read as an instance at all is a `ValueError`, and that instance is then unknown.
"""

from __future__ import annotations

import os

from oxherd.core.adoption import Remembered
from oxherd.core.exits import ExitStatus
from oxherd.core.instance import Desired, Reason, State
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.daemon.handles import InstanceHandle
    from oxherd.system.cgroups import CgroupHandle
    from oxherd.system.ports import Pipe

__all__ = ["InstanceRecord", "pipe_inodes", "read_record", "record_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRecord:
    """What is known of an instance from before.

    Attributes:
        remembered: Its state.
        start_ticks: When its main process was started, which tells it from every other process of its pid.
        main_pid: Of one whose main process is gone and that is being swept, the pid that had; else 0.
        pipes: Inodes of the pipes of its output, stderr's last.
        current: Whether it was the instance of its slot, and not one beside it.
        candidate: Whether a reload that was not over had brought it.
        displaced: Whether a reload had it stopped before its successor, so that nobody wanted its slot to be down.
        private: Path of its private listener, "" where it has none.
        door: Path of the door it waits at, "" where it has none.
        sockets: Of a program with passed listeners, their inodes in the order of its addresses.
        cgroup: Its hard limits, or None.
    """

    remembered: Remembered
    start_ticks: int = 0
    main_pid: int = 0
    pipes: tuple[int, ...] = ()
    current: bool = True
    candidate: bool = False
    displaced: bool = False
    private: str = ""
    door: str = ""
    sockets: tuple[int, ...] = ()
    cgroup: CgroupHandle | None = None


def record_of(handle: InstanceHandle) -> dict[str, object]:
    """Return what has to be written down of an instance."""
    machine, worker, passed = handle.machine, handle.worker, handle.passed
    record: dict[str, object] = {
        "pid": machine.pid,
        "ticks": handle.start_ticks,
        "state": machine.state.value,
        "desired": machine.desired.value,
        "reason": machine.reason.value,
        "incarnation": machine.incarnation,
        "generation": machine.generation,
        "since": machine.since,
        "started": machine.started_at,
    }
    # What is as it mostly is, is left out: there is a line for every change of every instance.
    for name in ("failures", "restarts", "restart_pending", "killed", "unhealthy", "completed", "detail"):
        if value := getattr(machine, name):
            record[name] = value
    if machine.exit is not None:
        record["exit"] = _exit_record(machine.exit)
    if machine.state is State.SWEEPING:
        record["main"] = handle.main_pid
    if machine.pid is not None or machine.alive:
        record["pipes"] = pipe_inodes(handle.pipes)
    if handle.process.instances.get(handle.slot) is not handle:
        record["beside"] = True
    if handle.pinned is not None:
        record["candidate"] = True
    elif handle.process.reloading and machine.desired is Desired.DOWN and not handle.retired:
        record["displaced"] = True
    if handle.cgroup is not None:
        group = handle.cgroup
        record["cgroup"] = {"name": group.name, "kinds": [kind.value for kind in group.kinds], "folders": group.folders}
    if worker is not None:
        record["private"], record["door"] = worker.private, worker.door
    if passed is not None:
        record["private"], record["sockets"] = passed.private, passed.inodes
    return record


def pipe_inodes(pipes: list[Pipe]) -> list[int]:
    """Return what the pipes of an output are known by, whoever holds them."""
    return [os.fstat(pipe.fd).st_ino for pipe in pipes if pipe.fd >= 0]


def read_record(record: Mapping[str, object]) -> InstanceRecord:
    """Return a record of the journal.

    Raises:
        ValueError: It is none.
    """
    remembered = Remembered(
        state=State(record.get("state")),
        desired=Desired(record.get("desired")),
        reason=Reason(record.get("reason", Reason.NONE.value)),
        incarnation=_number(record, "incarnation"),
        generation=_number(record, "generation"),
        pid=None if record.get("pid") is None else _number(record, "pid"),
        failures=_number(record, "failures"),
        restarts=_number(record, "restarts"),
        restart_pending=record.get("restart_pending") is True,
        killed=record.get("killed") is True,
        unhealthy=record.get("unhealthy") is True,
        completed=record.get("completed") is True,
        since=_seconds(record, "since") or 0.0,
        started_at=_seconds(record, "started"),
        exit=_exit(record.get("exit")),
        detail=str(record.get("detail", "")),
    )
    pipes, sockets = record.get("pipes", []), record.get("sockets", [])
    if not isinstance(pipes, list) or not isinstance(sockets, list):
        raise ValueError("its pipes or its sockets are no list")  # noqa: TRY004 - whatever is wrong is one thing
    return InstanceRecord(
        remembered=remembered,
        start_ticks=_number(record, "ticks"),
        main_pid=_number(record, "main"),
        pipes=tuple(inode for inode in pipes if isinstance(inode, int)),
        current=record.get("beside") is not True,
        candidate=record.get("candidate") is True,
        displaced=record.get("displaced") is True,
        private=str(record.get("private", "")),
        door=str(record.get("door", "")),
        sockets=tuple(inode for inode in sockets if isinstance(inode, int)),
        cgroup=_cgroup(record.get("cgroup")),
    )


def _cgroup(record: object) -> CgroupHandle | None:
    if not isinstance(record, dict):
        return None
    from oxherd.system.cgroups import CgroupHandle  # noqa: PLC0415 - only instances with hard limits have one
    from oxherd.system.placement import CgroupKind  # noqa: PLC0415

    kinds, folders = record.get("kinds"), record.get("folders")
    if not isinstance(kinds, list) or not isinstance(folders, list) or len(kinds) != len(folders):
        raise ValueError("its cgroup is none")
    kept = tuple(CgroupKind(kind) for kind in kinds)
    return CgroupHandle(str(record.get("name")), kept, tuple(str(folder) for folder in folders))


def _exit_record(status: ExitStatus) -> dict[str, object]:
    names = ("code", "signal", "core_dumped", "oom")
    return {name: value for name in names if (value := getattr(status, name)) is not None and value is not False}


def _exit(record: object) -> ExitStatus | None:
    if not isinstance(record, dict):
        return None
    return ExitStatus(
        code=_number(record, "code") if "code" in record else None,
        signal=_number(record, "signal") if "signal" in record else None,
        core_dumped=record.get("core_dumped") is True,
        oom=record.get("oom") is True,
    )


def _number(record: Mapping[str, object], key: str) -> int:
    value = record.get(key, 0)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"its {key} is {value!r:.40}")
    return value


def _seconds(record: Mapping[str, object], key: str) -> float | None:
    value = record.get(key)
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise ValueError(f"its {key} is {value!r:.40}")
    return None if value is None else float(value)
