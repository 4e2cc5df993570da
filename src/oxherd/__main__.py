"""``python -m oxherd`` is ``oxherd``."""

from __future__ import annotations

import sys

from oxherd.cli.entry import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
