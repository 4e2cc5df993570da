"""Secrets are never shown: what counts as one, and what stands in its place.

The supervisor redacts with the same rules as the CLI, so this module imports nothing and scans text by hand.
"""

from __future__ import annotations

__all__ = ["REDACTED", "is_secret_key", "redact_text", "redact_value"]

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


def is_secret_key(key: str) -> bool:
    """Return whether a variable or setting of this name holds a secret."""
    name = key.upper().replace("-", "_").replace(".", "_")
    if name in _HARMLESS or name.endswith(_HARMLESS_ENDS):
        return False
    return any(mark in name for mark in _MARKS) or any(word in _WORDS for word in name.split("_"))


def redact_text(text: str) -> str:
    """Return the text with the password of every URL in it replaced: ``redis://:***@host``."""
    if "://" not in text:
        return text
    pieces: list[str] = []
    rest = text
    while True:
        scheme, mark, tail = rest.partition("://")
        pieces.append(scheme)
        if not mark:
            return "".join(pieces)
        end = next((index for index, char in enumerate(tail) if char in _USERINFO_STOPS), len(tail))
        authority, rest = tail[:end], tail[end:]
        # A password may itself hold an unescaped "@"; the host begins after the last one.
        userinfo, at, host = authority.rpartition("@")
        user, colon, password = userinfo.partition(":")
        if at and colon and password:
            authority = f"{user}:{REDACTED}@{host}"
        pieces.append(f"://{authority}")


def redact_value(key: str, value: str) -> str:
    """Return the value of a variable as it may be shown.

    Args:
        key: The variable's name; a name such as SECRET_KEY or API_TOKEN hides the whole value.
        value: The value; of a URL only the password is hidden.
    """
    if value and is_secret_key(key):
        return REDACTED
    return redact_text(value)
