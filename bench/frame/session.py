"""Rounds: every measure of every peer, interleaved, in an order that rotates, with whatever fails told by name."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from frame import facts
from frame.measure import Measure, Skipped
from frame.places import scrubbed
from frame.progress import Progress
from frame.stats import rounded

__all__ = ["Options", "run"]

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for: ``peers`` holds parts of names, empty for all."""

    rounds: int = 7
    quick: bool = False
    peers: tuple[str, ...] = ()
    verbose: bool = False

    def wants(self, name: str) -> bool:
        """Say whether a peer is to be measured."""
        return not self.peers or any(part in name for part in self.peers)


def rotated(peers: Sequence[object], by: int) -> list[object]:
    """Return the peers beginning with another one each round, so that no one always follows the same."""
    turn = by % len(peers) if peers else 0
    return [*peers[turn:], *peers[:turn]]


def run(kind: str, measures: Sequence[Measure], packages: tuple[str, ...], options: Options) -> dict[str, object]:
    """Measure and return the results of one kind, ready to be written.

    A peer that cannot be measured here is named with its reason; one that fails is named each time and tried again in
    the next round. Neither ends the run.
    """
    progress = Progress(sys.stderr)
    skipped: dict[str, str] = {}
    failures: list[dict[str, object]] = []
    figures = {
        figure.name: {
            "unit": figure.unit,
            "better": figure.better,
            "about": figure.about,
            "measure": measure.name,
            "peers": {},
        }
        for measure in measures
        for figure in measure.figures
    }
    able: dict[str, list[object]] = {}
    for measure in measures:
        able[measure.name] = []
        for peer in measure.peers:
            if not options.wants(peer.name):
                continue
            reason = skipped.get(peer.name) or peer.missing()
            if reason is None:
                able[measure.name].append(peer)
            elif peer.name not in skipped:
                skipped[peer.name] = reason
                progress.tell(f"skipped: {peer.name}: {reason}")
    before, begun = facts.load(), time.time()
    total = options.rounds * sum(len(peers) for peers in able.values())
    for number in range(options.rounds):
        for measure in measures:
            for peer in rotated(able[measure.name], number):
                progress.step(total, f"{kind}: round {number + 1} of {options.rounds}: {measure.name}: {peer.name}")
                label = f"{peer.name}: {measure.name}"
                try:
                    values = measure.values(measure.run(peer))
                except Skipped as reason:
                    if label not in skipped:
                        skipped[label] = str(reason)
                        progress.tell(f"skipped: {label}: {reason}")
                    continue
                except Exception as error:  # noqa: BLE001 - one peer that fails must not end an hour of measuring
                    told = scrubbed(f"{type(error).__name__}: {error}")[:300]
                    progress.tell(f"failed: {label}: {told}")
                    if options.verbose:
                        traceback.print_exc()
                    failures.append({"round": number + 1, "peer": peer.name, "measure": measure.name, "error": told})
                    continue
                for name, value in values.items():
                    kept = [rounded(one) for one in value] if isinstance(value, Sequence) else rounded(value)
                    figures[name]["peers"].setdefault(peer.name, []).append(kept)
    progress.done()
    return {
        "format": FORMAT,
        "kind": kind,
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime(begun)),
        "seconds": round(time.time() - begun),
        "quick": options.quick,
        "rounds": options.rounds,
        "machine": facts.machine(),
        "load": {"before": before, "after": facts.load()},
        "versions": facts.versions(packages),
        "skipped": skipped,
        "failures": failures,
        "figures": figures,
    }
