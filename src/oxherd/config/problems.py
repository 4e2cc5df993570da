"""Every problem the reader of an oxfile can find: one constructor each, so that all texts stand in one place.

The codes are stable. OX101 to OX149 refuse the oxfile, OX150 and above are warnings.
"""

from __future__ import annotations

import difflib
import json
import shlex

from oxherd.config.redact import is_secret_key, redact_text, redact_words
from oxherd.errors import Problem, Severity
from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "CATALOGUE",
    "Place",
    "bad_value",
    "behind_shell",
    "cluster_mode",
    "conflict",
    "dependency_cycle",
    "dialects_mixed",
    "duplicate_name",
    "engine_missing",
    "env_file_absent",
    "env_file_unreadable",
    "env_file_variable",
    "exposed_secrets",
    "missing_key",
    "missing_variable",
    "needs_shell",
    "no_effect",
    "no_processes",
    "old_python",
    "path_absent",
    "program_advice",
    "same_address",
    "same_log_file",
    "show",
    "singleton_instances",
    "syntax",
    "unknown_dependency",
    "unknown_key",
    "unknown_profile",
    "unreadable",
    "unset_in_shell",
    "wrong_type",
]

# What each code means, in one line; the reference of error codes is made of it.
CATALOGUE = {
    "OX101": "the file is not TOML",
    "OX102": "a key that Oxherd does not know",
    "OX103": "a value of the wrong type",
    "OX104": "a value outside what the key accepts",
    "OX105": "a key that is needed and missing",
    "OX106": "two settings that contradict each other",
    "OX107": "a dependency that is not in the file",
    "OX108": "processes that depend on each other in a circle",
    "OX109": "a variable that has no value",
    "OX110": "an env_file that cannot be read",
    "OX111": "an oxfile that is not there or cannot be read",
    "OX112": "a profile that no process has",
    "OX113": "a name that is used twice",
    "OX114": "a program that must never run twice, with several instances",
    "OX115": "an engine, or a Python, that an app needs and its interpreter has not",
    "OX151": "a path that is not there yet",
    "OX152": "cluster_mode, which is instances here",
    "OX153": "a command that is run through a shell",
    "OX154": "secrets in a file that everybody may read",
    "OX155": "an env_file that is not there yet",
    "OX156": "a variable in an env_file that has no value",
    "OX157": "a setting that has no effect where it stands",
    "OX158": "a way of running a program that works against its supervisor",
    "OX159": "a variable that the shell will not find",
    "OX160": "an engine, or a Python, that an app needs and its interpreter has not (yet)",
}

_TYPE_NAMES = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
    list: "an array",
    dict: "a table",
}
_SHOWN_CHARACTERS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something stands: the file as the user named it, the line from 1 (0: unknown) and the dotted key path."""

    file: str
    line: int = 0
    key: str = ""


def show(value: object, *, secret: bool = False) -> str:
    """Return a TOML value with its type as the user would recognise it; of a secret only the type is told."""
    kind = _TYPE_NAMES.get(type(value), "a date or time")
    if secret:
        return f"{kind} (its value is not shown)"
    if isinstance(value, dict):
        return f"{kind} with the keys {', '.join(value)}" if value else f"an empty {kind.removeprefix('a ')}"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = list(redact_words(value))  # a command: the word after --password is an item of its own
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, (str, list)):
        text = json.dumps(value, ensure_ascii=False, default=str)
    else:
        # Python refuses to print integers of more than 4300 digits; no oxfile means such a number.
        text = str(value) if not isinstance(value, int) or abs(value) < 10**30 else "a very large number"
    text = redact_text(text)
    if len(text) > _SHOWN_CHARACTERS:
        text = f"{text[:_SHOWN_CHARACTERS]}…"
    return f"{text} ({kind})"


def _hidden(place: Place) -> bool:
    """Values under env are never shown, nor those of keys that name a secret."""
    parts = place.key.split(".")
    return "env" in parts or is_secret_key(parts[-1])


def _problem(code: str, place: Place, message: str, *, found: str = "", expected: str = "", hint: str = "") -> Problem:
    severity = Severity.WARNING if code >= "OX150" else Severity.ERROR
    return Problem(
        code=code,
        message=message,
        file=place.file,
        line=place.line,
        key=place.key,
        found=found,
        expected=expected,
        hint=hint,
        severity=severity,
    )


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return the known word nearest to what was written, or an empty string."""
    lowered = word.lower().replace("-", "_")
    candidates = list(known)
    if lowered in candidates:
        return lowered
    return next(iter(difflib.get_close_matches(lowered, candidates, n=1, cutoff=0.6)), "")


def syntax(place: Place, detail: str, *, found: str = "", hint: str = "") -> Problem:
    """OX101: the TOML parser stopped."""
    return _problem("OX101", place, f"this is not valid TOML: {detail}", found=found, hint=hint)


def unknown_key(place: Place, name: str, known: Iterable[str], *, elsewhere: str = "") -> Problem:
    """OX102: no such key in this table; ``elsewhere`` says where a key of that name belongs."""
    known = sorted(known)
    nearest = suggestion(name, known)
    expected = f"one of {', '.join(known)}" if len(known) <= 16 else ""
    if elsewhere and nearest != name:
        hint = elsewhere
    else:
        hint = f'did you mean "{nearest}"?' if nearest else "remove it, or see docs/reference/oxfile.md for every key"
    return _problem("OX102", place, f'unknown key "{name}"', expected=expected, hint=hint)


def wrong_type(place: Place, value: object, expected: str, *, hint: str = "") -> Problem:
    """OX103: the value has another type than the key takes."""
    found = show(value, secret=_hidden(place))
    return _problem("OX103", place, "wrong type", found=found, expected=expected, hint=hint)


def bad_value(place: Place, value: object, expected: str, *, hint: str = "") -> Problem:
    """OX104: the type is right and the value is not."""
    found = show(value, secret=_hidden(place))
    return _problem("OX104", place, "this value is not accepted", found=found, expected=expected, hint=hint)


def missing_key(place: Place, name: str, *, expected: str = "", hint: str = "") -> Problem:
    """OX105: the table cannot do without this key."""
    return _problem("OX105", place, f'"{name}" is missing', expected=expected, hint=hint)


def no_processes(place: Place) -> Problem:
    """OX105: the file describes nothing to run."""
    return _problem(
        "OX105",
        place,
        "no process is described",
        expected="at least one [processes.NAME] table with a command or an app",
        hint='add [processes.web] with command = "…", or let "oxherd init" write a first oxfile',
    )


def conflict(place: Place, message: str, *, found: str = "", expected: str = "", hint: str = "") -> Problem:
    """OX106: two settings that cannot both hold."""
    return _problem("OX106", place, message, found=found, expected=expected, hint=hint)


def dialects_mixed(place: Place) -> Problem:
    """OX106: both dialects in one file."""
    return conflict(
        place,
        "[processes.NAME] and [[apps]] are two ways to say the same thing, and this file uses both",
        expected="one of the two in a file",
        hint="write every process as [processes.NAME], or every one as [[apps]]",
    )


def same_log_file(place: Place, path: str, other: str) -> Problem:
    """OX106: two processes rotate one file."""
    return conflict(
        place,
        "two processes write the same log file; each would rotate it under the other",
        found=f"{path}, which {other} writes too",
        expected="a file of its own for every process",
        hint='give each process its own log_file; "oxherd logs" shows them merged in the order of time',
    )


def same_address(place: Place, bind: str, owner: str, taken: str) -> Problem:
    """OX106: two listeners on one address."""
    return conflict(
        place,
        f"{bind} is taken: {owner} binds {taken}",
        expected="an address of its own",
        hint="give one of the two another port",
    )


def unknown_dependency(place: Place, name: str, known: Iterable[str]) -> Problem:
    """OX107: depends_on names nothing in this file."""
    known = list(known)
    nearest = suggestion(name, known)
    hint = f'did you mean "{nearest}"?' if nearest else "depends_on takes names of processes of the same file"
    return _problem(
        "OX107",
        place,
        f'there is no process "{name}"',
        expected=f"one of {', '.join(known)}" if known else "",
        hint=hint,
    )


def dependency_cycle(place: Place, names: Iterable[str]) -> Problem:
    """OX108: a circle of dependencies; ``names`` begins and ends with the same process."""
    return _problem(
        "OX108",
        place,
        "the processes depend on each other in a circle, so none of them could ever start",
        found=" -> ".join(names),
        expected="dependencies without a circle",
        hint="remove one depends_on of the circle",
    )


def missing_variable(place: Place, name: str) -> Problem:
    """OX109: ``${NAME}`` without a value."""
    return _problem(
        "OX109",
        place,
        f"the variable {name} has no value",
        found=f"${{{name}}}",
        expected="a variable of the caller's environment, of an env_file or of this process's env",
        hint=f"set it ({name}=… oxherd start), or give a default: ${{{name}:-value}}; a literal dollar sign is $$",
    )


def env_file_unreadable(place: Place, path: str, reason: str, *, hint: str = "") -> Problem:
    """OX110: an env_file cannot be read, or a line of it cannot be understood."""
    return _problem(
        "OX110",
        place,
        f"the env_file cannot be read: {reason}",
        found=path,
        expected="a readable file of NAME=value lines",
        hint=hint or "create the file, or correct the path; it is relative to the oxfile's folder",
    )


def unreadable(file: str, reason: str, *, hint: str = "") -> Problem:
    """OX111: the oxfile itself cannot be read."""
    return _problem(
        "OX111",
        Place(file=file),
        f"the oxfile cannot be read: {reason}",
        expected="a readable TOML file",
        hint=hint or 'name the file with --config, or let "oxherd init" write one here',
    )


def unknown_profile(file: str, name: str, known: Iterable[str]) -> Problem:
    """OX112: a profile was asked for that no process has."""
    known = sorted(known)
    nearest = suggestion(name, known)
    listing = f"one of {', '.join(known)}" if known else "no profile: this file has none"
    hint = (
        f'did you mean "{nearest}"?' if nearest else f"add [processes.NAME.profiles.{name}], or leave the profile out"
    )
    return _problem("OX112", Place(file=file), f'no process has a profile "{name}"', expected=listing, hint=hint)


def duplicate_name(place: Place, name: str, first_line: int) -> Problem:
    """OX113: two processes of one name."""
    return _problem(
        "OX113",
        place,
        f'the name "{name}" is used twice',
        found=f"the first one is in line {first_line}" if first_line else "",
        expected="a name of its own for every process",
        hint="rename one of them; for several copies of one process write instances = 2",
    )


def singleton_instances(place: Place, what: str, instances: int) -> Problem:
    """OX114: more than one of something that must be alone."""
    return _problem(
        "OX114",
        place,
        f"{what} must never run twice",
        found=f"instances = {instances}",
        expected="instances = 1",
        hint="remove instances; two schedulers would send every task twice",
    )


def path_absent(place: Place, path: str, *, hint: str = "") -> Problem:
    """OX151: a path that is not there, which it may be by the time of the start."""
    return _problem(
        "OX151",
        place,
        "this path is not there (yet)",
        found=path,
        hint=hint or "it has to be there when the process starts",
    )


def cluster_mode(place: Place) -> Problem:
    """OX152: the cluster mode of node scripts."""
    return _problem(
        "OX152",
        place,
        "cluster_mode forks node scripts inside one process; Oxherd runs this command once, as it is written",
        expected="instances",
        hint='write instances = 4 (or instances = "max") to run copies; each one\'s number is in OXHERD_INSTANCE',
    )


def needs_shell(place: Place, because: str) -> Problem:
    """OX153: the command is read by a shell."""
    return _problem(
        "OX153",
        place,
        f"this command is run through /bin/sh -c, because of {because}",
        hint="quote it if it is meant literally; end a list of commands with exec so that signals reach the program",
    )


def exposed_secrets(place: Place, names: Iterable[str], *, own: bool) -> Problem:
    """OX154: a world-readable file with secrets: the oxfile itself (``own``) or an env_file."""
    command = f"chmod 600 {shlex.quote(place.file)}"
    return _problem(
        "OX154",
        place,
        "this file holds secrets and every user of the machine may read it",
        found=", ".join(names),
        hint=f"{command}, or keep the values in an env_file of mode 600" if own else command,
    )


def env_file_absent(place: Place, path: str, *, hint: str = "") -> Problem:
    """OX155: an env_file that is not there while the file alone is validated."""
    return _problem(
        "OX155",
        place,
        "this env_file is not there (yet)",
        found=path,
        hint=hint or "it has to be there when the process starts; the path is relative to the oxfile's folder",
    )


def env_file_variable(place: Place, name: str) -> Problem:
    """OX156: an env_file refers to a variable that has no value; the text is kept as it is."""
    return _problem(
        "OX156",
        place,
        f"the variable {name} has no value, so ${{{name}}} is kept as it is written",
        hint="set it, give a default with :- inside the braces, or put the value in single quotes to say that it is meant literally",
    )


def no_effect(place: Place, message: str, *, hint: str = "") -> Problem:
    """OX157: a setting that changes nothing here."""
    return _problem("OX157", place, message, hint=hint)


def program_advice(place: Place, message: str, *, hint: str) -> Problem:
    """OX158: what a recognised program should be told instead."""
    return _problem("OX158", place, message, hint=hint)


def behind_shell(place: Place, program: str) -> Problem:
    """OX158: a shell stands between the supervisor and a program that wants its signals."""
    return _problem(
        "OX158",
        place,
        f"a shell stands between Oxherd and {program}: a stop reaches the shell, not the program",
        hint="write exec before the last command of the line, or use the program's full path without a shell",
    )


def unset_in_shell(place: Place, name: str) -> Problem:
    """OX159: a shell command reads a variable that nothing sets."""
    return _problem(
        "OX159",
        place,
        f"nothing sets the variable {name}; the shell will read it as empty",
        hint=f"set {name} under env, or give a default: ${{{name}:-value}}",
    )


def engine_missing(place: Place, engine: str, python: str, *, refused: bool) -> Problem:
    """OX115, or the warning OX160 where the file alone is validated: the interpreter has no such engine."""
    return _problem(
        "OX115" if refused else "OX160",
        place,
        f"{engine} is not installed in the interpreter that is to serve the app",
        found=python,
        expected=f"an interpreter with {engine}",
        hint=f'{python} -m pip install {engine}; or write python = "…" with the interpreter of the app',
    )


def old_python(place: Place, python: str, version: str, oldest: str, *, refused: bool) -> Problem:
    """OX115, or the warning OX160 where the file alone is validated: Oxherd's workers do not run on this Python."""
    return _problem(
        "OX115" if refused else "OX160",
        place,
        "Oxherd's workers do not run on the Python of this app",
        found=f"{python}, Python {version}",
        expected=f"Python {oldest} or newer",
        hint="make the virtual environment anew with a newer Python, or serve the app by a command of its own",
    )
