"""The program of the supervisor: ``python -m oxherd.daemon``, or by the path of this file, which loads less."""

from __future__ import annotations

import sys

from oxherd.deferred import SELDOM, UNNEEDED, defer

if __name__ == "__main__":
    defer(*UNNEEDED, *SELDOM)
    from oxherd.daemon.main import main

    sys.exit(main(sys.argv[1:]))
