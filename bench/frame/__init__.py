"""The frame of every benchmark: peers, measures, interleaved rounds, machine facts, results."""

from __future__ import annotations

from frame.measure import Figure, Measure, Peer, Skipped
from frame.session import Options, run

__all__ = ["Figure", "Measure", "Options", "Peer", "Skipped", "run"]
