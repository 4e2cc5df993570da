"""What the supervisor and its hosts say to each other: JSON objects, one a packet, descriptors beside them.

Sans-io: bytes in, objects out. The socket is a SEQPACKET pair, so a packet is a message and nothing is ever half-read.
Every message has a ``kind``; who does not know a kind or a field ignores it, so a zygote that was started by an older
supervisor goes on being understood.
"""

from __future__ import annotations

import json

# Not typing's own: the supervisor imports this module, and typing is a megabyte.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Message = dict[str, Any]
else:
    Message = dict

__all__ = ["FDS", "LIMIT", "Message", "decode", "encode"]

# Bytes of a packet. Far below the default socket buffer of 208 KiB, so that a packet is sent whole or not at all.
LIMIT = 60_000

# Descriptors of one packet at the most; SCM_MAX_FD is 253, unix(7).
FDS = 16

_CUT = "\n[...]\n"


def encode(kind: str, **fields: object) -> bytes:
    """Return the packet of a message; its longest text is cut in the middle where it would be too long.

    Raises:
        ValueError: It is too long and has no text to cut.
        TypeError: A field is nothing JSON knows.
    """
    message: Message = {"kind": kind, **fields}
    packet = _dump(message)
    while len(packet) > LIMIT:
        name = max((key for key, value in message.items() if isinstance(value, str)), key=lambda key: len(message[key]))
        text = message[name]
        # In the worst case each character becomes twelve bytes of escapes; halving ends soon.
        keep = len(text) // 4
        if keep < len(_CUT):
            raise ValueError(f"a message of {len(packet)} bytes does not fit into a packet of {LIMIT}")
        message[name] = text[:keep] + _CUT + text[-keep:]
        packet = _dump(message)
    return packet


def decode(packet: bytes) -> Message:
    """Return the message of a packet.

    Raises:
        ValueError: It is no JSON object with a kind.
    """
    message = json.loads(packet)
    if not isinstance(message, dict) or not isinstance(message.get("kind"), str):
        raise ValueError(f"not a message: {packet[:80]!r}")  # noqa: TRY004 - whatever is wrong with a packet is one thing
    return message


def _dump(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()
