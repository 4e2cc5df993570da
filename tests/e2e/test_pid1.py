"""`oxherd run` as PID 1, which in a container nobody stands above: it reaps, it forwards, it ends in time.

`unshare --pid` makes a real PID 1, with what the kernel does to one: a signal without a handler does not reach it, what
loses its parent falls to it, and with its end everything ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess

import pytest

from oxherd.control.paths import stack_id
from support import leftovers
from support.eventstream import EventStream
from support.harness import OXHERD, Supervised, descendants, program
from support.waiting import DEADLINE, wait_until

pytestmark = pytest.mark.needs_root


@pytest.fixture
def namespace():
    """The command before a command that makes it PID 1 of a namespace of its own."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("needs root to make a namespace of processes")
    return command


class Contained:
    """`oxherd run` as PID 1."""

    def __init__(self, ox: Supervised, namespace: list[str], *before: str) -> None:
        self.ox = ox
        self.run = ox.popen(argv=[*namespace, *before, OXHERD, "run"])

    @property
    def first(self) -> int:
        """The pid of PID 1, as this namespace numbers it."""
        return wait_until(lambda: next(iter(leftovers.tree.ProcessTable.scan().children(self.run.pid)), 0), "PID 1")

    def listen(self) -> EventStream:
        """Follow the events of the run, from its beginning on."""
        path = self.ox.home.run_socket(stack_id(self.ox.stack))
        wait_until(lambda: os.path.exists(path), "the run to take connections")
        return EventStream(path)

    def ended(self, code: int) -> str:
        """Wait for the end, insist on its exit code, and return the output."""
        output, _ = self.run.communicate(timeout=2 * DEADLINE)
        assert self.run.returncode == code, output
        return output


def test_as_pid_1_it_reaps_what_falls_to_it_and_leaves_nothing(ox, namespace):
    """In a container: an orphan that ends is no zombie, TERM ends everything, orphans that ignore it included."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("escapee", "daemon")}"\ninstances = 2\nstop_timeout_ms = 500\n')
    contained = Contained(ox, namespace)
    ox.wait_log("web", b"escaped", count=2)
    with contextlib.closing(contained.listen()) as events:
        events.wait("ready", name="web", instance=0)
        events.wait("ready", name="web", instance=1)
        first = contained.first
        mains = {pid for pid in descendants(first) if is_main(pid)}
        orphans = set(descendants(first)) - mains
        assert len(mains) == 2
        assert len(orphans) == 2
        gone, _stays = sorted(orphans)
        os.kill(gone, signal.SIGKILL)
        wait_until(lambda: not os.path.exists(f"/proc/{gone}"), "the orphan to be reaped")
        assert events.matching("ended") == []
        os.kill(first, signal.SIGTERM)
        contained.ended(0)
    assert [pid for pid in (*mains, *orphans) if os.path.exists(f"/proc/{pid}")] == []


def is_main(pid: int) -> bool:
    """Whether it leads a session, as everything that a supervisor starts does; a daemon's second child does not."""
    return os.getsid(pid) == pid


@pytest.mark.parametrize(("status", "code"), [("exit 7", 7), ("exit 0", 0), ("kill -SEGV $$", 128 + signal.SIGSEGV)])
def test_the_container_ends_with_the_exit_code_of_the_stack(ox, namespace, status, code):
    """What the platform reads to decide whether to start it again."""
    ox.oxfile(f'[processes.web]\ncommand = "sh -c \'{status}\'"\nrestart = "never"\n')
    output = Contained(ox, namespace).ended(code)
    assert f"nothing is left to run; exit code {code}" in output


def test_output_is_on_stdout_to_the_last_line(ox, namespace):
    """Where the platform collects the log: nothing is lost at the end either."""
    ox.oxfile('[processes.web]\ncommand = "seq 1 50000"\ntype = "oneshot"\n')
    output = Contained(ox, namespace).ended(0)
    numbers = re.findall(r"^web:0 +\| (\d+)$", output, re.MULTILINE)
    assert numbers == [str(number) for number in range(1, 50001)]


def test_no_zombie_is_left_of_a_thousand_orphans(ox, namespace):
    """A program that starts others and forgets them: each falls to PID 1, which reaps it."""
    forgets = "for i in $(seq 1000); do (true &) done; echo all; exec sleep 3600"
    ox.oxfile(f'[processes.web]\ncommand = """sh -c \'{forgets}\'"""\n')
    contained = Contained(ox, namespace)
    ox.wait_log("web", b"all\n")
    first = contained.first
    wait_until(lambda: len(descendants(first)) == 1 and not leftovers.zombies_of(first), "the orphans to be reaped")
    os.kill(first, signal.SIGTERM)
    contained.ended(0)


def test_term_is_passed_on_and_what_does_not_go_is_killed(ox, namespace):
    """A goodbye is heard and printed; a program that ignores its signal is killed at its stop timeout."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("says_goodbye", "web")}"\n'
        f'[processes.deaf]\ncommand = "{program("ignores_term")}"\nstop_timeout_ms = 500\n'
    )
    contained = Contained(ox, namespace)
    for name in ("web", "deaf"):
        ox.wait_log(name, b"ready")
    os.kill(contained.first, signal.SIGTERM)
    output = contained.ended(0)
    assert "goodbye web SIGTERM" in output
    assert re.search(r"deaf: killed: still there", output), output


def test_a_second_term_forces(ox, namespace):
    """A platform that is in a hurry, or a person with Ctrl-C."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("ignores_term")}"\nstop_timeout = "1h"\n')
    contained = Contained(ox, namespace)
    ox.wait_log("web", b"ready")
    first = contained.first
    with contextlib.closing(contained.listen()) as events:
        os.kill(first, signal.SIGTERM)
        events.wait("stopping", name="web")
        os.kill(first, signal.SIGINT)
        contained.ended(0)


def test_a_term_in_the_first_moments_is_not_lost(ox, namespace):
    """The kernel drops what PID 1 has no handler for yet: the platform would wait for nothing, then kill."""
    folder = ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\nenv_file = "slow.env"\n')
    os.mkfifo(folder / "slow.env")
    contained = Contained(ox, namespace)
    # Opened by both: the oxfile is being read.
    with open(folder / "slow.env", "w") as slow:
        os.kill(contained.first, signal.SIGTERM)
        slow.write("A=1\n")
    contained.ended(0)


def test_a_read_only_disk_is_no_trouble(ox, namespace):
    """`docker run --read-only` with a tmpfs for OXHERD_HOME, and without one for temporary files."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("says_goodbye", "web")}"\n')
    home = ox.base / "ox"
    home.mkdir()
    seal = f'mount --bind {home} {home} && mount -o remount,bind,ro / && ! touch {ox.base}/x 2>/dev/null && exec "$@"'
    contained = Contained(ox, namespace, "sh", "-c", seal, "sh")
    wait_until(lambda: b"ready" in ox.log("web") or contained.run.poll() is not None, "the program, or the end")
    if contained.run.poll() is None:
        os.kill(contained.first, signal.SIGTERM)
    assert "goodbye web SIGTERM" in contained.ended(0)
