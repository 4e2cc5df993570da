"""``oxherd daemon``: the supervisor itself."""

from __future__ import annotations

import os
import sys

import click

from oxherd.cli.options import output_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.cli.output import Output

__all__ = ["daemon"]

# Seconds before systemd may try again what did not start.
_BETWEEN_VAIN_STARTS = 2.0

_KEYS = ("pid", "version", "uptime_seconds", "memory_bytes", "stacks")


@click.group
def daemon() -> None:
    """Run, stop and look at the supervisor."""


@daemon.command("run")
def run() -> int:
    """Run the supervisor in the foreground.

    For systemd and the like; stacks that are wanted come up. `oxherd start` runs it in the background by itself.
    """
    from oxherd.cli.bootstrap import daemon_command  # noqa: PLC0415 - not for --help
    from oxherd.system.subreaper import become_subreaper  # noqa: PLC0415 - not for --help

    sys.stdout.flush()
    become_subreaper()  # which outlives the exec
    command = daemon_command()
    os.execv(command[0], command)


@daemon.command("stop")
@output_options
def stop(*, output: Output) -> int:
    """Stop every process of every stack, then the supervisor.

    What is wanted is kept: the next `oxherd start` or `oxherd daemon run` brings it up again.
    """
    from oxherd.cli.bootstrap import wait_for_the_end  # noqa: PLC0415 - not for --help
    from oxherd.cli.progress import progress_of  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import reach  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help

    home = find_home(os.environ)
    with reach(home) as client, progress_of(output) as progress:
        result = client.request("shutdown", progress.show, stop_processes=True)
    wait_for_the_end(home)
    if output.json:
        output.document(result)
    output.say("The supervisor has stopped.")
    return 0


@daemon.command("upgrade")
@output_options
def upgrade(*, output: Output) -> int:
    """Make the supervisor become the version of this command, below what it supervises.

    Nothing is stopped: it keeps its pid, its processes, their sockets and output. The new version first has to say, in a process
    of its own, that it starts and can read what is written down; if it does not, the old one goes on. SIGUSR2 does the same with
    the version that is installed where the supervisor runs.
    """
    from oxherd.cli.bootstrap import wait_for_session  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import reach  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help

    home = find_home(os.environ)
    with reach(home) as client:
        before = client.request("ping", timeout=10)
        client.request("upgrade", python=sys.executable)
    after = wait_for_session(home, str(before.get("session", "")))
    result = {"pid": after.get("pid"), "version": after.get("version"), "before": before.get("version")}
    if output.json:
        output.document(result)
    output.say(f"The supervisor (pid {result['pid']}) is version {result['version']}; it was {result['before']}.")
    return 0


@daemon.command("status")
@output_options
def status(*, output: Output) -> int:
    """Show the supervisor: pid, version, age, memory, stacks."""
    from oxherd.cli.where import reach  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help
    from oxherd.units import format_age, format_bytes  # noqa: PLC0415 - not for --help

    home = find_home(os.environ)
    with reach(home) as client:
        facts = client.request("ping", timeout=10)
    if output.json:
        output.document({key: facts.get(key) for key in _KEYS})
        return 0
    uptime, memory = facts.get("uptime_seconds"), facts.get("memory_bytes")
    output.say(f"pid      {facts.get('pid')}")
    output.say(f"version  {facts.get('version')}")
    output.say(f"uptime   {format_age(uptime) if isinstance(uptime, (int, float)) else '-'}")
    output.say(f"memory   {format_bytes(memory) if isinstance(memory, (int, float)) else '-'}")
    output.say(f"stacks   {facts.get('stacks')}")
    output.say(f"state    {home.state}")
    output.say(f"log      {home.log}")
    if facts.get("events_error"):
        output.warn(f"warning: events are kept in memory only: {facts['events_error']}")
    return 0


@daemon.command("sweep")
@click.option(
    "--after-stop",
    is_flag=True,
    help="For ExecStopPost= of the systemd unit: do it if the stop was meant, and at once.",
)
@output_options
def sweep(*, after_stop: bool, output: Output) -> int:
    """End what a dead supervisor left running.

    Its programs go on without it, and the next supervisor adopts them; this is for when there is to be no next one.
    """
    import signal  # noqa: PLC0415 - not for --help
    import time  # noqa: PLC0415 - not for --help

    from oxherd.cli.sweeping import PATIENCE, end_survivors, hold_home, should_sweep  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help
    from oxherd.daemon.watchdog import ending_marker  # noqa: PLC0415 - not for --help

    home = find_home(os.environ)
    marker = ending_marker(home.runtime)
    if after_stop and not should_sweep(os.environ, ending=os.path.exists(marker)):
        if os.environ.get("SERVICE_RESULT") == "exit-code":
            # It could not start (a full disk, a home that somebody else holds), and systemd tries again in a tenth of
            # a second, for good. That is meant for a crash; here it would cost half a core.
            time.sleep(_BETWEEN_VAIN_STARTS)
        return 0
    # A supervisor that finds the lock taken and no socket sends a SIGHUP to whoever holds it.
    hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    lock = None
    try:
        lock = hold_home(home)
        names, alive = end_survivors(home, patience=0.0 if after_stop else PATIENCE)
        if os.path.exists(marker):
            os.unlink(marker)
    finally:
        if lock is not None:
            os.close(lock)
        signal.signal(signal.SIGHUP, hangup)
    if output.json:
        output.document({"ended": names, "alive": alive})
    elif names and not alive:
        output.say(f"ended what a supervisor left running: {', '.join(names)}")
    elif not alive and not after_stop:
        output.say("nothing was left running")
    if alive:
        output.warn(f"SIGKILL does not end {', '.join(map(str, alive))}: see `ps -o pid,stat,wchan,args`")
    return 1 if alive else 0
