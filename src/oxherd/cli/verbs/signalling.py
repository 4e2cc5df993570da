"""``oxherd signal``."""

from __future__ import annotations

import os

import click

from oxherd.cli.options import configs_option, names_argument, output_options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.cli.output import Output

__all__ = ["signal"]


@click.command
@click.argument("signal_name", metavar="SIGNAL")
@names_argument()
@configs_option
@output_options
def signal(*, signal_name: str, names: tuple[str, ...], configs: tuple[str, ...], output: Output) -> int:
    """Send a signal to the main process of instances.

    What the program does about it is the program's business: one that ends is restarted by its restart policy.

    \b
    oxherd signal HUP web
    oxherd signal SIGUSR1 web:0
    """  # noqa: D301 - click wants the character itself
    from oxherd.cli.doing import objects  # noqa: PLC0415 - not for --help
    from oxherd.cli.targets import find_targets  # noqa: PLC0415 - not for --help
    from oxherd.cli.where import connect  # noqa: PLC0415 - not for --help
    from oxherd.control.paths import find_home  # noqa: PLC0415 - not for --help
    from oxherd.units import parse_signal  # noqa: PLC0415 - not for --help
    from oxherd.units import signal_name as name_of  # noqa: PLC0415 - not for --help

    try:
        number = parse_signal(signal_name)
    except ValueError as error:
        raise click.BadParameter(f'"{signal_name}" is none; expected {error}', param_hint="SIGNAL") from None
    home = find_home(os.environ)
    sent = []
    for target in find_targets(home, configs, names):
        with connect(home, target.path) as client:
            result = client.request("signal", timeout=10, stack=target.path, names=list(target.names), signal=number)
        sent.extend(objects(result, "sent"))
    if output.json:
        output.document({"sent": sent})
    for item in sent:
        output.say(f"{item.get('label') or item.get('name')}: sent {name_of(number)} to pid {item.get('pid')}")
    if not sent:
        output.warn("Nothing was sent: none of them runs")
    return 0 if sent else 1
