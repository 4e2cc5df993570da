"""The kinds of values an oxfile holds: which TOML types they come as, and what they are read to.

Reading raises `ValueError` with a text that says what is accepted; the caller adds the place. Results are in the
model's units: seconds, bytes, signal numbers, tuples.
"""

from __future__ import annotations

from collections.abc import Callable

from oxherd.config import readers
from oxherd.config.readers import LARGEST
from oxherd.records import dataclass, field

__all__ = [
    "ACCESS_LOG",
    "ADDRESS",
    "ADDRESSES",
    "BOOL",
    "COMMAND",
    "COMMANDS",
    "CRON",
    "DATE_FORMAT",
    "DEPENDS",
    "DURATION",
    "EXTENSIONS",
    "INSTANCES",
    "NAMES",
    "OPTIONS",
    "PATH",
    "PATHS",
    "PATTERNS",
    "PERCENT",
    "POSITIVE_DURATION",
    "PRELOAD",
    "SIGNAL",
    "SIZE",
    "STRINGS",
    "TARGET",
    "TCP",
    "TEXT",
    "TIMEZONE",
    "UMASK",
    "URL",
    "USER",
    "VARIABLE",
    "VERSION",
    "WATCH",
    "WORKERS",
    "Kind",
    "choice",
    "fraction",
    "integer",
    "length",
    "megabytes",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of value.

    Attributes:
        name: What the reference calls it: ``int``, ``str``, ``"45s"``.
        expected: What is accepted, as a phrase for error messages.
        types: The TOML types it may come as.
        read: Turns a value of one of those types into the model's unit; raises ValueError.
        schema: Its JSON Schema.
        path: Whether it is a path, which is made absolute.
    """

    name: str
    expected: str
    types: tuple[type, ...]
    read: Callable[[object], object] = lambda value: value
    schema: dict[str, object] = field(default_factory=dict)
    path: bool = False


def _bounded(low: float, high: float, scale: float = 1.0) -> Callable[[object], float]:
    def read(value: object) -> float:
        if not isinstance(value, (int, float)) or not low <= value <= high:
            raise ValueError(_range(low, high))
        return value * scale

    return read


def _range(low: float, high: float) -> str:
    low_text = f"{low:g}"
    return f"a number of {low_text} or more" if high == LARGEST else f"a number from {low_text} to {high:g}"


def integer(low: int, high: int = LARGEST, name: str = "int") -> Kind:
    """Return the kind of integers from ``low`` to ``high``, both included."""
    expected = f"an integer of {low} or more" if high == LARGEST else f"an integer from {low} to {high}"

    def read(value: object) -> int:
        if not isinstance(value, int) or not low <= value <= high:
            raise ValueError(expected)
        return value

    schema: dict[str, object] = {"type": "integer", "minimum": low}
    if high != LARGEST:
        schema["maximum"] = high
    return Kind(name=name, expected=expected, types=(int,), read=read, schema=schema)


def length(unit: float, name: str, *, low: float = 0) -> Kind:
    """Return the kind of times written as a number of ``unit`` seconds; read to seconds."""
    shown = {0.001: "milliseconds", 1.0: "seconds"}[unit]
    expected = f"a number of {shown}, {low:g} or more" if low else f"a number of {shown}"
    read = _bounded(low, LARGEST)

    def scaled(value: object) -> float:
        try:
            return read(value) * unit
        except ValueError:
            raise ValueError(expected) from None

    return Kind(
        name=name, expected=expected, types=(int, float), read=scaled, schema={"type": "number", "minimum": low}
    )


def fraction(low: float, high: float = LARGEST) -> Kind:
    """Return the kind of numbers, whole or not."""
    schema: dict[str, object] = {"type": "number", "minimum": low}
    return Kind(name="number", expected=_range(low, high), types=(int, float), read=_bounded(low, high), schema=schema)


def megabytes() -> Kind:
    """Return the kind of sizes written as megabytes; read to bytes."""
    largest = 10**9

    def read(value: object) -> int:
        if not isinstance(value, int) or not 0 <= value <= largest:
            raise ValueError("a number of megabytes")
        return value << 20

    schema: dict[str, object] = {"type": "integer", "minimum": 0, "maximum": largest}
    return Kind(name="int (MB)", expected="a number of megabytes", types=(int,), read=read, schema=schema)


def choice(*values: str, **aliases: str) -> Kind:
    """Return the kind of one word out of a closed set; aliases are accepted and read to their value."""
    expected = (
        " or ".join([", ".join(f'"{value}"' for value in values[:-1]), f'"{values[-1]}"'])
        if values[1:]
        else (f'"{values[0]}"')
    )

    def read(value: object) -> str:
        word = aliases.get(str(value), str(value))
        if word not in values:
            raise ValueError(expected)
        return word

    return Kind(
        name=" / ".join(values),
        expected=expected,
        types=(str,),
        read=read,
        schema={"type": "string", "enum": [*values, *aliases]},
    )


_STRING: dict[str, object] = {"type": "string"}
_STRINGS: dict[str, object] = {"type": "array", "items": {"type": "string"}}
_EITHER: dict[str, object] = {"anyOf": [_STRING, _STRINGS]}

TEXT = Kind(name="str", expected="a string that is not empty", types=(str,), read=readers.read_text, schema=_STRING)
PATH = Kind(name="path", expected="a path", types=(str,), read=readers.read_text, schema=_STRING, path=True)
PATHS = Kind(
    name="path or list",
    expected="a path or an array of paths",
    types=(str, list),
    read=readers.read_strings,
    schema=_EITHER,
    path=True,
)
COMMAND = Kind(name="command", expected="a command line", types=(str,), read=readers.read_text, schema=_STRING)
COMMANDS = Kind(
    name="list of str", expected="an array of command lines", types=(list,), read=readers.read_strings, schema=_STRINGS
)
BOOL = Kind(name="bool", expected="true or false", types=(bool,), schema={"type": "boolean"})
DURATION = Kind(
    name='"45s"',
    expected='a duration such as "30s", "5m" or "250ms"',
    types=(str,),
    read=readers.read_duration,
    schema=_STRING,
)
POSITIVE_DURATION = Kind(
    name='"45s"',
    expected='a duration such as "30s", "5m" or "250ms"',
    types=(str,),
    read=readers.read_positive_duration,
    schema=_STRING,
)
SIZE = Kind(
    name='"512M"', expected='a size such as "512M" or "1G"', types=(str,), read=readers.read_size, schema=_STRING
)
PERCENT = Kind(
    name='"200%"',
    expected='a share such as "200%" (two cores)',
    types=(str,),
    read=readers.read_percent,
    schema=_STRING,
)
SIGNAL = Kind(
    name="signal",
    expected="a signal such as SIGTERM, SIGINT or HUP",
    types=(str,),
    read=readers.read_signal,
    schema=_STRING,
)
NAMES = Kind(
    name="list of str", expected="an array of strings", types=(list,), read=readers.read_strings, schema=_STRINGS
)
STRINGS = Kind(
    name="str or list",
    expected="a string or an array of strings",
    types=(str, list),
    read=readers.read_strings,
    schema=_EITHER,
)
EXTENSIONS = Kind(
    name="list of str",
    expected='an array such as [".py", ".html"]',
    types=(list, str),
    read=readers.read_extensions,
    schema=_EITHER,
)
PATTERNS = Kind(
    name="list of regex",
    expected="an array of regular expressions",
    types=(list, str),
    read=readers.read_patterns,
    schema=_EITHER,
)
WATCH = Kind(
    name="bool, path or list",
    expected="true, a path or an array of paths",
    types=(bool, str, list),
    read=readers.read_watch,
    schema={"anyOf": [{"type": "boolean"}, _STRING, _STRINGS]},
)
INSTANCES = Kind(
    name='int or "max"',
    expected='an integer of 1 or more, or "max"',
    types=(int, str),
    read=readers.count_reader("max"),
    schema={"anyOf": [{"type": "integer", "minimum": 1}, {"const": "max"}]},
)
WORKERS = Kind(
    name='int or "auto"',
    expected='an integer of 1 or more, or "auto"',
    types=(int, str),
    read=readers.count_reader("auto"),
    schema={"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]},
)
UMASK = Kind(
    name="octal str", expected='an octal string such as "022"', types=(str,), read=readers.read_umask, schema=_STRING
)
VARIABLE = Kind(
    name="name", expected="the name of a variable", types=(str,), read=readers.read_variable, schema=_STRING
)
TARGET = Kind(name="module:attr", expected='"module:attribute"', types=(str,), read=readers.read_target, schema=_STRING)
ADDRESS = Kind(
    name="address",
    expected='"host:port" or "unix:/path"',
    types=(str,),
    read=lambda value: readers.read_address(str(value)),
    schema=_STRING,
)
ADDRESSES = Kind(
    name="address or list",
    expected='"host:port", "[v6]:port", "unix:/path", or an array of them',
    types=(str, list),
    read=readers.read_addresses,
    schema=_EITHER,
)
TCP = Kind(name="host:port", expected='"host:port"', types=(str,), read=readers.read_tcp, schema=_STRING)
URL = Kind(
    name="URL",
    expected='a URL such as "http://localhost:8000/health"',
    types=(str,),
    read=readers.read_url,
    schema=_STRING,
)
DATE_FORMAT = Kind(
    name="date format",
    expected='a date format such as "YYYY-MM-DD HH:mm:ss"',
    types=(str,),
    read=readers.read_date_format,
    schema=_STRING,
)
USER = Kind(
    name="str or int",
    expected="a name or a number",
    types=(str, int),
    read=readers.read_user,
    schema={"anyOf": [_STRING, {"type": "integer", "minimum": 0}]},
)
ACCESS_LOG = Kind(
    name='bool, "text", "json" or path',
    expected='true, false, "text", "json" or a path',
    types=(bool, str),
    read=readers.read_access_log,
    schema={"anyOf": [{"type": "boolean"}, _STRING]},
)
PRELOAD = Kind(
    name='"auto" or bool',
    expected='"auto", true or false',
    types=(str, bool),
    read=readers.read_preload,
    schema={"anyOf": [{"const": "auto"}, {"type": "boolean"}]},
)
OPTIONS = Kind(
    name="table", expected="a table of options", types=(dict,), read=readers.read_options, schema={"type": "object"}
)
VERSION = Kind(
    name="1", expected="1, the only version there is", types=(int,), read=readers.read_version, schema={"const": 1}
)
CRON = Kind(name="cron", expected="5 or 6 cron fields", types=(str,), read=readers.read_cron, schema=_STRING)
TIMEZONE = Kind(
    name="time zone", expected='an IANA name such as "UTC"', types=(str,), read=readers.read_timezone, schema=_STRING
)
DEPENDS = Kind(
    name="list or table",
    expected='["db"], or { db = "ready" } with "started", "ready" or "completed"',
    types=(list, dict),
    read=readers.read_depends,
    schema={
        "anyOf": [_STRINGS, {"type": "object", "additionalProperties": {"enum": ["started", "ready", "completed"]}}]
    },
)
