"""What the console scripts ``oxherd`` and ``oxmgr`` call.

``status`` and ``ls`` are typed more than anything else and watched in loops, so they take a path of their own that
imports neither click nor rich nor typing (research: 18 ms as a whole instead of 36 or 53). Everything else, and
everything that path does not understand, goes to click.
"""

from __future__ import annotations

import os
import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line of this process and return its exit code."""
    arguments = sys.argv[1:]
    if os.getpid() == 1:
        _keep_signals()
    if arguments and arguments[0] in {"status", "ls"}:
        from oxherd.cli.quick import quick_status  # noqa: PLC0415 - each path imports only what it needs

        code = quick_status(arguments[1:])
        if code is not None:
            # Everything is written and nothing is open: taking the interpreter apart would cost 2 ms of 18 for nothing.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    from oxherd.cli.main import main as full  # noqa: PLC0415 - each path imports only what it needs

    return full(arguments)


def _keep_signals() -> None:
    """Let the signals that end a container wait until the supervisor has handlers for them.

    The kernel drops a signal for which PID 1 has no handler, unless it is blocked (pid_namespaces(7), sig_ignored() in the
    kernel): a `docker stop` in the first moments would do nothing until its time was over and everything was killed. The mask
    is inherited by the exec that makes this process the supervisor.
    """
    import signal  # noqa: PLC0415 - each path imports only what it needs

    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})
