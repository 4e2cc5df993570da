"""Writes the generated pages, or checks them with ``--check``. Each page is a pure function of the source."""

from __future__ import annotations

import argparse
import difflib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import generate_benchmarks
import generate_errors
import generate_lifecycle
import generate_lossless
import generate_rollout

from oxherd.cli.reference import reference
from oxherd.config.reference import reference_markdown, schema_text

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).resolve().parent.parent

PAGES: dict[str, Callable[[], str]] = {
    "docs/concepts/lifecycle.md": generate_lifecycle.page,
    "docs/concepts/lossless.md": generate_lossless.page,
    "docs/concepts/reloading.md": generate_rollout.page,
    "docs/reference/cli.md": reference,
    "docs/reference/errors.md": generate_errors.page,
    "docs/reference/oxfile.md": reference_markdown,
    "src/oxherd/config/oxfile.schema.json": schema_text,
}


def main() -> int:
    """Write or check every page; return the exit code."""
    parser = argparse.ArgumentParser(prog="generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    check = parser.parse_args().check
    stale = 0
    pages = {name: make() for name, make in PAGES.items()} | generate_benchmarks.pages()
    for path in sorted((CHECKOUT / "docs" / "img").glob("bench-*.svg")):
        # A chart of a figure that is no longer drawn.
        if (name := str(path.relative_to(CHECKOUT))) not in pages:
            print(
                f"{name} is not made any more; run ./scripts/generate" if check else f"removed {name}", file=sys.stderr
            )
            stale += check
            if not check:
                path.unlink()
    for name, wanted in pages.items():
        path = CHECKOUT / name
        there = path.read_text() if path.exists() else ""
        if wanted == there:
            continue
        if check:
            stale += 1
            print(f"{name} is out of date; run ./scripts/generate", file=sys.stderr)
            difference = difflib.unified_diff(there.splitlines(), wanted.splitlines(), "there", "wanted", lineterm="")
            print("\n".join(list(difference)[:20]), file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted)
            print(f"wrote {name}")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
