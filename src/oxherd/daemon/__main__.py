"""The program of the supervisor: ``python -m oxherd.daemon``, or by the path of this file, which loads less."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    if sys.flags.no_site:
        # Last, as `site` would have it: nothing beside Oxherd may hide a module of the standard library.
        sys.path.append(__file__.rpartition("/oxherd/daemon/")[0])
    from oxherd.deferred import SELDOM, UNNEEDED, defer, site_when_needed

    site_when_needed()
    defer(*UNNEEDED, *SELDOM)
    from oxherd.daemon.main import main

    sys.exit(main(sys.argv[1:]))
