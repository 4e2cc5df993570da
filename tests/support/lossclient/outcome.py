"""What can become of a request: one closed set of classes, and the exceptions that carry them."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Closed", "Lost", "Outcome"]


class Outcome(StrEnum):
    """The end of one request, exactly one a request."""

    OK = "ok"
    # Nobody listens, or the queue of a unix socket is full.
    REFUSED = "refused"
    # The connection ended before a byte of the answer: one that had answered nothing yet, and one that had.
    RESET_FRESH = "reset-fresh"
    RESET_REUSED = "reset-reused-idle"
    # It ended inside the answer, or without the closing handshake of a websocket.
    RESET_MID = "reset-mid-response"
    TIMEOUT = "timeout"
    WRONG_STATUS = "wrong-status"
    WRONG_BODY = "wrong-body"
    MALFORMED = "malformed"
    # The client's own machine refused: no port, no descriptor. Never to be excused, never the server's fault.
    CLIENT = "client"


class Closed(StrEnum):
    """How a connection ended on which no request was under way. No request was lost by any of these."""

    # The last answer said `Connection: close`, or a websocket was closed with 1001 or 1012.
    POLITE = "polite"
    # The server closed after an answer that had not said so; seen before the next request was sent.
    IDLE = "idle"
    IDLE_RESET = "idle-reset"
    # The server closed a connection on which nothing had been sent yet.
    SILENT = "silent"
    # There were bytes nobody had asked for, a 408 for instance.
    UNASKED = "unasked"


class Lost(Exception):  # noqa: N818 - the word of the report
    """A request was lost.

    Args:
        outcome: How.
        text: What was seen.
    """

    def __init__(self, outcome: Outcome, text: str) -> None:
        super().__init__(f"{outcome}: {text}")
        self.outcome, self.text = outcome, text
