"""The command line of the supervisor process. Written by the CLI, not by people, hence no argparse in its memory."""

from __future__ import annotations

from oxherd.control.paths import stack_id
from oxherd.errors import UsageError
from oxherd.records import dataclass

__all__ = ["Options", "parse_options"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How the supervisor was started.

    Attributes:
        run: Path of the oxfile of ``oxherd run``, or None for the background supervisor.
        spec_fd: In a run, the descriptor with the compiled stack as JSON.
        names: In a run, the processes that were named.
        ready_fd: A socket from which a byte is read before anything is done, and where the supervisor says that it is ready;
            or -1.
        inherit: Descriptor of what the supervisor before has handed over, or -1.
        check: Only say whether this version can take over what is written down.
        color: Whether ``oxherd run`` may use colour: "auto", "always" or "never".
    """

    run: str | None = None
    spec_fd: int = -1
    names: tuple[str, ...] = ()
    ready_fd: int = -1
    inherit: int = -1
    check: bool = False
    color: str = "auto"

    @property
    def identity(self) -> str:
        """The identity of the stack that is run in the foreground."""
        return stack_id(self.run or "")


def parse_options(arguments: list[str]) -> Options:
    """Return the options.

    Raises:
        UsageError: An argument is unknown or lacks its value.
    """
    found: dict[str, object] = {}
    names: list[str] = []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        match argument:
            case "--check":
                found["check"] = True
            case "--inherit" if rest and rest[0].isdigit():
                found["inherit"] = int(rest.pop(0))
            case "--run" | "--color" if rest:
                found[argument[2:]] = rest.pop(0)
            case "--spec-fd" | "--ready-fd" if rest and rest[0].isdigit():
                found[argument[2:].replace("-", "_")] = int(rest.pop(0))
            case "--name" if rest:
                names.append(rest.pop(0))
            case _:
                raise UsageError(
                    f"oxherd.daemon: cannot read {argument!r}", hint="start it with `oxherd daemon run`", code="OX230"
                )
    return Options(names=tuple(names), **found)  # type: ignore[arg-type]
