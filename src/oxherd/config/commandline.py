"""A command line, read once: what is exec'd, and whether a shell has to read it first.

Oxherd exec's commands itself, so that signals reach the program and not a shell. A command that uses what only a shell
understands (a pipe, ``&&``, a redirection, ``$VAR``, a glob, ``VAR=x cmd``, a builtin such as ``cd``) is handed to
``/bin/sh -c`` as it is written.

``${VAR}`` and ``${VAR:-default}`` are no reason for a shell: the oxfile's own expansion replaces them, each inside its
own argument, so that a value with a space stays one argument. Single quotes protect them. A command that does go to a
shell, ``bash -c '…'`` included, is left to that shell entirely: it has the same variables in its environment.
"""

from __future__ import annotations

import shlex

from oxherd.config.model import Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["SHELLS", "CommandLineError", "read_command", "shell_reason"]

SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ash", "ksh", "busybox"})
_BUILTIN_NAMES = (
    ". : [[ alias break case cd command continue eval exec export for function getopts hash if popd pushd read readonly "
    "return set shift source times trap type ulimit umask unalias unset until wait while { !"
)
_BUILTINS = frozenset(_BUILTIN_NAMES.split())
_OPERATORS = {
    "|": "a pipe",
    "&": "&",
    ";": "a semicolon",
    "<": "a redirection",
    ">": "a redirection",
    "\n": "a line break",
}
# Operators after which the shell has more to do than to become the program.
_LISTS = frozenset("|&;\n(")
_NAME_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_NAME_REST = _NAME_FIRST | frozenset("0123456789")
# Stand-ins for references while shlex splits; a command line that holds such a character itself is none.
_MARK = 0xF0000


class CommandLineError(ValueError):
    """The command line cannot be split: a quote is open, or there is nothing in it."""


class _Scan:
    """The command line with its references taken out, and why a shell is needed, if it is."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.masked: list[str] = []
        self.references: list[str] = []
        self.reason = ""
        self.plain = True
        self._run()

    def _run(self) -> None:
        at = 0
        quote = ""
        word_start = True
        while at < len(self.text):
            char = self.text[at]
            if quote == "'":
                quote = "" if char == "'" else quote
            elif char == "\\":
                self.masked.append(self.text[at : at + 2])
                at += 2
                word_start = False
                continue
            elif char == "$" and (length := reference_length(self.text, at)):
                self.masked.append(chr(_MARK + len(self.references)))
                self.references.append(self.text[at : at + length])
                at += length
                word_start = False
                continue
            elif char in ("$", "`"):
                self._dollar(at)
            elif quote:
                quote = "" if char == quote else quote
            elif char in "'\"":
                quote = char
            else:
                self._operator(char, at, word_start=word_start)
            word_start = not quote and char in " \t\n|&;<>()"
            self.masked.append(char)
            at += 1

    def _operator(self, char: str, at: int, *, word_start: bool) -> None:
        if char in "&|" and self.text[at + 1 : at + 2] == char:
            self._because(char * 2, plain=False)
        elif char in _OPERATORS:
            self._because(_OPERATORS[char], plain=char not in _LISTS)
        elif char in "*?":
            self._because(f"the pattern character {char}", plain=True)
        elif char == "~" and word_start:
            self._because("~", plain=True)
        elif char == "(" and word_start:
            self._because("a subshell", plain=False)

    def _dollar(self, at: int) -> None:
        if self.text[at] == "`":
            self._because("a command substitution", plain=True)
            return
        following = self.text[at + 1 : at + 2]
        if following == "(":
            self._because("a command substitution", plain=True)
        elif following == "{":
            self._because("a parameter expansion only a shell knows", plain=True)
        elif following and (following in _NAME_REST or following in "@*#?!-"):
            end = at + 1
            while end < len(self.text) and self.text[end] in _NAME_REST:
                end += 1
            self._because(f"the shell variable {self.text[at:end] if end > at + 1 else '$' + following}", plain=True)

    def _because(self, reason: str, *, plain: bool) -> None:
        self.reason = self.reason or reason
        self.plain = self.plain and plain


def reference_length(text: str, at: int) -> int:
    """Return the length of the ``$$``, ``${NAME}`` or ``${NAME:-default}`` that begins at ``at``, or 0."""
    if text.startswith("$$", at):
        return 2
    if not text.startswith("${", at):
        return 0
    end = at + 2
    while end < len(text) and text[end] in _NAME_REST:
        end += 1
    if end == at + 2 or text[at + 2] not in _NAME_FIRST:
        return 0
    if text.startswith("}", end):
        return end + 1 - at
    if not text.startswith(":-", end):
        return 0
    depth = 1
    end += 2
    while end < len(text):
        if text.startswith("${", end):
            depth += 1
            end += 2
            continue
        if text[end] == "}":
            depth -= 1
            if not depth:
                return end + 1 - at
        end += 1
    return 0


def shell_reason(text: str) -> str:
    """Return why a command line needs a shell, as a phrase such as ``a pipe``, or an empty string."""
    scan = _Scan(text)
    return _shell_reason(scan, _split("".join(scan.masked)))


def _shell_reason(scan: _Scan, words: list[str]) -> str:
    if scan.reason:
        return scan.reason
    first = words[0]
    name, equals, _ = first.partition("=")
    if equals and name and name[0] in _NAME_FIRST and set(name) <= _NAME_REST:
        return f"the assignment {name}= before the command"
    return f"the shell builtin {first}" if first in _BUILTINS else ""


def _split(text: str) -> list[str]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise CommandLineError("a command line whose quotes are closed") from error
    if not words or not words[0]:
        raise CommandLineError("a command line that is not empty")
    return words


def read_command(text: str, expand: Callable[[str], str] | None = None) -> Command:
    """Return what a command line means.

    Args:
        text: The command line as written; it becomes ``Command.text`` unchanged.
        expand: Gives the value of one reference (``${NAME}``, ``${NAME:-default}`` or ``$$``); None leaves them as
            they are written.

    Raises:
        CommandLineError: It is empty or a quote is not closed; the text says what is accepted.
    """
    if "\0" in text:
        raise CommandLineError("a command line without NUL bytes")
    scan = _Scan(text)
    words = _split("".join(scan.masked))
    if _shell_reason(scan, words):
        script = _replaced_shell(text, scan, words)
        return Command(text=text, argv=("/bin/sh", "-c", script), shell=True)  # noqa: S604 - the user asked for a shell
    if _hands_to_shell(words):
        return Command(text=text, argv=tuple(_filled(word, scan.references, None) for word in words))
    return Command(text=text, argv=tuple(_filled(word, scan.references, expand) for word in words))


def _replaced_shell(text: str, scan: _Scan, words: list[str]) -> str:
    """Let the shell of a single command become that command, so that signals reach the program on every sh."""
    assignment = "=" in words[0].partition("/")[0]
    return f"exec {text.lstrip()}" if scan.plain and words[0] not in _BUILTINS and not assignment else text


def _hands_to_shell(words: list[str]) -> bool:
    """Return whether the command is itself a shell with a ``-c`` script, whose text is that shell's own."""
    return words[0].rpartition("/")[2] in SHELLS and any(
        word.startswith("-") and not word.startswith("--") and word.endswith("c") for word in words[1:4]
    )


def _filled(word: str, references: list[str], expand: Callable[[str], str] | None) -> str:
    for index, reference in enumerate(references):
        mark = chr(_MARK + index)
        if mark in word:
            word = word.replace(mark, expand(reference) if expand else reference)
    return word
