"""The demo: examples/shop under Oxherd, live until Ctrl-C, or played as a story that checks itself (``--check``).

It speaks to Oxherd as a person does: by the command line, by HTTP and by ``kill -9``. Everything it makes is below one
directory, ``.demo`` in the checkout, which is gone when all went well.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_traffic import Traffic

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).resolve().parent.parent
OXFILE = CHECKOUT / "examples" / "shop" / "oxfile.toml"
PATIENCE = 30.0 * float(os.environ.get("OXHERD_TEST_TIMEOUT_FACTOR", "1"))
# The longest name below OXHERD_HOME is run/run-<12 digits>.sock, and a unix socket's path has at most 107 bytes.
LONGEST_HOME = 107 - len("/run/run-000000000000.sock")


class StepError(Exception):
    """A step of the story did not hold."""


@dataclass(frozen=True)
class Shop:
    """The running example: where it is and how to speak to it."""

    home: Path
    port: int

    @property
    def url(self) -> str:
        """The address of the API."""
        return f"http://127.0.0.1:{self.port}"

    def environment(self) -> dict[str, str]:
        """The environment of every command: the caller's, with nothing of another supervisor in it."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OXHERD_", "OXMGR_"))}
        return kept | {
            "OXHERD_HOME": str(self.home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "PORT": str(self.port),
            "SHOP_DATA": str(self.home / "data"),
        }

    def oxherd(self, *arguments: str, check: bool = True, more: dict[str, str] | None = None) -> str:
        """Run one ``oxherd`` command and return what it prints, errors too where it may fail.

        Args:
            arguments: Its arguments.
            check: Whether an exit code other than 0 is an error.
            more: Variables on top of `environment`.
        """
        done = subprocess.run(
            [str(Path(sys.executable).with_name("oxherd")), *arguments],
            cwd=OXFILE.parent,
            env=self.environment() | (more or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE * 4,
            check=False,
        )
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise StepError(f"`oxherd {' '.join(arguments)}` ended with exit code {done.returncode}: {said}")
        return done.stdout if check else done.stdout + done.stderr

    def rows(self) -> dict[str, dict[str, Any]]:
        """Return the status row of each instance of the shop: ``worker``, and ``web:0`` where there are several."""
        rows = json.loads(self.oxherd("status", "--json"))
        names = [row["name"] for row in rows]
        return {
            f"{row['name']}:{row['instance']}" if names.count(row["name"]) > 1 else row["name"]: row for row in rows
        }

    def web(self) -> set[int]:
        """Return the pids of the workers of the API."""
        return {int(row["pid"]) for row in self.rows().values() if row["name"] == "web" and row["pid"] is not None}

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Send one HTTP request, past any proxy, and return the JSON of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise StepError(f"{method} {path} was answered with {answer.status}: {content[:200]!r}")
        return json.loads(content)


def wait_for(question: Callable[[], Any], what: str) -> Any:
    """Ask until the answer is true, and return it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise StepError(f"{what} did not come true within {PATIENCE:.0f} s")
        time.sleep(0.01)


def free_port() -> int:
    """Return PORT, or a free port.

    It is looked for below the range the kernel takes the ports of outgoing connections from: a client that knocks at a
    port of that range while the server is away can be connected to itself, and then holds the port.
    """
    if "PORT" in os.environ:
        return int(os.environ["PORT"])
    for port in range(8000, 9000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise SystemExit("demo: no port from 8000 to 8999 is free; set PORT")


def choose_home() -> Path:
    """Return ``.demo`` in the checkout, or a directory with a shorter path where that is too long for a socket."""
    home = CHECKOUT / ".demo"
    if len(os.fsencode(home)) > LONGEST_HOME:
        return Path(tempfile.mkdtemp(prefix="oxherd-demo-"))
    return home


def processes_of(home: Path) -> list[str]:
    """Return ``pid command`` of every process that was started with this home: the supervisor and all it started."""
    wanted = f"OXHERD_HOME={home}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if wanted in (entry / "environ").read_bytes().split(b"\0"):
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append(f"{entry.name} {command.strip()}")
        except OSError:
            continue  # ended while it was being looked at, or somebody else's
    return found


def sockets_below(home: Path) -> list[str]:
    """Return the sockets and fifos below a directory."""
    special = (path for path in home.rglob("*") if not path.is_symlink())
    return [str(path) for path in special if stat.S_ISSOCK(path.stat().st_mode) or stat.S_ISFIFO(path.stat().st_mode)]


# -- the story ------------------------------------------------------------------------------------------------------


def elapsed(since: float) -> str:
    """Return the time since then, as a text."""
    seconds = time.monotonic() - since
    return f"{seconds * 1000:.0f} ms" if seconds < 2 else f"{seconds:.1f} s"


def start(shop: Shop) -> str:
    """`oxherd start` returns when everything is ready."""
    since = time.monotonic()
    shop.oxherd("start")
    took = elapsed(since)
    statuses = {name: row["status"] for name, row in shop.rows().items()}
    wanted = {"schema": "exited"} | dict.fromkeys(("web:0", "web:1", "worker", "beat"), "running")
    if statuses != wanted:
        raise StepError(f"the statuses are {statuses}, not {wanted}")
    return f"start: all ready in {took}"


def place_order(shop: Shop, item: str) -> int:
    """Order something and return the order's number."""
    return int(shop.request("POST", "/orders", {"item": item})["id"])


def prepared(shop: Shop, number: int) -> str:
    """Wait until Celery has prepared the order, and say how long that took."""
    since = time.monotonic()
    wait_for(lambda: shop.request("GET", f"/orders/{number}")["state"] == "ready", f"order {number} is ready")
    return elapsed(since)


def order(shop: Shop) -> str:
    """A request reaches the database, the queue and the worker."""
    number = place_order(shop, "tea")
    return f"order {number}: taken by web, prepared by the worker in {prepared(shop, number)}"


def ticks(shop: Shop) -> str:
    """Beat's schedule reaches the worker."""
    before = shop.request("GET", "/health")["ticks"]
    wait_for(lambda: shop.request("GET", "/health")["ticks"] > before, "a tick of beat")
    return "beat: ticks and the worker hears it"


def kill(shop: Shop, name: str) -> tuple[int, float]:
    """Kill the main pid of a process, as the kernel does when memory is out; return the pid and the time."""
    pid = int(shop.rows()[name]["pid"])
    since = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    return pid, since


def restarted(shop: Shop, name: str, old: int) -> dict[str, Any]:
    """Wait until a process runs again with another pid, restarted once."""

    def there() -> dict[str, Any] | None:
        row = shop.rows()[name]
        return row if row["status"] == "running" and row["pid"] != old else None

    row: dict[str, Any] = wait_for(there, f"{name} runs again")
    if row["restarts"] != 1:
        raise StepError(f"{name} was restarted {row['restarts']} times, not once")
    return row


def kill_web(shop: Shop) -> str:
    """A worker of the API is killed: the other one answers at once, and a new one is there before one looks."""
    old, since = kill(shop, "web:0")
    number = place_order(shop, "milk")
    row = restarted(shop, "web:0", old)
    took = elapsed(since)
    prepared(shop, number)
    return f"kill -9 of a web worker: back in {took} (pid {old}, now {row['pid']}; order {number} went through)"


def reload_web(shop: Shop) -> str:
    """New code, under requests: every worker of the API is replaced, and nobody who asks notices."""
    before = shop.web()
    with Traffic(shop.port, patience=PATIENCE) as traffic:
        wait_for(lambda: traffic.answered > 0 or traffic.lost, "the first answer")
        shop.oxherd("reload", "web")
        wait_for(lambda: traffic.pids & shop.web() or traffic.lost, "an answer of a new worker")
    if traffic.lost:
        raise StepError(f"{len(traffic.lost)} requests were lost in a reload, the first: {traffic.lost[0]}")
    kept = before & shop.web()
    if kept:
        raise StepError(f"the reload left {kept} running")
    return f"reload: both web workers replaced under {traffic.answered} requests, none lost"


def reload_broken(shop: Shop) -> str:
    """A release that cannot be imported: `oxherd reload` fails and says why, and the one before serves on."""
    before = shop.web()
    nowhere = {"SHOP_DATA": os.devnull}
    with Traffic(shop.port, patience=PATIENCE) as traffic:
        said = shop.oxherd("reload", "web", "--update-env", check=False, more=nowhere)
    if "nothing was changed" not in said:
        raise StepError(f"a reload to a release that cannot work said {said!r}")
    if traffic.lost or shop.web() != before:
        raise StepError(f"it was not without effect: {traffic.lost or shop.web()}")
    return f"reload to a broken release: refused, the one before has answered {traffic.answered} requests meanwhile"


def kill_worker(shop: Shop) -> str:
    """The worker is killed: another one takes up the orders."""
    old, since = kill(shop, "worker")
    number = place_order(shop, "sugar")
    prepared(shop, number)
    took = elapsed(since)
    row = restarted(shop, "worker", old)
    return f"kill -9 worker: order {number} prepared after {took} (pid {old}, now {row['pid']})"


def kill_beat(shop: Shop) -> str:
    """Beat is killed: there is one again, and one only."""
    old, since = kill(shop, "beat")
    row = restarted(shop, "beat", old)
    took = elapsed(since)
    ticks(shop)
    return f"kill -9 beat: back in {took}, ticks again (pid {old}, now {row['pid']})"


def kill_supervisor(shop: Shop) -> str:
    """The supervisor itself is killed: all go on without one, and the next command's has adopted them."""
    before = {name: row["pid"] for name, row in shop.rows().items()}
    facts = json.loads(shop.oxherd("daemon", "status", "--json"))
    with Traffic(shop.port, patience=PATIENCE) as traffic:
        os.kill(facts["pid"], signal.SIGKILL)
        prepared(shop, place_order(shop, "bread"))
        since = time.monotonic()
        after = {name: row["pid"] for name, row in shop.rows().items()}
        took = elapsed(since)
    if traffic.lost:
        raise StepError(f"{len(traffic.lost)} requests were lost, the first: {traffic.lost[0]}")
    if after != before:
        raise StepError(f"the pids are not the same: {before}, {after}")
    return (
        f"kill -9 of the supervisor: {traffic.answered} requests, none lost; adopted with the next command, in {took}"
    )


def causes(shop: Shop) -> str:
    """`oxherd why` knows the cause."""
    said = shop.oxherd("why", "web:0")
    if "SIGKILL" not in said:
        raise StepError(f"`oxherd why web:0` does not speak of SIGKILL: {said!r}")
    return "why: the cause of the exit is shown (SIGKILL)"


def logs(shop: Shop) -> str:
    """The logs hold lines of every process, tagged, in one stream."""
    said = shop.oxherd("logs", "-n", "10000")
    expected = {"web": "order 1 received", "worker": "order 1 is ready", "beat": "look-after-orders"}
    for name, text in expected.items():
        if not any(line.startswith(name) and text in line for line in said.splitlines()):
            raise StepError(f"no line of {name} with {text!r} in `oxherd logs`")
    return f"logs: {len(said.splitlines())} lines of web, worker and beat"


def stop(shop: Shop) -> str:
    """`oxherd stop` returns when everything is down."""
    since = time.monotonic()
    shop.oxherd("stop")
    took = elapsed(since)
    up = {name: row["status"] for name, row in shop.rows().items() if row["pid"] is not None}
    if up:
        raise StepError(f"after `oxherd stop` there is still {up}")
    return f"stop: all down in {took}"


def nothing_left(shop: Shop) -> str:
    """After the supervisor has gone there is no process, no socket and no listener."""
    shop.oxherd("daemon", "stop")
    wait_for(lambda: not processes_of(shop.home), "the end of every process")
    left = sockets_below(shop.home)
    if left:
        raise StepError(f"left behind: {', '.join(left)}")
    with socket.socket() as knock:
        if knock.connect_ex(("127.0.0.1", shop.port)) == 0:
            raise StepError(f"something still listens on port {shop.port}")
    return "nothing left: no process, no socket, no listener"


STORY: tuple[Callable[[Shop], str], ...] = (
    start,
    order,
    ticks,
    kill_web,
    reload_web,
    reload_broken,
    kill_worker,
    kill_beat,
    kill_supervisor,
    causes,
    logs,
    stop,
    nothing_left,
)


def check(shop: Shop) -> int:
    """Play the story; return the exit code."""
    for step in STORY:
        try:
            print(f"ok    {step(shop)}", flush=True)
        except (StepError, OSError, KeyError, ValueError, subprocess.TimeoutExpired) as error:
            print(f"FAIL  {step.__name__.replace('_', ' ')}: {error}", flush=True)
            show_evidence(shop)
            return 1
    print("ok    the whole story holds")
    return 0


def show_evidence(shop: Shop) -> None:
    """Show what a person would look at next, and end what still runs."""
    for arguments in (("status",), ("why",), ("logs", "-n", "40")):
        print(f"\n$ oxherd {' '.join(arguments)}\n{shop.oxherd(*arguments, check=False)}", file=sys.stderr)
    log = shop.home / "state" / "supervisor.log"
    if log.exists():
        print(f"\n{log}:\n{log.read_text(errors='replace')[-4000:]}", file=sys.stderr)
    print(f"everything is kept in {shop.home}", file=sys.stderr)


# -- live -----------------------------------------------------------------------------------------------------------


def show(shop: Shop) -> int:
    """Run the shop until Ctrl-C, with a live table on a terminal; return the exit code."""
    print("Starting the shop ...", flush=True)
    shop.oxherd("start")
    print(
        f"""
  The shop is at   {shop.url}/orders
  Its API          {shop.url}/docs
  Place an order   curl -X POST {shop.url}/orders -H 'content-type: application/json' -d '{{"item": "tea"}}'
  In another terminal, in examples/shop:
    export OXHERD_HOME={shop.home} PATH={Path(sys.executable).parent}:$PATH
    oxherd logs -f            what all of them say
    oxherd status             what is shown here
    oxherd reload web         after a change of shop/web.py; no request is lost
    oxherd why web            after `kill -9` of one of the pids below
  Ctrl-C stops everything.
""",
        flush=True,
    )
    try:
        if sys.stdout.isatty():
            live_table(shop)
        else:
            print(shop.oxherd("status"), flush=True)
            signal.pause()
    except KeyboardInterrupt:
        pass
    print("\nStopping ...", flush=True)
    # A second Ctrl-C must not leave half of it running: from here on it is bounded anyway, by the stop timeouts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    print(stop(shop))
    print(nothing_left(shop))
    return 0


def live_table(shop: Shop) -> None:
    """Show the status table anew every second."""
    from rich.live import Live  # noqa: PLC0415 - only for a terminal

    with Live(status_table(shop), auto_refresh=False) as live:
        while True:
            live.update(status_table(shop), refresh=True)
            time.sleep(1)


def status_table(shop: Shop) -> Any:
    """Return the status of every process as a table."""
    from rich.table import Table  # noqa: PLC0415 - only for a terminal

    from oxherd.units import format_age, format_bytes  # noqa: PLC0415 - only for a terminal

    colours = {"running": "green", "exited": "dim", "starting": "yellow", "backoff": "yellow"}
    table = Table("NAME", "PID", "STATUS", "CPU", "MEM", "RESTARTS", "UPTIME", box=None, header_style="bold")
    for name, row in shop.rows().items():
        status = str(row["status"])
        cpu, memory, age = row["cpu_percent"], row["memory_bytes"], row["uptime_seconds"]
        table.add_row(
            name,
            str(row["pid"] or "-"),
            f"[{colours.get(status, 'red')}]{status}[/]",
            "-" if cpu is None else f"{cpu:.0f}%",
            "-" if memory is None else format_bytes(memory),
            str(row["restarts"]),
            "-" if age is None else format_age(age),
        )
    return table


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="play the story without a terminal")
    arguments = parser.parse_args()
    shop = Shop(home=choose_home(), port=free_port())
    if shop.home.exists():
        # What an earlier run left that was cut off.
        shop.oxherd("daemon", "stop", check=False)
        shutil.rmtree(shop.home)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    code = 1
    try:
        code = check(shop) if arguments.check else show(shop)
    except StepError as error:
        print(f"demo: {error}", file=sys.stderr)
        show_evidence(shop)
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        code = 130
    finally:
        if code:
            shop.oxherd("daemon", "stop", check=False)
        else:
            shutil.rmtree(shop.home, ignore_errors=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
