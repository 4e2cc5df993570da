"""``python -m oxherd.daemon``."""

from __future__ import annotations

import sys

from oxherd.daemon.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
