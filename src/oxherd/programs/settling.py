"""What all hosted processes have in common: slots, times, restarts and health, settled once their server was read."""

from __future__ import annotations

from oxherd.config import problems
from oxherd.config.cpus import usable_cpus
from oxherd.core.restart import RestartMode
from oxherd.programs.hosting import url_of_bind
from oxherd.records import dataclass, field, replace
from oxherd.units import format_seconds, signal_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oxherd.config.model import HealthSpec, HostSpec, ProcessSpec, StopSpec
    from oxherd.config.problems import Place
    from oxherd.errors import Problem

__all__ = ["GRACE_MARGIN", "Plan", "Remark", "settled"]

# Seconds between the end of the graceful time and the SIGKILL of the stop timeout, in which a worker ends by itself.
GRACE_MARGIN = 2.0
# Seconds more than the keep-alive time for which a leaving worker listens on idle connections: one of them that ends by
# itself ends before, and a request that was under way when it was told to go still arrives.
_LINGER_MARGIN = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """A problem that was found; it becomes one of the oxfile where its place is known.

    Attributes:
        keys: The canonical keys it may stand at, the best first.
        problem: Makes the problem of its place.
    """

    keys: tuple[str, ...]
    problem: Callable[[Place], Problem]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What was made of one process.

    Attributes:
        spec: The process, with ``host`` where it has one.
        notes: For people.
        origins: Where settings come from that were changed, by their canonical name.
        remarks: What is wrong.
        interpreter: Why that interpreter; "" where there is none.
        workers_from: Where the number of workers comes from; "" where it is a default.
        untouched: Why a known server is run as its command says; "" where that is not so.
    """

    spec: ProcessSpec
    notes: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    interpreter: str = ""
    workers_from: str = ""
    untouched: str = ""


def settled(
    spec: ProcessSpec,
    host: HostSpec,
    *,
    workers: int | None,
    workers_from: str,
    graceful: float | None,
    graceful_from: str,
    interpreter: str,
    remarks: tuple[Remark, ...],
    notes: tuple[str, ...] = (),
) -> Plan:
    """Return the plan of a hosted process: slots, times, restarts and health settled."""
    count = usable_cpus() if workers is None else workers
    said: list[str] = list(notes)
    origins: dict[str, str] = {}
    more = list(remarks)
    if count != 1:
        origins["instances"] = workers_from or "workers"
        if spec.instances != 1:
            said.append(f"{spec.instances} instances of {count} workers each are {spec.instances * count} workers")
    stop, grace = _times(spec, graceful, graceful_from, origins, more)
    if stop.signal != type(stop)().signal:
        said.append(f"a worker is asked to go by SIGTERM; stop_signal {signal_name(stop.signal)} is not used")
        stop = replace(stop, signal=type(stop)().signal)
    restart = spec.restart
    if restart.mode is RestartMode.ON_FAILURE:
        restart = replace(restart, mode=RestartMode.ALWAYS)
        origins["restart"] = "a worker that ends by itself has failed, whatever its exit code"
    host = replace(
        host,
        graceful_timeout=grace,
        linger=min(host.keepalive + _LINGER_MARGIN, grace),
        boot_timeout=host.boot_timeout if spec.ready_timeout is None else spec.ready_timeout,
        balance="shared" if all(bind.startswith("unix:") for bind in host.bind) else host.balance,
    )
    changed = replace(
        spec,
        host=host,
        instances=spec.instances * count,
        stop=stop,
        restart=restart,
        health=_health(spec.health, host),
    )
    return Plan(
        spec=changed,
        notes=tuple(said),
        origins=origins,
        remarks=tuple(more),
        interpreter=interpreter,
        workers_from=workers_from,
    )


def _times(
    spec: ProcessSpec,
    graceful: float | None,
    graceful_from: str,
    origins: dict[str, str],
    remarks: list[Remark],
) -> tuple[StopSpec, float]:
    """Return stop timeout and graceful time: the worker ends by itself before the stop timeout kills it."""
    stop = spec.stop
    margin = min(GRACE_MARGIN, stop.timeout / 2)
    if graceful is None:
        return stop, stop.timeout - margin
    if graceful + GRACE_MARGIN <= stop.timeout:
        return stop, graceful
    if "stop_timeout" not in spec.set_keys:
        origins["stop_timeout"] = f"{graceful_from} and {format_seconds(GRACE_MARGIN)}"
        return replace(stop, timeout=graceful + GRACE_MARGIN), graceful
    if graceful > stop.timeout:
        message = f"{graceful_from} is more than the stop timeout ({format_seconds(stop.timeout)}), which ends it"
        hint = f'write stop_timeout = "{graceful + GRACE_MARGIN:g}s"'
        remarks.append(
            Remark(
                keys=("graceful_timeout", "stop_timeout"),
                problem=lambda place: problems.no_effect(place, message, hint=hint),
            )
        )
    return stop, min(graceful, stop.timeout - margin)


def _health(health: HealthSpec | None, host: HostSpec) -> HealthSpec | None:
    """Return the health check with paths completed to URLs of the first listener."""
    if health is None:
        return None
    endpoint, readiness = (
        url_of_bind(host.bind[0], url, tls=host.tls) if url is not None and url.startswith("/") else url
        for url in (health.endpoint, health.readiness)
    )
    return replace(health, endpoint=endpoint, readiness=readiness)
