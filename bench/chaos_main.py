"""Random actions against a real supervisor under load, every promise looked at after each: see docs/operations/chaos.md.

Exit code 0 if every promise was kept, 1 if one was not, 2 if the harness itself did not work.
"""

from __future__ import annotations

import argparse
import secrets
import signal
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))

from chaos.actions import ACTIONS  # noqa: E402 - found by the line above
from chaos.report import as_json, table  # noqa: E402
from chaos.run import Options, Run  # noqa: E402
from support import leftovers  # noqa: E402


def names(text: str) -> tuple[str, ...]:
    """Return the actions of a list with commas."""
    chosen = tuple(filter(None, text.split(",")))
    if unknown := set(chosen) - ACTIONS.keys():
        raise argparse.ArgumentTypeError(
            f"no such action: {', '.join(sorted(unknown))}; there are {', '.join(ACTIONS)}"
        )
    return chosen


def parsed() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="./bench/chaos", description=__doc__)
    parser.add_argument("--seed", type=int, help="decides what is done (default: a new one, which is printed)")
    parser.add_argument("--minutes", type=float, default=3.0, help="how long (default: 3)")
    parser.add_argument("--steps", type=int, default=0, help="how many actions, instead of minutes")
    parser.add_argument("--first", type=int, default=1, help="leave out the steps before this one")
    parser.add_argument("--actions", type=names, default=(), help="only these, with commas between")
    parser.add_argument("--without", type=names, default=(), help="all but these")
    parser.add_argument("--keep-going", action="store_true", help="go on after a promise that was not kept")
    parser.add_argument("--json", action="store_true", help="print the raw data instead of the table")
    parser.add_argument("--keep", action="store_true", help="keep the raw data in bench/results")
    return parser.parse_args()


def main() -> int:
    """Run and print."""
    given = parsed()
    options = Options(
        seed=secrets.randbelow(10**6) if given.seed is None else given.seed,
        steps=given.steps,
        minutes=given.minutes,
        first=given.first,
        actions=given.actions,
        without=given.without,
        keep_going=given.keep_going,
    )
    print(f"seed {options.seed}", file=sys.stderr)
    # What is told to end takes its supervisor with it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with leftovers.subreaper():
        outcome = Run(options, lambda text: print(text, file=sys.stderr, flush=True)).run()
    text = as_json(outcome)
    if given.keep:
        path = HERE / "results" / f"chaos-{time.strftime('%Y-%m-%d-%H%M')}-{outcome.seed}.json"
        path.write_text(text + "\n")
    print(text if given.json else table(outcome))
    whose = {violation.whose for violation in outcome.violations}
    return 1 if "oxherd" in whose else 2 if whose else 0


if __name__ == "__main__":
    sys.exit(main())
