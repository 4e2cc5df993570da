"""What stands before a server on its command line, and so: which interpreter Oxherd's workers would run it in.

A command may only be hosted where nothing is lost by it: what ``nice``, ``newrelic-admin`` or a shell script would do
for the program, a worker would go without.
"""

from __future__ import annotations

import os

from oxherd.programs.arguments import is_python, option_names
from oxherd.programs.interpreter import Found, find_interpreter, find_program
from oxherd.programs.shellwords import activation, plain_words
from oxherd.records import dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.config.model import Command, ProcessSpec
    from oxherd.programs.program import Program

__all__ = ["Footing", "footing"]

# What runs a program inside the environment of a project, and its flags that change nothing about the program.
_RUNNERS = frozenset({"uv", "poetry", "pdm", "pipenv", "rye", "hatch"})
_HARMLESS = option_names("--no-sync --frozen --locked --no-dev --quiet -q --no-progress --offline --no-ansi -n --")


@dataclass(frozen=True, slots=True, kw_only=True)
class Footing:
    """Where a server stands.

    Attributes:
        python: The interpreter, absolute.
        reason: Why that one.
        options: Options for the interpreter itself, such as ``-O``.
        env: Variables the command line sets before the program.
        there: Whether the program of the command line was found.
        head: The words before the server's own arguments.
        behind_shell: Whether a shell reads the command line.
        why_not: Why its command has to run as it is; "" where it can be hosted.
        notes: What is different where it is hosted.
    """

    python: str = ""
    reason: str = ""
    options: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    there: bool = True
    head: tuple[str, ...] = ()
    behind_shell: bool = False
    why_not: str = ""
    notes: tuple[str, ...] = ()


def footing(spec: ProcessSpec, command: Command, program: Program, environ: Mapping[str, str]) -> Footing:
    """Return where the server of a command stands.

    Args:
        spec: The process.
        command: Its command.
        program: What that was recognised as.
        environ: The caller's environment, for PATH.
    """
    argv = plain_words(command.argv)
    activated = activation(command.argv)
    if activated is not None:
        return _activated(spec, program, *activated, environ=environ)
    if argv is None:
        return Footing(
            behind_shell=True, why_not="a shell reads the command line, and may do more than start the server"
        )
    head = argv[: len(argv) - len(program.args)]
    return replace(_stands(spec, command, program, environ, list(head)), head=head)


def _stands(
    spec: ProcessSpec, command: Command, program: Program, environ: Mapping[str, str], words: list[str]
) -> Footing:
    env: dict[str, str] = {}
    while words and os.path.basename(words[0]) in ("exec", "env"):
        head = os.path.basename(words.pop(0))
        while head == "env" and words and _is_assignment(words[0]):
            name, _, value = words.pop(0).partition("=")
            env[name] = value
        if words and words[0].startswith("-"):
            return Footing(why_not=f"it is started by {head} {words[0]}")
    if not words:
        return Footing(why_not="its program is not known")
    head = os.path.basename(words[0])
    assigned = tuple(env.items())
    spec = replace(spec, command=replace(command, argv=(*words, *program.args)))
    if head in _RUNNERS:
        return _of_runner(spec, head, words, {**environ, **dict(spec.env), **env}, assigned)
    if is_python(head) and len(words) > 1:
        found = find_program(spec, environ)
        path = found.path if found is not None else _missing_path(spec, words[0])
        if spec.python is not None and found is not None and found.path != spec.python and "/" not in words[0]:
            path = spec.python
        options = _python_options(words)
        return Footing(
            python=path, reason="the command runs it", options=options, env=assigned, there=found is not None
        )
    if len(words) > 1:
        return Footing(why_not=f"it is started through {head}, which does something of its own for it")
    return _of_script(spec, words[0], environ, assigned)


def _activated(
    spec: ProcessSpec, program: Program, folder: str, argv: tuple[str, ...], *, environ: Mapping[str, str]
) -> Footing:
    """Return the footing of a server after ``source DIR/bin/activate``: that environment's interpreter and variables."""
    folder = os.path.normpath(os.path.join(spec.working_dir, folder))
    head = argv[: len(argv) - len(program.args)]
    bare = len(head) == 1 and "/" not in head[0]
    module = len(head) == 3 and head[1] == "-m" and head[0] in ("python", "python3")
    if not bare and not module:
        return Footing(
            behind_shell=True, why_not="a shell activates an environment, and runs something else than its server"
        )
    bin_folder = os.path.join(folder, "bin")
    path = dict(spec.env).get("PATH") or environ.get("PATH") or os.defpath
    env = (("PATH", f"{bin_folder}{os.pathsep}{path}"), ("VIRTUAL_ENV", folder))
    python = spec.python or os.path.join(bin_folder, "python")
    there = os.access(os.path.join(bin_folder, head[0]), os.X_OK)
    reason = "the oxfile names it" if spec.python is not None else "of the environment that the command activates"
    return Footing(python=python, reason=reason, env=env, head=head, there=there)


def _is_assignment(word: str) -> bool:
    name, equals, _ = word.partition("=")
    return bool(equals) and name.isidentifier()


def _missing_path(spec: ProcessSpec, word: str) -> str:
    return os.path.join(spec.working_dir, word) if "/" in word else word


def _python_options(words: list[str]) -> tuple[str, ...]:
    """Return what stands between the interpreter and ``-m``; of ``-um`` it is ``-u``."""
    options = words[1:-1]
    last = options.pop().removesuffix("m")
    return tuple(options if last == "-" else [*options, last])


def _of_script(spec: ProcessSpec, word: str, environ: Mapping[str, str], env: tuple[tuple[str, str], ...]) -> Footing:
    """Return the footing of a server's own script: its first line names the interpreter."""
    if spec.python is not None:
        return Footing(python=spec.python, reason="the oxfile names it", env=env)
    there = find_program(spec, environ)
    if there is None and "/" in word:
        # Its virtual environment is not there yet; its interpreter will be beside the script.
        path = os.path.join(os.path.dirname(_missing_path(spec, word)), "python")
        return Footing(python=path, reason=f"beside {word}, which is not there yet", env=env, there=False)
    found: Found = find_interpreter(spec, environ)
    if there is not None and not found.reason.startswith(("the first line", "the command runs")):
        return Footing(why_not=f'{there.path} names no Python interpreter in its first line; python = "..." would')
    return Footing(python=found.path, reason=found.reason, env=env, there=there is not None)


def _of_runner(
    spec: ProcessSpec,
    head: str,
    words: list[str],
    environ: Mapping[str, str],
    env: tuple[tuple[str, str], ...],
) -> Footing:
    """Return the footing of ``uv run SERVER`` and its like: the project's own environment, where it is known."""
    rest = [word for word in words[1:-1] if word not in ("run", "-m", "--module") and word not in _HARMLESS]
    if rest and not (len(rest) == 1 and is_python(rest[0])):
        return Footing(why_not=f"{head} run is told {rest[0]}, which may change what is run")
    if spec.python is not None:
        return Footing(python=spec.python, reason="the oxfile names it", env=env)
    folder = environ.get("UV_PROJECT_ENVIRONMENT", "") if head == "uv" else ""
    path = os.path.join(spec.working_dir, folder or ".venv", "bin", "python")
    if not os.access(path, os.X_OK):
        advice = 'make it there, or write python = "..." with the interpreter of the project'
        return Footing(
            why_not=f"the environment that {head} would use is not {os.path.dirname(os.path.dirname(path))}; {advice}"
        )
    note = (
        f"{head} run brings the environment up to date first, which Oxherd does not: do that before a start or reload"
    )
    return Footing(
        python=path,
        reason=f"{folder or '.venv'} of the working directory, which {head} run uses",
        env=env,
        notes=(note,) if head == "uv" else (),
    )
