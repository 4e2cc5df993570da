"""The systemd unit that runs the supervisor, as text. Pure: nothing is read and nothing is written."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["UNIT_NAME", "ServiceUnit", "render_unit", "stop_seconds"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from oxherd.config.model import Oxfile

UNIT_NAME = "oxherd.service"

# Added to the longest stop timeout: the supervisor's own sweep after it, and saving its journal.
_STOP_MARGIN = 30.0
# What a stack that is started after the unit was written may need: Celery workers are given five minutes by default.
_LEAST_STOP = 330.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUnit:
    """What the unit depends on.

    Attributes:
        command: The command line of the supervisor; the program is an absolute path.
        user: A unit of the user's own systemd instead of the machine's.
        home: OXHERD_HOME, where it is set.
        path: PATH for the supervisor and, where a stack keeps no other, for its processes.
        stop_timeout: Seconds the supervisor is given to stop everything.
    """

    command: tuple[str, ...]
    user: bool = False
    home: str | None = None
    path: str | None = None
    stop_timeout: float = _LEAST_STOP


def stop_seconds(stacks: Iterable[Oxfile]) -> float:
    """Return how long stopping these stacks may take, with a margin.

    Processes stop in the order of their dependencies, those without one between them at the same time: the longest
    chain counts.
    """
    longest = max((_chain(stack) for stack in stacks), default=0.0)
    return max(_LEAST_STOP, longest + _STOP_MARGIN)


def _chain(stack: Oxfile) -> float:
    specs = {spec.name: spec for spec in stack.processes}
    known: dict[str, float] = {}

    def seconds(name: str) -> float:
        if name not in known:
            known[name] = 0.0  # a circle was refused when the oxfile was read
            spec = specs[name]
            before = [seconds(dependency) for dependency, _ in spec.depends_on if dependency in specs]
            known[name] = spec.stop.timeout + max(before, default=0.0)
        return known[name]

    return max((seconds(name) for name in specs), default=0.0)


def render_unit(unit: ServiceUnit) -> str:
    """Return the unit file.

    The directives that are not obvious:

    - ``KillMode=mixed``: the stop signal goes to the supervisor alone, which stops the stacks in their order; what is
      left at the timeout is killed. The default would send SIGTERM to every Celery pool process.
    - ``Delegate=yes``: the supervisor makes cgroups of its own for ``limits.hard``.
    - ``OOMPolicy=continue``: a program that the kernel kills for memory is restarted by the supervisor; systemd must
      not stop everything else because of it.
    """
    environment: dict[str, str] = {}
    if unit.home is not None:
        environment["OXHERD_HOME"] = unit.home
    if unit.path is not None:
        environment["PATH"] = unit.path
    return "\n".join([*_head(unit), *_service(unit, environment), *_install(unit)]) + "\n"


def _head(unit: ServiceUnit) -> list[str]:
    lines = [
        "# Written by `oxherd service install`, which replaces it; `oxherd service uninstall` removes it.",
        "[Unit]",
    ]
    lines.append("Description=Oxherd process manager")
    if not unit.user:
        # The user's manager knows no network-online.target; by the time it runs, the machine has long been up.
        lines += ["Wants=network-online.target", "After=network-online.target"]
    return [*lines, ""]


def _service(unit: ServiceUnit, environment: Mapping[str, str]) -> list[str]:
    lines = ["[Service]", "Type=exec", f"ExecStart={' '.join(_quoted(word) for word in unit.command)}"]
    lines += [f"Environment={_quoted(f'{name}={value}', variables=False)}" for name, value in environment.items()]
    lines += [
        "KillMode=mixed",
        f"TimeoutStopSec={unit.stop_timeout:.0f}",
        "Restart=on-failure",
        "RestartSec=1",
        "Delegate=yes",
        "OOMPolicy=continue",
        "TasksMax=infinity",
    ]
    return [*lines, ""]


def _install(unit: ServiceUnit) -> list[str]:
    return ["[Install]", f"WantedBy={'default.target' if unit.user else 'multi-user.target'}"]


def _quoted(word: str, *, variables: bool = True) -> str:
    """Return a word as systemd reads it back: systemd.syntax(7), and "%" and "$" of systemd.unit(5), systemd.service(5).

    Args:
        word: The word.
        variables: Whether ``$`` begins a variable here, as in ExecStart.
    """
    text = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("%", "%%")
    if variables:
        text = text.replace("$", "$$")
    return f'"{text}"' if text != word or not word or any(char in " \t;'" for char in word) else text
