"""``oxherd service``: the supervisor as a service of systemd, so that it comes back after a reboot or a crash."""

from __future__ import annotations

import json
import os
import pwd
import sys

import click

from oxherd.cli.options import output_options
from oxherd.cli.systemctl import find_manager, lingers
from oxherd.config.codec import decode
from oxherd.config.model import Oxfile
from oxherd.control.client import Client
from oxherd.control.paths import find_home
from oxherd.errors import NoSupervisorError, OperationError
from oxherd.export.systemd import UNIT_NAME, ServiceUnit, render_unit, stop_seconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from oxherd.cli.output import Output
    from oxherd.cli.systemctl import Manager
    from oxherd.control.paths import Home

    Verb = Callable[..., int | None]

__all__ = ["plan_unit", "service"]


@click.group(name="service")
def service() -> None:
    """Run the supervisor as a systemd service: it comes back after a reboot, with the stacks that are wanted up."""


def _which_option(verb: Verb) -> Verb:
    return click.option(
        "--user/--system",
        "user",
        default=None,
        help="Your own systemd, or that of the machine. [default: by who you are]",
    )(verb)


def _manager(user: bool | None) -> Manager:
    return find_manager(user=os.geteuid() != 0 if user is None else user, environ=os.environ)


@service.command(name="install")
@_which_option
@click.option("--dry-run", is_flag=True, help="Print the unit and change nothing.")
@output_options
def install(*, user: bool | None, dry_run: bool, output: Output) -> int:
    """Write the unit, enable it and start it. If a step fails, nothing of it is left."""
    manager = _manager(user)
    home = find_home(os.environ)
    text = render_unit(plan_unit(manager, home, os.environ))
    if dry_run:
        if output.json:
            output.document({"path": manager.path, "unit": text, "written": False})
        else:
            click.echo(text, nl=False)
        return 0
    _refuse_stray_supervisor(manager, home)
    manager.install(text)
    if output.json:
        output.document({"path": manager.path, "unit": text, "written": True})
        return 0
    output.say(f"wrote {manager.path}; {UNIT_NAME} is enabled and runs")
    name = pwd.getpwuid(os.geteuid()).pw_name
    if manager.user and not lingers(name):
        output.warn(
            f"it starts with your first login; to start it with the machine: sudo loginctl enable-linger {name}"
        )
    return 0


@service.command(name="uninstall")
@_which_option
@output_options
def uninstall(*, user: bool | None, output: Output) -> int:
    """Stop the service and remove its unit. Stacks, logs and state are kept."""
    manager = _manager(user)
    there = manager.uninstall()
    if output.json:
        output.document({"path": manager.path, "removed": there})
    else:
        output.say(f"removed {manager.path}" if there else f"there is no {manager.path}")
    return 0


@service.command(name="status")
@_which_option
@output_options
def status(*, user: bool | None, output: Output) -> int:
    """Say whether the unit is installed, enabled and active. Exit code 1 if it does not run."""
    manager = _manager(user)
    state = manager.state()
    if output.json:
        output.document(
            {
                "path": manager.path,
                "installed": state.installed,
                "enabled": state.enabled == "enabled",
                "active": state.active,
                "pid": state.pid or None,
            }
        )
    elif state.installed:
        pid = f", pid {state.pid}" if state.pid else ""
        output.say(f"{manager.path}: {state.enabled or 'unknown'}, {state.active or 'unknown'}{pid}")
    else:
        output.say(f"not installed: there is no {manager.path}")
    return 0 if state.installed and state.active == "active" else 1


def plan_unit(manager: Manager, home: Home, environ: Mapping[str, str]) -> ServiceUnit:
    """Return what the unit of this installation says."""
    configured = environ.get("OXHERD_HOME")
    return ServiceUnit(
        program=_program(),
        user=manager.user,
        home=os.path.abspath(configured) if configured else None,
        stop_timeout=stop_seconds(_wanted_oxfiles(home)),
        systemd=manager.version(),
    )


def _program() -> tuple[str, ...]:
    """Return how Oxherd is called: by the console script of this installation where there is one."""
    script = os.path.join(os.path.dirname(sys.executable), "oxherd")
    return (script,) if os.access(script, os.X_OK) else (sys.executable, "-P", "-m", "oxherd")


def _wanted_oxfiles(home: Home) -> list[Oxfile]:
    """Return the stacks the supervisor keeps, as far as they can be read; it reports the others itself."""
    found = []
    root = os.path.join(home.state, "stacks")
    for name in sorted(os.listdir(root)) if os.path.isdir(root) else ():
        try:
            with open(os.path.join(root, name, "stack.json"), encoding="utf-8") as file:
                found.append(decode(Oxfile, json.load(file)["oxfile"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _refuse_stray_supervisor(manager: Manager, home: Home) -> None:
    """Refuse while a supervisor of the same home runs outside the service: the service could not start beside it.

    Raises:
        OperationError: There is one.
    """
    try:
        with Client.connect(home) as client:
            pid = client.request("ping", timeout=10).get("pid")
    except NoSupervisorError:
        return
    if manager.state().pid != pid:
        raise OperationError(
            f"a supervisor runs already outside the service (pid {pid})",
            hint="`oxherd daemon stop` stops it; the service then brings the same stacks up again",
            code="OX472",
        )
