"""The language of the control socket: JSON lines, without I/O.

One JSON object a line, UTF-8, at most 16 MiB a line. A request is answered by any number of ``progress`` lines and
exactly one line that holds ``result`` or ``error``::

    > {"oxherd": 1, "version": "0.1.0", "id": 1, "verb": "stop", "args": {"stack": "/srv/shop/oxfile.toml", "names": []}}
    < {"id": 1, "progress": {"process": "web", "instance": 0, "status": "stopping"}}
    < {"id": 1, "server": "0.1.0", "result": {"instances": [], "failed": [], "notes": []}}

``oxherd`` is the number of the protocol, which changes only when old and new ends cannot understand each other;
``version`` and ``server`` are the versions of the two programs, which may differ as long as that number is the same.

Whatever bytes arrive, nothing but `ProtocolError` is raised. The module is imported by the supervisor and by the
quick path of ``oxherd status``, so the errors (which need ``dataclasses``) are imported when there is one to raise.
"""

from __future__ import annotations

from oxherd import jsons as json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from oxherd.errors import OxherdError, Problem, ProtocolError

__all__ = [
    "MAX_LINE",
    "PROTOCOL",
    "LineBuffer",
    "decode_line",
    "encode_line",
    "error_answer",
    "error_of",
    "progress_answer",
    "request_line",
    "result_answer",
    "version_note",
]

# The number of the protocol. Both ends refuse any other.
PROTOCOL = 1

# Bytes of one line with its newline. An oxfile of a thousand processes is about half a megabyte.
MAX_LINE = 16 * 1024 * 1024


class LineBuffer:
    """Cuts a stream of bytes into lines and keeps what is not yet complete.

    Args:
        limit: Largest accepted line in bytes, newline included.
    """

    __slots__ = ("_buffer", "_limit", "_searched")

    def __init__(self, limit: int = MAX_LINE) -> None:
        """Begin empty."""
        self._buffer = bytearray()
        self._limit = limit
        # Where the search for the next newline goes on; a long line would else be searched from its start each time.
        self._searched = 0

    def __len__(self) -> int:
        """Return the bytes that wait for the rest of their line."""
        return len(self._buffer)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take ``data`` and iterate over the lines that are complete now, without their newlines.

        Raises:
            ProtocolError: (when the iteration gets there) a line is longer than the limit. The stream cannot be
                followed any further; lines before it have been delivered.
        """
        self._buffer += data
        return self._lines()

    def _lines(self) -> Iterator[bytes]:
        while True:
            end = self._buffer.find(b"\n", self._searched)
            if (len(self._buffer) if end < 0 else end) >= self._limit:
                self._buffer.clear()
                self._searched = 0
                raise _fault(f"a line of more than {self._limit} bytes", "OX502")
            if end < 0:
                self._searched = len(self._buffer)
                return
            line = bytes(self._buffer[:end])
            del self._buffer[: end + 1]
            self._searched = 0
            yield line


def encode_line(message: Mapping[str, object]) -> bytes:
    """Return the message as one line.

    Non-ASCII text is escaped: environment variables may hold bytes that are not UTF-8, which Python keeps as lone
    surrogates, and those survive the escape and nothing else.

    Raises:
        ProtocolError: The line would be longer than `MAX_LINE`.
    """
    line = json.dumps(message, separators=(",", ":")).encode("ascii") + b"\n"
    if len(line) > MAX_LINE:
        raise _fault(f"a message of {len(line)} bytes does not fit into a line of {MAX_LINE} bytes", "OX502")
    return line


def decode_line(line: bytes) -> dict[str, object]:
    """Return the message of one line.

    Raises:
        ProtocolError: The line is not the JSON text of an object.
    """
    try:
        message = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError:
        raise _fault("a line that is not UTF-8", "OX501") from None
    except ValueError as error:
        raise _fault(f"a line that is not JSON: {error}", "OX501") from None
    except RecursionError:
        raise _fault("a line that is not JSON: nested too deeply", "OX501") from None
    if not isinstance(message, dict):
        raise _fault("a line that is JSON but not an object", "OX501")
    return message


def request_line(*, identity: int, version: str, verb: str, args: Mapping[str, object]) -> bytes:
    """Return the line of a request.

    Raises:
        ProtocolError: It is longer than `MAX_LINE`.
    """
    return encode_line({"oxherd": PROTOCOL, "version": version, "id": identity, "verb": verb, "args": args})


def progress_answer(identity: int, progress: Mapping[str, object]) -> bytes:
    """Return the line that tells how request ``identity`` is coming along."""
    return encode_line({"id": identity, "progress": progress})


def result_answer(identity: int, server: str, result: Mapping[str, object]) -> bytes:
    """Return the line that ends request ``identity`` well."""
    return encode_line({"id": identity, "server": server, "result": result})


def error_answer(identity: int | None, server: str, error: OxherdError) -> bytes:
    """Return the line that ends request ``identity`` badly; None where no request could be made out."""
    return encode_line({"id": identity, "server": server, "error": error.as_dict()})


def version_note(client: str, server: str) -> str:
    """Return what to tell a person whose command is of another version than the supervisor; "" if they are the same."""
    if client == server:
        return ""
    return f"this is oxherd {client}, the supervisor is {server}; `oxherd daemon upgrade` brings it to {client}"


def error_of(data: object) -> OxherdError:
    """Return the error that an ``error`` answer holds, as the class that its code belongs to."""
    from oxherd import errors  # noqa: PLC0415 - see the head of this module

    if not isinstance(data, dict):
        return errors.ProtocolError("the supervisor sent an error that is not an object", code="OX503")
    code, message, hint = (str(data.get(key) or "") for key in ("code", "message", "hint"))
    problems = data.get("problems")
    if code.startswith("OX1") and isinstance(problems, list):
        return errors.ConfigError(
            tuple(
                _problem_of(item) for item in problems if isinstance(item, dict) and {"code", "message"} <= item.keys()
            )
        )
    kinds: dict[str, type[OxherdError]] = {
        "OX2": errors.UsageError,
        "OX3": errors.NoSupervisorError,
        "OX4": errors.OperationError,
        "OX5": errors.ProtocolError,
        "OX6": errors.SystemFault,
    }
    by_exit: dict[object, type[OxherdError]] = {2: errors.UsageError, 3: errors.NoSupervisorError}
    exit_code = data.get("exit_code")
    kind = kinds.get(code[:3]) or by_exit.get(exit_code if isinstance(exit_code, int) else 1, errors.OxherdError)
    return kind(message or "the supervisor reported an error without a text", hint=hint, code=code or None)


def _problem_of(item: dict[str, object]) -> Problem:
    from oxherd.errors import Problem  # noqa: PLC0415 - see the head of this module
    from oxherd.records import names_of  # noqa: PLC0415 - see the head of this module

    line = item.get("line")
    texts = {key: str(item[key]) for key in names_of(Problem) if key in item and key != "line"}
    return Problem(**texts, line=line if isinstance(line, int) else 0)


def _fault(what: str, code: str) -> ProtocolError:
    from oxherd.errors import ProtocolError  # noqa: PLC0415 - see the head of this module

    return ProtocolError(f"the other end of the control socket sent {what}", code=code)
