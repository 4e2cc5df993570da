"""Everything measured side by side, in one run. Figures are printed and kept, never asserted."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from functools import partial
from pathlib import Path

from frame.places import RESULTS
from frame.results import newest, write
from frame.session import Changed, Options, Results, run
from frame.table import tables

# A kind is a module: ``PACKAGES`` (Python packages and other programs whose versions are kept) and ``measures(*, quick)``.
KINDS = ("supervisors", "workers", "serving", "loss", "logs", "scale")


def main() -> int:
    """Measure, write, print; return 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="the short form: smaller sizes, one round; not reported on"
    )
    parser.add_argument("--rounds", type=int, help="how often everything is measured (7; with --quick 1)")
    parser.add_argument("--only", help=f"kinds, comma separated, of {', '.join(KINDS)}; kind:part for some measures")
    parser.add_argument("--peer", action="append", default=[], help="only peers whose name holds this; repeatable")
    parser.add_argument(
        "--continue",
        dest="goes_on",
        action="store_true",
        help="add rounds to the newest results until there are as many as asked for, if all is as it was",
    )
    parser.add_argument("--json", action="store_true", help="print the raw results instead of tables")
    parser.add_argument("--results", default=str(RESULTS), help="where the files of results go")
    parser.add_argument("--verbose", action="store_true", help="tracebacks of what fails")
    words = parser.parse_args()
    chosen: dict[str, list[str]] = {}
    for word in words.only.split(",") if words.only else KINDS:
        kind, _, part = word.partition(":")
        if kind not in KINDS:
            parser.error(f"--only: no kind {kind!r}; there are {', '.join(KINDS)}")
        chosen.setdefault(kind, []).append(part)
    folder = Path(words.results)
    failed = False
    everything: dict[str, Results] = {}
    for kind, parts in chosen.items():
        module = importlib.import_module(kind)
        measures = [one for one in module.measures(quick=words.quick) if any(part in one.name for part in parts)]
        options = Options(
            rounds=words.rounds or (1 if words.quick else 7),
            quick=words.quick,
            peers=tuple(words.peer),
            partial=bool(words.peer) or "" not in parts,
            verbose=words.verbose,
        )
        earlier = newest(folder, kind) if words.goes_on and not words.quick and not options.partial else None
        try:
            results = run(kind, measures, module.PACKAGES, options, earlier=earlier, keep=partial(write, folder))
        except Changed as why:
            print(f"bench/run: {why}. Without --continue it is measured anew.", file=sys.stderr)
            return 2
        everything[kind] = results
        failed |= bool(results["failures"])
        if not words.json:
            print(f"\n## {kind}\n\n{tables(results['figures'])}\n")
            for one in results["failures"]:
                print(f"failed in round {one['round']}: {one['peer']}: {one['measure']}: {one['error']}")
    if words.json:
        print(json.dumps(everything))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
