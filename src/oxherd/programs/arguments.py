"""Reading the arguments of other people's programs: options with and without values, and what wraps a program."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Options", "is_python", "option_names", "unwrap", "without"]


def option_names(text: str) -> frozenset[str]:
    """Return the options named in a text, which is how tables of them stay readable."""
    return frozenset(text.split())


class Options:
    """The arguments of a program, as far as its options that take a value are known."""

    def __init__(self, args: tuple[str, ...], valued: frozenset[str]) -> None:
        """Sort arguments into options and words.

        Args:
            args: The arguments.
            valued: The options that take a value, with their dashes.
        """
        self.words: list[str] = []
        self.values: dict[str, list[str]] = {}
        rest = iter(args)
        for arg in rest:
            if arg == "--":
                self.words.extend(rest)
            elif arg.startswith("--"):
                name, equals, value = arg.partition("=")
                taken = value if equals else next(rest, "") if name in valued else ""
                self.values.setdefault(name, []).append(taken)
            elif arg.startswith("-") and len(arg) > 1:
                self._short(arg, valued, rest)
            else:
                self.words.append(arg)

    def _short(self, arg: str, valued: frozenset[str], rest: Iterator[str]) -> None:
        for index in range(1, len(arg)):
            name = f"-{arg[index]}"
            if name in valued:
                value = arg[index + 1 :].removeprefix("=") or next(rest, "")
                self.values.setdefault(name, []).append(value)
                return
            self.values.setdefault(name, []).append("")

    def has(self, *names: str) -> bool:
        """Return whether one of these options is there."""
        return any(name in self.values for name in names)

    def last(self, *names: str) -> str | None:
        """Return the value of the last one of these options, or None."""
        found = [value for name in names for value in self.values.get(name, ())]
        return found[-1] if found else None

    def every(self, *names: str) -> list[str]:
        """Return the values of all of these options."""
        return [value for name in names for value in self.values.get(name, ())]

    def number(self, *names: str) -> float | None:
        """Return the value of the last one of these options as a number, or None."""
        text = self.last(*names)
        try:
            return float(text) if text else None
        except ValueError:
            return None


def without(args: tuple[str, ...], valued: frozenset[str], *names: str) -> tuple[str, ...]:
    """Return the arguments without some options and their values.

    Args:
        args: The arguments.
        valued: The options that take a value; those to be left out are among them.
        names: The options to leave out, with their dashes. A short one is found where it stands by itself or has its value
            glued to it, not in the middle of a bunch.
    """
    kept: list[str] = []
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            return (*kept, arg, *rest)
        name = arg.partition("=")[0] if arg.startswith("--") else arg[:2]
        if arg.startswith("-") and name in names:
            if arg == name:
                next(rest, None)
            continue
        kept.append(arg)
        if arg in valued:
            kept.extend(value for value in [next(rest, None)] if value is not None)
    return tuple(kept)


# Options of wrappers that take a value, so that the value is not taken for the program.
_UV_VALUED = option_names(
    "--with --with-editable --with-requirements --project --directory --python -p --env-file --extra --group --package "
    "--index --index-url --cache-dir --config-file --only-group --no-group --color"
)
_RUNNERS = {
    "uv": _UV_VALUED,
    "poetry": frozenset({"-C", "--directory", "-P", "--project"}),
    "pipenv": frozenset({"--python"}),
    "pdm": frozenset({"-p", "--project"}),
    "rye": frozenset[str](),
    "hatch": frozenset({"-e", "--env", "-p", "--project"}),
    "pixi": frozenset({"-e", "--environment", "--manifest-path"}),
    "newrelic-admin": frozenset[str](),
}
_RUN_WORDS = frozenset({"run", "run-program"})
_PREFIXES = {
    "exec": (0, frozenset({"-a"})),
    "env": (0, frozenset({"-u", "--unset", "-C", "--chdir"})),
    "nice": (0, frozenset({"-n", "--adjustment"})),
    "ionice": (0, frozenset({"-c", "-n", "--class", "--classdata"})),
    "nohup": (0, frozenset[str]()),
    "setsid": (0, frozenset[str]()),
    "stdbuf": (0, frozenset({"-i", "-o", "-e"})),
    "timeout": (1, frozenset({"-s", "--signal", "-k", "--kill-after"})),
    "tini": (0, frozenset({"-p", "-e"})),
    "dumb-init": (0, frozenset({"-r", "--rewrite"})),
    "gosu": (1, frozenset[str]()),
    "su-exec": (1, frozenset[str]()),
    "opentelemetry-instrument": (0, frozenset({"--traces_exporter", "--metrics_exporter", "--service_name"})),
    "ddtrace-run": (0, frozenset[str]()),
}
_PYTHON_VALUED = frozenset({"-X", "-W"})


def unwrap(argv: tuple[str, ...]) -> tuple[str, tuple[str, ...], str]:
    """Return the name of the program that is run in the end, its arguments, and what stands before it.

    Args:
        argv: A command line such as ``poetry run python -m celery -A app worker``.

    Returns:
        ``("celery", ("-A", "app", "worker"), "poetry run python -m")``. A module is named like its command.
    """
    rest = list(argv)
    wrapper: list[str] = []
    while rest:
        name = os.path.basename(rest[0])
        taken = _wrapper_length(name, rest)
        if not taken or taken >= len(rest):
            break
        wrapper += [name, *rest[1:taken]]
        rest = rest[taken:]
    if not rest:
        return "", (), " ".join(wrapper)
    name = os.path.basename(rest[0])
    return name.removesuffix(".__main__"), tuple(rest[1:]), " ".join(wrapper)


def _wrapper_length(name: str, rest: list[str]) -> int:
    """Return how many words of the command line wrap another one."""
    if _is_assignment(rest[0]):
        return 1
    if is_python(name):
        return _python_length(rest)
    if name in _PREFIXES:
        words, valued = _PREFIXES[name]
        return _after_options(rest, 1, valued) + words
    if name in _RUNNERS:
        at = _after_options(rest, 1, _RUNNERS[name])
        if at < len(rest) and rest[at] in _RUN_WORDS:
            return _after_options(rest, at + 1, _RUNNERS[name])
    return 0


def _is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier()


def _after_options(rest: list[str], at: int, valued: frozenset[str]) -> int:
    while at < len(rest) and (rest[at].startswith("-") or _is_assignment(rest[at])):
        if rest[at] == "--":
            return at + 1
        if rest[at] in ("-m", "--module"):
            return at + 1
        at += 2 if rest[at] in valued else 1
    return at


def is_python(name: str) -> bool:
    """Return whether a program of this name is a Python interpreter."""
    for prefix in ("python", "pypy"):
        if name.startswith(prefix) and not name.removeprefix(prefix).strip("0123456789.tdw"):
            return True
    return False


def _python_length(rest: list[str]) -> int:
    at = 1
    while at < len(rest) and rest[at].startswith("-"):
        if rest[at] == "-c":
            return 0
        if rest[at].endswith("m") and not rest[at].startswith("--") and rest[at][:2] not in _PYTHON_VALUED:
            return at + 1
        at += 2 if rest[at] in _PYTHON_VALUED else 1
    return at
