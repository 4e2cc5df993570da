"""Addresses: who holds the ports that are wanted, and which processes would fight for one."""

from __future__ import annotations

import os

from oxherd.cli.checks.finding import ok, problem, warning
from oxherd.control.paths import stack_id
from oxherd.core.endpoint import parse_address, parse_endpoint
from oxherd.system.identity import mark_of
from oxherd.system.portholders import holder_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from oxherd.cli.checks.finding import Examination, Finding
    from oxherd.config.model import ProcessSpec
    from oxherd.programs.program import Bind

__all__ = ["check_ports"]

_ANY = {"0.0.0.0", "::", "", "*"}  # noqa: S104 - the addresses that stand for every address
_LOCAL = {"localhost": "127.0.0.1"}


def check_ports(examination: Examination) -> Iterator[Finding]:
    """Look at every address that is held for a process, or that a recognised command line binds."""
    wanted: list[tuple[ProcessSpec, Bind]] = []
    for spec in examination.processes:
        binds = examination.binds(spec)
        wanted += [(spec, bind) for bind in binds]
        if binds and spec.instances > 1 and spec.host is None:
            yield problem(
                f"{spec.instances} instances would bind {binds[0].text()} each, and only the first can",
                where=spec.name,
                advice="use the server's own --workers, or an address with {instance} in it",
            )
        yield from _health_elsewhere(spec, binds)
    yield from _fights(wanted)
    for spec, bind in wanted:
        yield _holder(examination, spec, bind)


def _fights(wanted: list[tuple[ProcessSpec, Bind]]) -> Iterator[Finding]:
    for index, (spec, bind) in enumerate(wanted):
        for other, taken in wanted[:index]:
            if spec.name != other.name and _overlap(bind, taken):
                yield problem(
                    f"{other.name} binds {taken.text()} too",
                    where=f"{spec.name} {bind.text()}",
                    advice="give one of them another port",
                )


def _overlap(one: Bind, other: Bind) -> bool:
    if one.path or other.path:
        return one.path == other.path
    hosts = {_LOCAL.get(one.host, one.host), _LOCAL.get(other.host, other.host)}
    return one.port == other.port and (len(hosts) == 1 or bool(hosts & _ANY))


def _holder(examination: Examination, spec: ProcessSpec, bind: Bind) -> Finding:
    where = f"{spec.name} {bind.text()}"
    if bind.path:
        folder = os.path.dirname(os.path.join(spec.working_dir, bind.path))
        if os.path.isdir(folder):
            return ok("its folder is there", where=where)
        return problem(f"the folder {folder} is not there", where=where, advice="make it")
    if 0 < bind.port < _first_free_port() and examination.euid != 0:
        return problem(
            f"ports below {_first_free_port()} need privileges",
            where=where,
            advice="use a higher port behind a proxy, or lower sysctl net.ipv4.ip_unprivileged_port_start",
        )
    holders = holder_of(bind.host, bind.port) if bind.port else ()
    strangers = [holder for holder in holders if not _ours(examination, holder.pid)]
    if strangers:
        names = ", ".join(holder.text for holder in strangers)
        return problem(f"port {bind.port} is held by {names}", where=where, advice="stop that, or use another port")
    return ok("held by this stack" if holders else "free", where=where)


def _ours(examination: Examination, pid: int) -> bool:
    """Whether a process belongs to this very stack: the supervisor marks everything it starts."""
    if examination.oxfile is None:
        return False
    # The listeners of hosted processes are the supervisor's own.
    return pid in examination.supervisors() or (mark_of(pid) or "").startswith(f"{stack_id(examination.oxfile.path)}/")


def _first_free_port() -> int:
    try:
        with open("/proc/sys/net/ipv4/ip_unprivileged_port_start", encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024


def _health_elsewhere(spec: ProcessSpec, binds: tuple[Bind, ...]) -> Iterator[Finding]:
    """A health check that asks another port than the process serves would judge somebody else."""
    health = spec.health
    ports = {bind.port for bind in binds if not bind.path}
    if health is None or not ports or not (health.endpoint or health.tcp):
        return
    address = parse_endpoint(health.endpoint).address if health.endpoint else parse_address(health.tcp or "")
    port = address.port
    if port and port not in ports:
        served = ", ".join(str(number) for number in sorted(ports))
        yield warning(
            f"its health check asks port {port}, and it serves port {served}",
            where=spec.name,
            advice=f"correct [processes.{spec.name}.health_check], unless a proxy between them is meant to be checked",
        )
