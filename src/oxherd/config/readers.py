"""The readers of values: from what TOML has to the model's units.

Each takes a value of the right TOML type and raises `ValueError` with a text that says what is accepted.
"""

from __future__ import annotations

import math
import re

from oxherd import units
from oxherd.config.dateformat import to_strftime
from oxherd.core.endpoint import parse_address, parse_endpoint
from oxherd.core.schedule import check_cron, check_timezone

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "LARGEST",
    "count_reader",
    "read_access_log",
    "read_address",
    "read_addresses",
    "read_cron",
    "read_date_format",
    "read_depends",
    "read_duration",
    "read_extensions",
    "read_options",
    "read_patterns",
    "read_percent",
    "read_positive_duration",
    "read_preload",
    "read_signal",
    "read_size",
    "read_strings",
    "read_target",
    "read_tcp",
    "read_text",
    "read_timezone",
    "read_umask",
    "read_url",
    "read_user",
    "read_variable",
    "read_version",
    "read_watch",
]

# Beyond this no number in an oxfile means anything, and floats of it stay exact.
LARGEST = 10**12
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*(\(\))?\Z")
# sun_path holds 108 bytes with its end, unix(7).
_UNIX_PATH = re.compile(r"[^\0]{2,107}\Z")
_HOST_PORT = re.compile(r"(?:\[[0-9A-Fa-f:.%\w]+\]|[^\s:/\[\]]*):(?P<port>\d{1,5})\Z")


def read_text(value: object) -> str:
    """Return a string that is not empty."""
    text = str(value)
    if not text.strip() or "\0" in text:
        raise ValueError("a string that is not empty")
    return text


def read_duration(value: object) -> float:
    """Return seconds."""
    seconds = units.parse_duration(str(value))
    if not seconds <= LARGEST:
        raise ValueError("a duration of less than 30,000 years")
    return seconds


def read_positive_duration(value: object) -> float:
    """Return seconds, more than none."""
    seconds = read_duration(value)
    if seconds <= 0:
        raise ValueError("a duration longer than nothing")
    return seconds


def read_size(value: object) -> int:
    """Return bytes."""
    try:
        count = units.parse_bytes(str(value))
    except OverflowError:
        count = LARGEST**2
    if not 0 < count <= 10**15:
        raise ValueError('a size such as "512M", "1.5G" or "200MiB"')
    return count


def read_percent(value: object) -> float:
    """Return the number of ``"200%"``."""
    text = str(value).strip().removesuffix("%")
    try:
        percent = float(text)
    except ValueError:
        percent = math.nan
    if not 0 < percent <= 10**6:
        raise ValueError('a share of the CPUs such as "200%" (two cores)')
    return percent


def read_signal(value: object) -> int:
    """Return the number of a signal."""
    return units.parse_signal(str(value))


def read_strings(value: object) -> tuple[str, ...]:
    """Return a string or an array of strings as a tuple."""
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, str) or not item.strip() or "\0" in item:
            raise ValueError("strings that are not empty")
    return tuple(str(item) for item in items)


def read_extensions(value: object) -> tuple[str, ...]:
    """Return file extensions, each with its dot."""
    return tuple(item if item.startswith(".") else f".{item}" for item in read_strings(value))


def read_patterns(value: object) -> tuple[str, ...]:
    """Return regular expressions that compile."""
    patterns = read_strings(value)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"regular expressions; {pattern!r} is none: {error}") from error
    return patterns


def read_watch(value: object) -> object:
    """Return true, false or paths."""
    return value if isinstance(value, bool) else read_strings(value)


def count_reader(word: str) -> Callable[[object], object]:
    """Return the reader of a number of 1 or more that may also be one word."""

    def read(value: object) -> object:
        if value == word or (isinstance(value, int) and 1 <= value <= 10_000):
            return value
        raise ValueError(f'an integer of 1 or more, or "{word}"')

    return read


def read_umask(value: object) -> int:
    """Return the mask of an octal string."""
    text = str(value)
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", text) or int(text.removeprefix("0o"), 8) > 0o777:
        raise ValueError('an octal string such as "022" or "0077"')
    return int(text.removeprefix("0o"), 8)


def read_variable(value: object) -> str:
    """Return the name of a variable."""
    if not _NAME.match(str(value)):
        raise ValueError("the name of a variable, such as INSTANCE_ID")
    return str(value)


def read_version(value: object) -> int:
    """Return 1."""
    if value != 1:
        raise ValueError("1, the only version there is")
    return 1


def read_target(value: object) -> str:
    """Return ``module:attribute``."""
    if not _TARGET.match(str(value)):
        raise ValueError(
            '"module:attribute", such as "main:app" or "project.wsgi:application"; a factory may end in ()'
        )
    return str(value)


def read_address(text: str) -> str:
    """Return ``host:port``, ``[v6]:port`` or ``unix:/path``."""
    if text.startswith("unix:"):
        if _UNIX_PATH.match(text.removeprefix("unix:")):
            return text
    elif (match := _HOST_PORT.match(text)) and 0 < int(match["port"]) <= 65535:
        return text
    raise ValueError('"host:port" with a port from 1 to 65535, "[v6]:port" or "unix:/path"')


def read_addresses(value: object) -> tuple[str, ...]:
    """Return one or more addresses."""
    return tuple(read_address(item) for item in read_strings(value))


def read_tcp(value: object) -> str:
    """Return ``host:port``, or ``unix:/path``."""
    text = str(value).removeprefix("tcp://")
    parse_address(_of_first_instance(text))
    return text


def read_url(value: object) -> str:
    """Return a URL, or the path of one."""
    text = str(value)
    if text.startswith("/") and " " not in text:
        return text
    address = parse_endpoint(_of_first_instance(text)).address
    if not address.host and not address.path:
        raise ValueError('a URL with a host, such as "http://localhost:8000/health"')
    return text


def _of_first_instance(text: str) -> str:
    """Return a text as the first instance reads it, so that ``localhost:800{instance}`` can be checked."""
    return text.replace("{instance}", "0")


def read_date_format(value: object) -> str:
    """Return a strftime format."""
    return to_strftime(str(value))


def read_user(value: object) -> str:
    """Return a name, or a number as a string."""
    if isinstance(value, int):
        if not 0 <= value < 2**32 - 1:
            raise ValueError("a name or a number")
        return str(value)
    return read_text(value)


def read_access_log(value: object) -> object:
    """Return true, false, "text", "json" or a path."""
    return value if isinstance(value, bool) else read_text(value)


def read_preload(value: object) -> str:
    """Return ``auto``, ``true`` or ``false``."""
    if value == "auto":
        return "auto"
    if isinstance(value, bool):
        return "true" if value else "false"
    raise ValueError('"auto", true or false')


def read_options(value: object) -> tuple[tuple[str, object], ...]:
    """Return the pairs of a table of plain values, in the order of their names."""
    if not isinstance(value, dict):
        raise ValueError("a table")  # noqa: TRY004 - callers turn ValueError into a problem
    return tuple((str(name), _option(item)) for name, item in sorted(value.items()))


def _option(item: object) -> object:
    if isinstance(item, list):
        return tuple(_option(element) for element in item)
    if not isinstance(item, (str, int, float, bool)):
        raise ValueError("strings, numbers, booleans and arrays of them")  # noqa: TRY004 - it is the value's fault
    return item


# A tuple: what stands in the file may be an array, which no set could be asked for.
_CONDITIONS = ("started", "ready", "completed")


def read_depends(value: object) -> tuple[tuple[str, str], ...]:
    """Return pairs of name and condition; the condition is empty where only a list was given."""
    if isinstance(value, dict):
        if not all(name and condition in _CONDITIONS for name, condition in value.items()):
            raise ValueError('conditions out of "started", "ready" and "completed"')
        return tuple((str(name), str(condition)) for name, condition in value.items())
    return tuple((name, "") for name in dict.fromkeys(read_strings(value)))


def read_cron(value: object) -> str:
    """Return a cron expression of 5 or 6 fields, its spaces made single."""
    cron = " ".join(str(value).split())
    check_cron(cron)
    return cron


def read_timezone(value: object) -> str:
    """Return an IANA time zone."""
    check_timezone(str(value))
    return str(value)
