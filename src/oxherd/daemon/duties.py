"""What is done for an incarnation while it lives: health checks and limits; and for a process: watching and the clock."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:

    pass

__all__ = ["Duties"]
