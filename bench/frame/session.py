"""Rounds: every measure of every peer, interleaved, in an order that rotates, with whatever fails told by name."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from frame import facts
from frame.measure import Measure, Peer, Skipped
from frame.places import scrubbed
from frame.progress import Progress
from frame.stats import rounded

__all__ = ["Changed", "Options", "Results", "run"]

FORMAT = 2
Results = dict[str, Any]


class Changed(Exception):  # noqa: N818 - it is what it says
    """Raised where earlier results cannot be continued: machine, versions, source or figures are others now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What was asked for: ``peers`` holds parts of names, empty for all; ``partial``: not all that the kind measures."""

    rounds: int = 7
    quick: bool = False
    peers: tuple[str, ...] = ()
    partial: bool = False
    verbose: bool = False

    def wants(self, name: str) -> bool:
        """Say whether a peer is to be measured."""
        return not self.peers or any(part in name for part in self.peers)


def rotated(peers: Sequence[Peer], by: int) -> list[Peer]:
    """Return the peers beginning with another one each round, so that no one always follows the same."""
    turn = by % len(peers) if peers else 0
    return [*peers[turn:], *peers[:turn]]


def run(
    kind: str,
    measures: Sequence[Measure],
    packages: tuple[str, ...],
    options: Options,
    *,
    earlier: Results | None = None,
    keep: Callable[[Results], object] = lambda _: None,
) -> Results:
    """Measure and return the results of one kind, ready to be written.

    A peer that cannot be measured here is named with its reason; one that fails is named each time and tried again in
    the next round. Neither ends the run.

    Args:
        kind: Its name.
        measures: What is measured.
        packages: Whose versions are kept.
        options: How often, and of whom.
        earlier: Results that are continued: rounds are added until there are as many as asked for.
        keep: Called with the results so far after each round, so that what ends early has its whole rounds.

    Raises:
        Changed: something that the figures depend on is not as it was for the earlier ones.
    """
    progress = Progress(sys.stderr)
    skipped: dict[str, str] = {}
    results = begun(kind, measures, packages, options)
    if earlier is not None:
        results = continued(results, earlier)
    figures, failures, took, parts = results["figures"], results["failures"], results["took"], results["parts"]
    able = {measure.name: present(measure, options, skipped, progress) for measure in measures}
    since = time.monotonic()
    part = {"date": now(), "rounds": 0, "seconds": 0, "load": {"before": facts.load()}}
    total = max(0, options.rounds - results["rounds"]) * sum(len(peers) for peers in able.values())
    for number in range(results["rounds"], options.rounds):
        found: list[tuple[str, str, object]] = []
        for measure in measures:
            for peer in rotated(able[measure.name], number):
                progress.step(total, f"{kind}: round {number + 1} of {options.rounds}: {measure.name}: {peer.name}")
                label = f"{peer.name}: {measure.name}"
                at = time.monotonic()
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
                finally:
                    took[measure.name] = round(took.get(measure.name, 0) + time.monotonic() - at, 1)
                for name, value in values.items():
                    kept = [rounded(one) for one in value] if isinstance(value, Sequence) else rounded(value)
                    found.append((name, peer.name, kept))
        # Rounds are kept whole: each peer has been measured as often as the others, beside them.
        for name, peer_name, kept in found:
            figures[name]["peers"].setdefault(peer_name, []).append(kept)
        results["skipped"] = skipped
        part |= {"rounds": part["rounds"] + 1, "seconds": round(time.monotonic() - since)}
        part["load"]["after"] = facts.load()
        results |= {"rounds": number + 1, "parts": [*parts, part]}
        keep(results)
    progress.done()
    return results


def present(measure: Measure, options: Options, skipped: dict[str, str], progress: Progress) -> list[Peer]:
    """Return the wanted peers that can be measured here; the others are told once and kept with their reasons."""
    able: list[Peer] = []
    for peer in measure.peers:
        if not options.wants(peer.name):
            continue
        reason = skipped.get(peer.name) or peer.missing()
        if reason is None:
            able.append(peer)
        elif peer.name not in skipped:
            skipped[peer.name] = reason
            progress.tell(f"skipped: {peer.name}: {reason}")
    return able


def now() -> str:
    """Return the time as results say it, UTC."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime())


def begun(kind: str, measures: Sequence[Measure], packages: tuple[str, ...], options: Options) -> Results:
    """Return results without a round."""
    return {
        "format": FORMAT,
        "kind": kind,
        "date": now(),
        "quick": options.quick,
        "partial": options.partial,
        "rounds": 0,
        "machine": facts.machine(),
        "source": facts.source(),
        "versions": facts.versions(packages),
        "parts": [],
        "took": {},
        "skipped": {},
        "failures": [],
        "figures": {
            figure.name: {
                "unit": figure.unit,
                "better": figure.better,
                "about": figure.about,
                "measure": measure.name,
                "peers": {},
            }
            for measure in measures
            for figure in measure.figures
        },
    }


def continued(fresh: Results, earlier: Results) -> Results:
    """Return the earlier results to go on with; ``fresh`` says what would be begun now.

    Raises:
        Changed: they would not be of the same.
    """
    differ = [
        f"{key} {name}: {earlier[key].get(name)} then, {fresh[key].get(name)} now"
        for key in ("machine", "versions")
        for name in sorted({*earlier[key], *fresh[key]})
        if earlier[key].get(name) != fresh[key].get(name)
    ]
    if earlier["source"] != fresh["source"]:
        differ.append(f"the source of Oxherd: {earlier['source']} then, {fresh['source']} now")
    if [*fresh["figures"]] != [*earlier["figures"]]:
        differ.append("what is measured")
    if differ:
        raise Changed(f"{earlier['kind']} of {earlier['date']} cannot be continued: {'; '.join(differ)}")
    return earlier
