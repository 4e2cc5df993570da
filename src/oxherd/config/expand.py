"""``${NAME}``, ``${NAME:-default}`` and ``$$`` in the strings of an oxfile.

A name is looked up in the caller's environment first, so that ``PORT=8001 oxherd start`` works with any file; then in
the env_files, in their order; then in the process's own env. ``[[apps]]`` also knows ``$NAME``; elsewhere a dollar sign
that begins no reference is literal.
"""

from __future__ import annotations

from oxherd.config.commandline import reference_length

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["BadReferenceError", "Expander"]

_FIRST = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_REST = _FIRST | frozenset("0123456789")
_DEEPEST = 40


class BadReferenceError(ValueError):
    """A ``${`` that is no reference Oxherd knows."""

    def __init__(self) -> None:
        """Say what is accepted; the text around it may be a secret."""
        super().__init__("a reference such as ${NAME} or ${NAME:-default}; a literal dollar sign is $$")


class DeepReferenceError(BadReferenceError):
    """References lead to references without an end in sight."""

    def __init__(self) -> None:
        """Say what is accepted."""
        ValueError.__init__(self, f"references that are nested at most {_DEEPEST} deep")


class Expander:
    """Replaces references in the strings of one process.

    Args:
        environ: The caller's environment.
        files: What the env_files set.
        env: The process's own env table, unexpanded.
        short: Whether ``$NAME`` is a reference too.
        missing: Told the name of a variable without a value; what it returns is put in its place.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str],
        files: Mapping[str, str],
        env: Mapping[str, str],
        short: bool,
        missing: Callable[[str], str],
    ) -> None:
        """Keep the three places to look in, in their order."""
        self.environ = environ
        self.files = files
        self.env = env
        self.short = short
        self.missing = missing
        self._open: list[str] = []
        self._depth = 0

    def lookup(self, name: str) -> str | None:
        """Return the value of a variable, or None; a variable of env that refers to itself has none."""
        if name in self.environ:
            return self.environ[name]
        if name in self.files:
            return self.files[name]
        if name not in self.env or name in self._open:
            return None
        self._open.append(name)
        try:
            return self.text(self.env[name])
        finally:
            self._open.pop()

    def variable(self, name: str) -> str:
        """Return the expanded value of one variable of the process's own env.

        Raises:
            BadReferenceError: Its value holds something that looks like a reference and is none.
        """
        self._open.append(name)
        try:
            return self.text(self.env[name])
        finally:
            self._open.pop()

    def reference(self, reference: str) -> str:
        """Return what stands for one ``$$``, ``${NAME}`` or ``${NAME:-default}``."""
        if reference == "$$":
            return "$"
        name, has_default, default = reference[2:-1].partition(":-")
        value = self.lookup(name)
        if has_default:
            return value or self.text(default)
        return self.missing(name) if value is None else value

    def text(self, text: str) -> str:
        """Return a string with every reference replaced.

        Raises:
            BadReferenceError: A ``${`` is not followed by a name and a closing brace, or leads too deep.
        """
        if "$" not in text:
            return text
        if self._depth >= _DEEPEST:
            raise DeepReferenceError
        self._depth += 1
        try:
            return self._replaced(text)
        finally:
            self._depth -= 1

    def _replaced(self, text: str) -> str:
        pieces: list[str] = []
        at = 0
        while at < len(text):
            length = reference_length(text, at)
            if length:
                pieces.append(self.reference(text[at : at + length]))
            elif text.startswith("${", at):
                raise BadReferenceError
            else:
                length = self._short_length(text, at)
                pieces.append(self._short(text[at : at + length]))
            at += length
        return "".join(pieces)

    def _short_length(self, text: str, at: int) -> int:
        end = at + 1
        if not self.short or text[at] != "$" or text[end : end + 1] not in _FIRST or end >= len(text):
            return 1
        while end < len(text) and text[end] in _REST:
            end += 1
        return end - at

    def _short(self, piece: str) -> str:
        if len(piece) == 1:
            return piece
        value = self.lookup(piece[1:])
        return self.missing(piece[1:]) if value is None else value
