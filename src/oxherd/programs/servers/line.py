"""What a server's command line says of its hosting, before any interpreter is asked."""

from __future__ import annotations

from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.config.model import HostSpec

__all__ = ["Line"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One command line, read.

    Attributes:
        why_not: Why it has to run as it is; "" where it can be hosted or passed its listeners.
        fields: Fields of the `HostSpec` that it decides.
        workers: How many workers it asks for; None is as many as there are CPUs to use.
        workers_from: Where that number comes from: ``--workers 4``, ``WEB_CONCURRENCY``, or "" where it is a default.
        graceful: Seconds it gives requests in flight, where it says so.
        graceful_from: The option that says so.
        linger: False where its clients do not keep connections.
        notes: What is different where it is hosted.
    """

    why_not: str = ""
    fields: dict[str, object] = field(default_factory=dict)
    workers: int | None = 1
    workers_from: str = ""
    graceful: float | None = None
    graceful_from: str = ""
    notes: tuple[str, ...] = ()

    def onto(self, base: HostSpec) -> HostSpec:
        """Return the hosting with what this line decides put in."""
        import dataclasses  # noqa: PLC0415 - compiled once an oxfile

        return dataclasses.replace(base, **self.fields)  # type: ignore[arg-type] # each reader fills in what fits
