"""What the workers of a process have served, over all their lives: counted by them, added up here."""

from __future__ import annotations

from oxherd.records import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.system.worker_handle import WorkerHandle

__all__ = ["Figures", "figures_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Totals since the process was first started by this supervisor.

    Attributes:
        requests: Answered requests.
        errors: Those answered with 5xx.
        aborted: Requests that ended without a whole answer, whoever hung up.
    """

    requests: int = 0
    errors: int = 0
    aborted: int = 0

    def __add__(self, other: Figures) -> Figures:
        """Add two totals."""
        return Figures(
            requests=self.requests + other.requests,
            errors=self.errors + other.errors,
            aborted=self.aborted + other.aborted,
        )

    def __sub__(self, other: Figures) -> Figures:
        """Return what has come since an earlier total."""
        return Figures(
            requests=self.requests - other.requests,
            errors=self.errors - other.errors,
            aborted=self.aborted - other.aborted,
        )


def figures_of(worker: WorkerHandle) -> Figures:
    """Return what one worker has served; it may be dead."""
    if worker.meters is None:
        return Figures()
    reading = worker.meters.read()
    return Figures(requests=reading.requests, errors=reading.classes[4], aborted=reading.aborted)
