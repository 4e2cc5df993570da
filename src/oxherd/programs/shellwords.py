"""The last command of a shell script of one line: what a person means by ``source venv/bin/activate && celery …``."""

from __future__ import annotations

import os

from oxherd.records import dataclass

__all__ = ["ShellProgram", "activation", "plain_words", "program_of_shell"]

_SHELLS = frozenset({"sh", "bash", "dash", "zsh", "ash", "ksh"})
_LISTS = frozenset({";", "&&", "||", ";;", "&", "\n"})
_REDIRECTIONS = frozenset({">", ">>", "<", ">&", "<&", "&>", "<<", "<<<", ">|"})

# What may make a shell do something. An assignment is no such character, but then its program is not the first word.
_SPECIAL = frozenset("$`*?[]~;&|<>(){}!=\\\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShellProgram:
    """The command a shell ends with.

    Attributes:
        argv: Its words; redirections, assignments and ``exec`` are taken off.
        replaced: Whether the shell becomes that command, so that signals reach it.
    """

    argv: tuple[str, ...]
    replaced: bool


def program_of_shell(argv: tuple[str, ...]) -> ShellProgram | None:
    """Return the last command of ``sh -c 'script'``, or None if this is no such command line."""
    if not argv or os.path.basename(argv[0]) not in _SHELLS:
        return None
    at = next((index for index, word in enumerate(argv[1:], 1) if _is_script_flag(word)), 0)
    if not at or at + 1 >= len(argv):
        return None
    tokens = _tokens(argv[at + 1])
    if not tokens:
        return None
    ends = [index for index, token in enumerate(tokens) if token in _LISTS]
    # "cmd &" leaves nothing in the foreground, and "cmd ;" is a list of one.
    while ends and ends[-1] == len(tokens) - 1:
        tokens = tokens[:-1]
        ends.pop()
    last = tokens[ends[-1] + 1 :] if ends else tokens
    piped = "|" in last
    if piped:
        last = last[: last.index("|")]
    words = _words(last)
    becomes = bool(words) and words[0] == "exec"
    return ShellProgram(argv=tuple(words[1:] if becomes else words), replaced=becomes and not piped)


def plain_words(argv: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return the words of a command line, those of a script where that is one command that no shell changes.

    None is a script whose shell does something: expands, redirects, or runs more than one command.
    """
    program = program_of_shell(argv)
    if program is None:
        return argv
    return program.argv if program.argv and not _SPECIAL & set(_script(argv)) else None


def activation(argv: tuple[str, ...]) -> tuple[str, tuple[str, ...]] | None:
    """Return the virtual environment and the words of ``sh -c 'source DIR/bin/activate && command'``, or None.

    Nothing else may be done by the shell: activating an environment is two variables, which can be set without one.
    """
    program = program_of_shell(argv)
    if program is None:
        return None
    first, separator, rest = _script(argv).partition("&&")
    words = _tokens(first)
    if not separator or not program.argv or _SPECIAL & set(first + rest):
        return None
    if len(words) != 2 or words[0] not in ("source", ".") or not words[1].endswith("/bin/activate"):
        return None
    return words[1].removesuffix("/bin/activate"), program.argv


def _script(argv: tuple[str, ...]) -> str:
    return argv[next(index for index, word in enumerate(argv[1:], 1) if _is_script_flag(word)) + 1]


def _is_script_flag(word: str) -> bool:
    return word.startswith("-") and not word.startswith("--") and word.endswith("c")


def _tokens(script: str) -> list[str]:
    # Only commands that need a shell pay for shlex, and only where the oxfile is read.
    import shlex  # noqa: PLC0415

    lexer = shlex.shlex(script.replace("\n", " ; "), posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        return list(lexer)
    except ValueError:
        return []


def _words(tokens: list[str]) -> list[str]:
    words: list[str] = []
    skip = False
    for token in tokens:
        if skip:
            skip = False
        elif token in _REDIRECTIONS:
            skip = True
            if words and words[-1].isdigit():
                words.pop()
        elif token not in ("(", ")", "{", "}"):
            words.append(token)
    while words and "=" in words[0] and words[0].partition("=")[0].isidentifier():
        words.pop(0)
    return words
