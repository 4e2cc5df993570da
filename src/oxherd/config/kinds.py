"""The kinds of values an oxfile holds: which TOML types they come as, and what they are read to.

Reading raises `ValueError` with a text that says what is accepted; the caller adds the place. Results are in the
model's units: seconds, bytes, signal numbers, tuples.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from oxherd import units
from oxherd.config.dateformat import to_strftime

__all__ = ["ACCESS_LOG", "ADDRESS", "ADDRESSES", "BOOL", "COMMAND", "COMMANDS", "CRON", "DATE_FORMAT", "DEPENDS", "DURATION", "EXTENSIONS", "INSTANCES", "NAMES", "OPTIONS", "PATH", "PATHS", "PATTERNS", "PERCENT", "POSITIVE_DURATION", "PRELOAD", "SIGNAL", "SIZE", "STRINGS", "TARGET", "TCP", "TEXT", "TIMEZONE", "UMASK", "URL", "USER", "VARIABLE", "WATCH", "WORKERS", "Kind", "choice", "fraction", "integer", "length", "megabytes"]

# Beyond this no number in an oxfile means anything, and floats of it stay exact.
_LARGEST = 10**12
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(.*\))?\Z")
_HOST_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]*):(?P<port>\d{1,5})\Z")
_URL = re.compile(r"https?://[^\s/?#]+(?:[/?#]\S*)?\Z", re.IGNORECASE)


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
        assert isinstance(value, (int, float))  # noqa: S101 - the types of the kind say so
        if not low <= value <= high or math.isnan(value):
            raise ValueError(_range(low, high))
        return value * scale

    return read


def _range(low: float, high: float) -> str:
    low_text = f"{low:g}"
    return f"a number of {low_text} or more" if high == _LARGEST else f"a number from {low_text} to {high:g}"


def integer(low: int, high: int = _LARGEST, name: str = "int") -> Kind:
    """Return the kind of integers from ``low`` to ``high``, both included."""
    expected = f"an integer of {low} or more" if high == _LARGEST else f"an integer from {low} to {high}"

    def read(value: object) -> int:
        assert isinstance(value, int)  # noqa: S101 - the types of the kind say so
        if not low <= value <= high:
            raise ValueError(expected)
        return value

    schema: dict[str, object] = {"type": "integer", "minimum": low}
    if high != _LARGEST:
        schema["maximum"] = high
    return Kind(name=name, expected=expected, types=(int,), read=read, schema=schema)


def length(unit: float, name: str, *, low: float = 0) -> Kind:
    """Return the kind of times written as a number of ``unit`` seconds; read to seconds."""
    shown = {0.001: "milliseconds", 1.0: "seconds"}[unit]
    expected = f"a number of {shown}, {low:g} or more" if low else f"a number of {shown}"
    read = _bounded(low, _LARGEST)

    def scaled(value: object) -> float:
        try:
            return read(value) * unit
        except ValueError:
            raise ValueError(expected) from None

    return Kind(
        name=name, expected=expected, types=(int, float), read=scaled, schema={"type": "number", "minimum": low}
    )


def fraction(low: float, high: float = _LARGEST) -> Kind:
    """Return the kind of numbers, whole or not."""
    schema: dict[str, object] = {"type": "number", "minimum": low}
    return Kind(
        name="number", expected=_range(low, high), types=(int, float), read=_bounded(low, high), schema=schema
    )


def megabytes(low: int = 1) -> Kind:
    """Return the kind of sizes written as megabytes; read to bytes."""
    base = integer(low, 10**9)

    def read(value: object) -> int:
        return int(str(base.read(value))) << 20

    return Kind(
        name="int (MB)", expected=base.expected + " (megabytes)", types=(int,), read=read, schema=base.schema
    )


def choice(*values: str, **aliases: str) -> Kind:
    """Return the kind of one word out of a closed set; aliases are accepted and read to their value."""
    expected = " or ".join([", ".join(f'"{value}"' for value in values[:-1]), f'"{values[-1]}"']) if values[1:] else (
        f'"{values[0]}"'
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


def _text(value: object) -> str:
    text = str(value)
    if not text.strip() or "\0" in text:
        raise ValueError("a string that is not empty")
    return text


def _duration(value: object) -> float:
    seconds = units.parse_duration(str(value))
    if not seconds <= _LARGEST:
        raise ValueError("a duration of less than 30,000 years")
    return seconds


def _positive_duration(value: object) -> float:
    seconds = _duration(value)
    if seconds <= 0:
        raise ValueError("a duration longer than nothing")
    return seconds


def _size(value: object) -> int:
    try:
        count = units.parse_bytes(str(value))
    except OverflowError:
        count = _LARGEST**2
    if not 0 < count <= 10**15:
        raise ValueError('a size such as "512M", "1.5G" or "200MiB"')
    return count


def _percent(value: object) -> float:
    text = str(value).strip().removesuffix("%")
    try:
        percent = float(text)
    except ValueError:
        percent = math.nan
    if not 0 < percent <= 10**6:
        raise ValueError('a share of the CPUs such as "200%" (two cores)')
    return percent


def _signal(value: object) -> int:
    return units.parse_signal(str(value))


def _strings(value: object) -> tuple[str, ...]:
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, str) or not item.strip() or "\0" in item:
            raise ValueError("strings that are not empty")
    return tuple(str(item) for item in items)


def _extensions(value: object) -> tuple[str, ...]:
    return tuple(item if item.startswith(".") else f".{item}" for item in _strings(value))


def _patterns(value: object) -> tuple[str, ...]:
    patterns = _strings(value)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"regular expressions; {pattern!r} is none: {error}") from error
    return patterns


def _watch(value: object) -> object:
    return value if isinstance(value, bool) else _strings(value)


def _count(word: str) -> Callable[[object], object]:
    def read(value: object) -> object:
        if value == word or (isinstance(value, int) and 1 <= value <= 10_000):
            return value
        raise ValueError(f'an integer of 1 or more, or "{word}"')

    return read


def _umask(value: object) -> int:
    text = str(value)
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", text) or int(text.removeprefix("0o"), 8) > 0o777:
        raise ValueError('an octal string such as "022" or "0077"')
    return int(text.removeprefix("0o"), 8)


def _variable(value: object) -> str:
    if not _NAME.match(str(value)):
        raise ValueError("the name of a variable, such as INSTANCE_ID")
    return str(value)


def _target(value: object) -> str:
    if not _TARGET.match(str(value)):
        raise ValueError('"module:attribute", such as "main:app" or "project.wsgi:application"')
    return str(value)


def _address(text: str) -> str:
    if text.startswith("unix:"):
        if len(text.removeprefix("unix:")) > 1:
            return text
    elif (match := _HOST_PORT.match(text)) and int(match["port"]) <= 65535:
        return text
    raise ValueError('"host:port", "[v6]:port" or "unix:/path"')


def _addresses(value: object) -> tuple[str, ...]:
    return tuple(_address(item) for item in _strings(value))


def _tcp(value: object) -> str:
    text = str(value).removeprefix("tcp://")
    if text.startswith("unix:"):
        raise ValueError('"host:port" or "[v6]:port"')
    if not text.partition(":")[0] or not 0 < int(_address(text).rpartition(":")[2]):
        raise ValueError('"host:port" or "[v6]:port"')
    return text


def _url(value: object) -> str:
    text = str(value)
    if text.startswith("/") and " " not in text:
        return text
    if not _URL.match(text):
        raise ValueError('a URL such as "http://localhost:8000/health"')
    return text


def _date_format(value: object) -> str:
    return to_strftime(str(value))


def _user(value: object) -> str:
    if isinstance(value, int):
        if not 0 <= value < 2**32 - 1:
            raise ValueError("a name or a number")
        return str(value)
    return _text(value)


def _access_log(value: object) -> object:
    return value if isinstance(value, bool) else _text(value)


def _preload(value: object) -> str:
    if value == "auto":
        return "auto"
    if isinstance(value, bool):
        return "true" if value else "false"
    raise ValueError('"auto", true or false')


def _options(value: object) -> tuple[tuple[str, object], ...]:
    assert isinstance(value, dict)  # noqa: S101 - the types of the kind say so
    return tuple((str(name), _option(item)) for name, item in sorted(value.items()))


def _option(item: object) -> object:
    if isinstance(item, list):
        return tuple(_option(element) for element in item)
    if not isinstance(item, (str, int, float, bool)):
        raise ValueError("strings, numbers, booleans and arrays of them")  # noqa: TRY004 - it is the value's fault
    return item


def _depends(value: object) -> tuple[tuple[str, str], ...]:
    if isinstance(value, dict):
        if not set(value.values()) <= {"started", "ready", "completed"} or not all(value):
            raise ValueError('conditions out of "started", "ready" and "completed"')
        return tuple((str(name), str(condition)) for name, condition in value.items())
    return tuple((name, "") for name in dict.fromkeys(_strings(value)))


def _cron(value: object) -> str:
    # cronsim is only needed where a schedule is read.
    from datetime import UTC, datetime  # noqa: PLC0415

    from cronsim import CronSim, CronSimError  # noqa: PLC0415

    text = " ".join(str(value).split())
    try:
        next(CronSim(text, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f'5 cron fields such as "0 4 * * *", or 6 with the seconds first ({error})') from error
    except StopIteration:
        raise ValueError("a cron expression that matches some day") from None
    return text


def _timezone(value: object) -> str:
    from zoneinfo import ZoneInfo  # noqa: PLC0415

    text = str(value)
    try:
        ZoneInfo(text)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError('an IANA name such as "Europe/Prague" or "UTC"') from error
    return text


_STRING: dict[str, object] = {"type": "string"}
_STRINGS: dict[str, object] = {"type": "array", "items": {"type": "string"}}
_EITHER: dict[str, object] = {"anyOf": [_STRING, _STRINGS]}

TEXT = Kind(name="str", expected="a string that is not empty", types=(str,), read=_text, schema=_STRING)
PATH = Kind(name="path", expected="a path", types=(str,), read=_text, schema=_STRING, path=True)
PATHS = Kind(
    name="path or list", expected="a path or an array of paths", types=(str, list), read=_strings, schema=_EITHER, path=True
)
COMMAND = Kind(name="command", expected="a command line", types=(str,), read=_text, schema=_STRING)
COMMANDS = Kind(name="list of str", expected="an array of command lines", types=(list,), read=_strings, schema=_STRINGS)
BOOL = Kind(name="bool", expected="true or false", types=(bool,), schema={"type": "boolean"})
DURATION = Kind(
    name='"45s"', expected='a duration such as "30s", "5m" or "250ms"', types=(str,), read=_duration, schema=_STRING
)
POSITIVE_DURATION = Kind(
    name='"45s"', expected='a duration such as "30s", "5m" or "250ms"', types=(str,), read=_positive_duration, schema=_STRING
)
SIZE = Kind(name='"512M"', expected='a size such as "512M" or "1G"', types=(str,), read=_size, schema=_STRING)
PERCENT = Kind(name='"200%"', expected='a share such as "200%" (two cores)', types=(str,), read=_percent, schema=_STRING)
SIGNAL = Kind(name="signal", expected="a signal such as SIGTERM, SIGINT or HUP", types=(str,), read=_signal, schema=_STRING)
NAMES = Kind(name="list of str", expected="an array of strings", types=(list,), read=_strings, schema=_STRINGS)
STRINGS = Kind(name="str or list", expected="a string or an array of strings", types=(str, list), read=_strings, schema=_EITHER)
EXTENSIONS = Kind(
    name="list of str", expected='an array such as [".py", ".html"]', types=(list, str), read=_extensions, schema=_EITHER
)
PATTERNS = Kind(
    name="list of regex", expected="an array of regular expressions", types=(list, str), read=_patterns, schema=_EITHER
)
WATCH = Kind(
    name="bool, path or list",
    expected="true, a path or an array of paths",
    types=(bool, str, list),
    read=_watch,
    schema={"anyOf": [{"type": "boolean"}, _STRING, _STRINGS]},
)
INSTANCES = Kind(
    name='int or "max"',
    expected='an integer of 1 or more, or "max"',
    types=(int, str),
    read=_count("max"),
    schema={"anyOf": [{"type": "integer", "minimum": 1}, {"const": "max"}]},
)
WORKERS = Kind(
    name='int or "auto"',
    expected='an integer of 1 or more, or "auto"',
    types=(int, str),
    read=_count("auto"),
    schema={"anyOf": [{"type": "integer", "minimum": 1}, {"const": "auto"}]},
)
UMASK = Kind(name="octal str", expected='an octal string such as "022"', types=(str,), read=_umask, schema=_STRING)
VARIABLE = Kind(name="name", expected="the name of a variable", types=(str,), read=_variable, schema=_STRING)
TARGET = Kind(name="module:attr", expected='"module:attribute"', types=(str,), read=_target, schema=_STRING)
ADDRESS = Kind(
    name="address", expected='"host:port" or "unix:/path"', types=(str,), read=lambda value: _address(str(value)), schema=_STRING
)
ADDRESSES = Kind(
    name="address or list",
    expected='"host:port", "[v6]:port", "unix:/path", or an array of them',
    types=(str, list),
    read=_addresses,
    schema=_EITHER,
)
TCP = Kind(name="host:port", expected='"host:port"', types=(str,), read=_tcp, schema=_STRING)
URL = Kind(name="URL", expected='a URL such as "http://localhost:8000/health"', types=(str,), read=_url, schema=_STRING)
DATE_FORMAT = Kind(
    name="date format", expected='a date format such as "YYYY-MM-DD HH:mm:ss"', types=(str,), read=_date_format, schema=_STRING
)
USER = Kind(
    name="str or int",
    expected="a name or a number",
    types=(str, int),
    read=_user,
    schema={"anyOf": [_STRING, {"type": "integer", "minimum": 0}]},
)
ACCESS_LOG = Kind(
    name="bool or path",
    expected="true, false or a path",
    types=(bool, str),
    read=_access_log,
    schema={"anyOf": [{"type": "boolean"}, _STRING]},
    path=True,
)
PRELOAD = Kind(
    name='"auto" or bool',
    expected='"auto", true or false',
    types=(str, bool),
    read=_preload,
    schema={"anyOf": [{"const": "auto"}, {"type": "boolean"}]},
)
OPTIONS = Kind(name="table", expected="a table of options", types=(dict,), read=_options, schema={"type": "object"})
CRON = Kind(name="cron", expected="5 or 6 cron fields", types=(str,), read=_cron, schema=_STRING)
TIMEZONE = Kind(name="time zone", expected='an IANA name such as "UTC"', types=(str,), read=_timezone, schema=_STRING)
DEPENDS = Kind(
    name="list or table",
    expected='["db"], or { db = "ready" } with "started", "ready" or "completed"',
    types=(list, dict),
    read=_depends,
    schema={
        "anyOf": [_STRINGS, {"type": "object", "additionalProperties": {"enum": ["started", "ready", "completed"]}}]
    },
)
