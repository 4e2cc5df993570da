"""The systemd unit that runs the supervisor, as text. Pure: nothing is read and nothing is written."""

from __future__ import annotations

from oxherd.records import dataclass

__all__ = ["UNIT_NAME", "ServiceUnit", "render_unit", "stop_seconds"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from oxherd.config.model import Oxfile

UNIT_NAME = "oxherd.service"

# The first systemd that knows DelegateSubgroup=; an older one would complain of it at each boot.
_DELEGATE_SUBGROUP = 254

# Added to the longest stop timeout: the supervisor's own sweep after it, and saving its journal.
_STOP_MARGIN = 30.0
# What a stack that is started after the unit was written may need: Celery workers are given five minutes by default.
_LEAST_STOP = 330.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceUnit:
    """What the unit depends on.

    Attributes:
        program: How ``oxherd`` is called: an absolute path, and arguments of an interpreter if it is one.
        user: A unit of the user's own systemd instead of the machine's.
        home: OXHERD_HOME, where it is set.
        path: PATH for the supervisor and, where a stack keeps no other, for its processes.
        stop_timeout: Seconds the supervisor is given to stop everything; one that works may ask for more.
        systemd: The version of systemd that is to read it; 0 is any.
    """

    program: tuple[str, ...]
    user: bool = False
    home: str | None = None
    path: str | None = None
    stop_timeout: float = _LEAST_STOP
    systemd: int = 0


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

    The directives that are not obvious; systemd.service(5), systemd.kill(5):

    - ``Type=notify``: the service is started when the supervisor takes commands, not when a program was exec'd; it does
      not wait for the stacks. ``TimeoutStartSec=infinity``: a machine that is too slow to start it is not made quicker
      by starting it again, and `oxherd daemon sweep --after-stop` may take every timeout for one of a stop.
    - ``KillMode=process``: a stop goes to the supervisor alone, which stops the stacks in their order and asks for the
      time it takes; the default would send SIGTERM to every Celery pool process. And a supervisor that dies leaves its
      programs alone, for the next one to adopt.
    - ``ExecStopPost=``: what is left when the supervisor was killed in the middle of a stop is ended by its mark. Its
      own failure must not look like one of the supervisor, which would be restarted for it: hence the dash.
    - ``WatchdogSec=30``: a loop that has not turned for so long does not turn any more. Everything it does takes
      milliseconds; what blocks it is a disk that does not answer, and the longest such wait of a working machine (a
      disk that spins up, a storage path that fails over) is below half a minute. Its programs do not notice either way,
      so there is no hurry. It wakes the supervisor four times a minute. ``TimeoutAbortSec=``: a dead one needs no
      ``TimeoutStopSec`` to die.
    - ``Restart=on-failure``: ``oxherd daemon stop`` is a clean end and stays one. ``RestartSec=``: while nobody reads
      the pipes of the programs, those that write much stand still. ``StartLimitIntervalSec=0``: it is never given up.
    - ``Delegate=yes``: the supervisor makes cgroups of its own for ``limits.hard``. ``DelegateSubgroup=``: where these
      exist, a new supervisor could not be put beside them.
    - ``OOMPolicy=continue``: a program that the kernel kills for memory is restarted by the supervisor; systemd must
      not stop everything else because of it.

    There is no sandboxing in it: programs inherit it, and what it forbids (``NoNewPrivileges=`` forbids sudo and
    sendmail) they may need.
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
    lines.append("StartLimitIntervalSec=0")
    return [*lines, ""]


def _service(unit: ServiceUnit, environment: Mapping[str, str]) -> list[str]:
    lines = [
        "[Service]",
        "Type=notify",
        "NotifyAccess=main",
        f"ExecStart={_line(unit, 'daemon', 'run')}",
        f"ExecReload={_line(unit, 'daemon', 'upgrade')}",
        f"ExecStopPost=-{_line(unit, 'daemon', 'sweep', '--after-stop')}",
    ]
    lines += [f"Environment={_quoted(f'{name}={value}', variables=False)}" for name, value in environment.items()]
    lines += [
        "KillMode=process",
        "TimeoutStartSec=infinity",
        f"TimeoutStopSec={unit.stop_timeout:.0f}",
        "WatchdogSec=30",
        "TimeoutAbortSec=10",
        "Restart=on-failure",
        "RestartSec=100ms",
        "Delegate=yes",
        *(["DelegateSubgroup=supervisor"] if unit.systemd >= _DELEGATE_SUBGROUP else []),
        "OOMPolicy=continue",
        "TasksMax=infinity",
    ]
    return [*lines, ""]


def _install(unit: ServiceUnit) -> list[str]:
    return ["[Install]", f"WantedBy={'default.target' if unit.user else 'multi-user.target'}"]


def _line(unit: ServiceUnit, *arguments: str) -> str:
    return " ".join(_quoted(word) for word in (*unit.program, *arguments))


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
