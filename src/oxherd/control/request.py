"""A request as the supervisor gets it: checked, typed, ready to be dispatched."""

from __future__ import annotations

from oxherd.control.protocol import PROTOCOL, decode_line
from oxherd.errors import ProtocolError
from oxherd.records import dataclass

__all__ = ["Request", "parse_request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a client asks for.

    Attributes:
        id: The client's number for it; every answer carries it.
        verb: What to do.
        args: The arguments as they came; the verb checks them.
        version: The client's version, or "" where it did not say.
    """

    id: int
    verb: str
    args: dict[str, object]
    version: str = ""


def parse_request(line: bytes) -> Request:
    """Return the request of one line.

    Raises:
        ProtocolError: The line is no request, or one of another protocol.
    """
    message = decode_line(line)
    number = message.get("oxherd")
    if number != PROTOCOL or isinstance(number, bool):
        raise ProtocolError(
            f'a request has "oxherd": {PROTOCOL}, the number of the protocol; this one has {number!r:.40}',
            hint="use the oxherd command of the supervisor's version, or run `oxherd daemon upgrade`",
            code="OX504",
        )
    identity, verb, args = message.get("id"), message.get("verb"), message.get("args", {})
    if not isinstance(identity, int) or isinstance(identity, bool):
        raise ProtocolError('a request has an "id" that is a whole number', code="OX503")
    if not isinstance(verb, str) or not verb:
        raise ProtocolError('a request has a "verb" that is a text', code="OX503")
    if not isinstance(args, dict):
        raise ProtocolError('the "args" of a request are an object', code="OX503")
    version = message.get("version")
    return Request(id=identity, verb=verb, args=args, version=version if isinstance(version, str) else "")
