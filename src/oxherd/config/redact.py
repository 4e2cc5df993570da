"""Secrets are never shown: what counts as one, and what stands in its place.

Two ways. What a person wrote (a command line, a URL, a setting) is looked through for names of secrets and for passwords
in URLs. What a program said (its last lines, a traceback, a hook's words) is code and prose, where names prove nothing:
of that a `Mask` hides the values that the process really has.

The supervisor redacts with the same rules as the CLI, so this module imports nothing and scans text by hand.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["REDACTED", "Mask", "holds_secret", "is_secret_key", "redact_text", "redact_value", "redact_words"]

REDACTED = "***"

# Parts of a name that make its value a secret. "KEY" alone and "_KEY" at the end do, "KEYBOARD" and "MONKEY" do not.
_MARKS = ("SECRET", "TOKEN", "PASSWORD", "PASSWD", "PASSPHRASE", "CREDENTIAL", "APIKEY", "PRIVATE_KEY", "SIGNATURE")
_WORDS = frozenset({"KEY", "KEYS", "PASS", "PWD", "AUTH", "DSN", "SALT", "COOKIE", "PW"})
# Names with such a word that hold no secret: the working directory, and places and switches of keys.
_HARMLESS = frozenset({"PWD", "OLDPWD", "SSH_AUTH_SOCK"})
_HARMLESS_ENDS = (
    "_FILE",
    "_PATH",
    "_DIR",
    "_URL_PREFIX",
    "_KEYFILE",
    "_TIMEOUT",
    "_TTL",
    "_EXPIRY",
    "_NAME",
    "_ALGORITHM",
)

_USERINFO_STOPS = frozenset(" \t\r\n\"'<>/?#")
# A user name of this length without a password is a token, as in https://ghp_...@github.com.
_TOKEN_LENGTH = 20
_NAME = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_VALUE_STOPS = frozenset(" \t\r\n\"'&;|<>`")
_SPACES = frozenset(" \t\r\n")
_QUOTES = frozenset("\"'")

# Values shorter than this are words: "dev", "true".
_LEAST = 6
# Of a value with several lines, such as a private key, each line of this length is hidden: output comes in lines.
_LEAST_LINE = 16


def is_secret_key(key: str) -> bool:
    """Return whether a variable or setting of this name holds a secret."""
    name = key.upper().replace("-", "_").replace(".", "_")
    if name in _HARMLESS or name.endswith(_HARMLESS_ENDS):
        return False
    return any(mark in name for mark in _MARKS) or any(word in _WORDS for word in name.split("_"))


def holds_secret(key: str, value: str) -> bool:
    """Return whether a variable of this name and value holds a secret: by its name, or in a URL."""
    return bool(value) and (is_secret_key(key) or _redact_urls(value, []) != value)


def redact_text(text: str) -> str:
    """Return the text without the secrets that can be seen in it.

    Those are the password of every URL (``redis://:***@host``), the value of every ``name=value`` with the name of a
    secret (``?token=***``, ``--secret-key=***``, ``API_KEY=*** exec app``), and the word after an option with such a
    name (``--password ***``).
    """
    return _redact(text, [])


def _redact(text: str, found: list[str]) -> str:
    return _redact_options(_redact_assignments(_redact_urls(text, found), found), found)


def redact_words(words: Iterable[str]) -> tuple[str, ...]:
    """Return a command line, one argument an element, without the secrets that can be seen in it."""
    return _redact_words(words, [])


def _redact_words(words: Iterable[str], found: list[str]) -> tuple[str, ...]:
    shown: list[str] = []
    hide = False
    for word in words:
        name, _, value = word.partition("=")
        if hide and not word.startswith("-"):
            found.append(word)
            shown.append(REDACTED)
        elif value and name.startswith("-") and is_secret_key(name.lstrip("-")):
            # Of an argument the value goes to its end, spaces included.
            found.append(value)
            shown.append(f"{name}={REDACTED}")
        else:
            shown.append(_redact(word, found))
        hide = _is_secret_option(word)
    return tuple(shown)


def redact_value(key: str, value: str) -> str:
    """Return the value of a variable as it may be shown.

    Args:
        key: The variable's name; a name such as SECRET_KEY or API_TOKEN hides the whole value.
        value: The value; of a URL only the password is hidden.
    """
    if value and is_secret_key(key):
        return REDACTED
    return redact_text(value)


class Mask:
    """Hides the secrets of one process wherever they turn up in what it said.

    Secrets shorter than six characters are left: they are words, and half of every text would go with them.

    Args:
        environ: Its variables: the values of names that say so are secrets, and the passwords in the URLs of the others.
        argv: Its command line, of which everything is a secret that `redact_words` would hide.
    """

    __slots__ = ("_values",)

    def __init__(self, environ: Mapping[str, str], argv: Iterable[str] = ()) -> None:
        """Collect the values."""
        found: list[str] = []
        _redact_words(argv, found)
        for name, value in environ.items():
            _redact_urls(value, found)
            if is_secret_key(name):
                found += _pieces(value)
        values = {value for value in found if len(value) >= _LEAST}
        # The longest first: one secret may be a part of another.
        self._values = sorted(values, key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return the text without those values, and without passwords of URLs it may hold besides."""
        for value in self._values:
            if value in text:
                text = text.replace(value, REDACTED)
        return _redact_urls(text, [])


def _pieces(value: str) -> Iterator[str]:
    """Yield what is looked for of one secret: the whole of it, and the lines within it."""
    whole = value.strip()
    yield whole
    if "\n" in whole:
        yield from (line for line in map(str.strip, whole.split("\n")) if len(line) >= _LEAST_LINE)


# -- URLs -------------------------------------------------------------------------------------------------------------


def _authorities(text: str) -> Iterator[tuple[str, str]]:
    """Yield the authority of every URL of a text with what stands before it, and at last ("", the rest)."""
    rest = text
    while True:
        before, mark, tail = rest.partition("://")
        if not mark:
            yield rest, ""
            return
        end = next((index for index, char in enumerate(tail) if char in _USERINFO_STOPS), len(tail))
        yield f"{before}://", tail[:end]
        rest = tail[end:]


def _secret_of(authority: str) -> tuple[str, str, str]:
    """Return what precedes the secret of an authority, the secret ("" for none), and what follows it."""
    # A password may itself hold an unescaped "@"; the host begins after the last one.
    userinfo, at, host = authority.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if at and colon and password:
        return f"{user}:", password, f"@{host}"
    if at and not colon and len(user) >= _TOKEN_LENGTH:
        return "", user, f"@{host}"
    return authority, "", ""


def _redact_urls(text: str, found: list[str]) -> str:
    if "://" not in text:
        return text
    pieces: list[str] = []
    for before, authority in _authorities(text):
        head, secret, rest = _secret_of(authority)
        pieces += [before, head, REDACTED if secret else "", rest]
        if secret and secret != REDACTED:
            found.append(secret)
    return "".join(pieces)


# -- names and values -------------------------------------------------------------------------------------------------


def _redact_assignments(text: str, found: list[str]) -> str:
    if "=" not in text:
        return text
    pieces: list[str] = []
    at = 0
    while True:
        equals = text.find("=", at)
        if equals < 0:
            pieces.append(text[at:])
            return "".join(pieces)
        begin = equals
        while begin > at and text[begin - 1] in _NAME:
            begin -= 1
        end = equals + 1
        pieces.append(text[at:end])
        if is_secret_key(text[begin:equals].strip("-.")):
            end, hidden = _hidden_value(text, end, found)
            pieces.append(hidden)
        at = end


def _hidden_value(text: str, begin: int, found: list[str]) -> tuple[int, str]:
    """Return where the value that begins there ends, and what stands for it."""
    quote = text[begin : begin + 1]
    if quote in _QUOTES:
        end = text.find(quote, begin + 1)
        if end < 0:  # a quote that is never closed hides the rest
            end = len(text)
        found.append(text[begin + 1 : end])
        return end, f"{quote}{REDACTED}"
    end = next((index for index in range(begin, len(text)) if text[index] in _VALUE_STOPS), len(text))
    found.append(text[begin:end])
    return end, REDACTED if end > begin else ""


def _is_secret_option(word: str) -> bool:
    return word.startswith("--") and "=" not in word and is_secret_key(word[2:])


def _redact_options(text: str, found: list[str]) -> str:
    """Hide the word after ``--password`` and the like; spaces stay as they are."""
    if "--" not in text:
        return text
    pieces: list[str] = []
    at = 0
    hide = False
    while at < len(text):
        end = at
        if text[at] in _SPACES:
            while end < len(text) and text[end] in _SPACES:
                end += 1
            pieces.append(text[at:end])
        elif hide and text[at] != "-":
            end, hidden = _hidden_value(text, at, found)
            # A stop such as ";" right where the value was to begin hides nothing and is passed over.
            if end == at:
                end, hidden = at + 1, text[at]
            elif hidden[0] in _QUOTES and end < len(text):
                end, hidden = end + 1, hidden + text[end]
            pieces.append(hidden)
            hide = False
        else:
            while end < len(text) and text[end] not in _SPACES:
                end += 1
            word = text[at:end]
            pieces.append(word)
            hide = _is_secret_option(word)
        at = end
    return "".join(pieces)
