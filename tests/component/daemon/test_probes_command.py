"""Probe commands: real programs under the prober."""

from __future__ import annotations

import errno
import os
import select

import pytest

from oxherd.config.model import Command, HealthSpec
from oxherd.core.health import Verdict
from oxherd.daemon.probe import ProbeContext
from oxherd.daemon.prober import Prober
from oxherd.errors import SpawnError
from support.fake_loop import FakeLoop
from support.helping import make_helpers


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


class Bench:
    """A prober whose commands really run."""

    def __init__(self, cwd: str) -> None:
        self.loop = FakeLoop()
        self.cwd = cwd
        self.helpers, self.system = make_helpers(self.loop)
        self.reports: list[tuple[object, Verdict, object]] = []
        self.troubles: list[str] = []
        self.prober = Prober(
            loop=self.loop,
            helpers=self.helpers,
            report=lambda *report: self.reports.append(report),
            trouble=self.troubles.append,
            chance=lambda: 0.5,
        )

    def watch(self, script: str, *, argv=None, key="web", instance=0, env=None, user=None, **health) -> None:
        argv = argv or ("/bin/sh", "-c", script)
        spec = HealthSpec(command=Command(text=script, argv=argv), **health)
        environ = {"PATH": os.environ["PATH"], "OXHERD_MARK": f"test-{os.getpid()}/{key}/0/health", **(env or {})}
        context = ProbeContext(instance=instance, env=environ, cwd=self.cwd, user=user)
        self.prober.watch(key, spec, context, self.loop.now())

    def result(self, wait: float = 0.1):
        count = len(self.reports)
        self.loop.advance(wait)
        self.loop.run_until(lambda: len(self.reports) > count)
        return self.reports[count][2]


@pytest.fixture
def bench(tmp_path):
    before = open_fds()
    bench = Bench(str(tmp_path))
    yield bench
    bench.prober.close()
    # The end of a killed command is still to be reaped.
    bench.loop.run_until(lambda: not bench.loop.watched)
    assert bench.loop.timers == 0
    bench.loop.close()
    assert open_fds() <= before


def gone(pid: int) -> bool:
    """Wait for the end of a process that is not our child."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([pidfd], [], [], 20)[0])
    finally:
        os.close(pidfd)


def test_exit_0_passes(bench):
    bench.watch("exit 0")
    result = bench.result()
    assert result.ok
    assert result.detail == "passed in 0 ms"
    assert bench.reports[0][1] is Verdict.READY


@pytest.mark.parametrize(
    ("script", "detail"),
    [
        ("exit 2", "exited with 2"),
        ("echo no broker >&2; exit 2", "exited with 2: no broker"),
        ("echo first; echo last; echo; exit 1", "exited with 1: last"),
        ("printf 'a\\033[31mred\\001\\n'; exit 1", "exited with 1: a [31mred"),
        ("printf '\\377\\376 bytes'; exit 1", "exited with 1: \ufffd\ufffd bytes"),
        ("head -c 300 /dev/zero | tr '\\0' x; exit 1", f"exited with 1: {'x' * 200}..."),
        ("yes | head -c 3000000; echo end; exit 1", "exited with 1: end"),
        ("kill -9 $$", "killed by SIGKILL"),
    ],
)
def test_every_other_end_fails_with_the_last_line_of_the_output(bench, script, detail):
    bench.watch(script)
    result = bench.result()
    assert not result.ok
    assert result.detail == detail


def test_a_command_that_does_not_end_is_killed_at_the_timeout_with_all_it_started(bench, tmp_path):
    bench.watch('setsid sleep 1000 & echo "$! $$" > pids.new; mv pids.new pids; wait', timeout=5.0)
    bench.loop.advance(0.1)
    bench.loop.run_until((tmp_path / "pids").exists)
    bench.loop.advance(5.0)
    assert bench.reports[0][2].detail == "no end of /bin/sh within 5 s"
    bench.loop.run_until(lambda: not bench.loop.watched)
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


def test_a_command_whose_launcher_fails_says_what_it_could_not_do(bench):
    bench.watch("exit 0", user="no-such-user-here")
    result = bench.result()
    assert not result.ok
    assert result.detail.startswith("could not start: ")
    assert "no-such-user-here" in result.detail


def test_what_a_command_leaves_behind_is_ended_with_it(bench, tmp_path):
    bench.watch("sleep 1000 & echo $! > pid; exit 0")
    assert bench.result().ok
    assert gone(int((tmp_path / "pid").read_text()))


def test_a_forgotten_command_is_killed_and_reports_nothing(bench, tmp_path):
    bench.watch("echo $$ > pid.new; mv pid.new pid; sleep 1000")
    bench.loop.advance(0.1)
    bench.loop.run_until((tmp_path / "pid").exists)
    bench.prober.forget("web")
    assert gone(int((tmp_path / "pid").read_text()))
    bench.loop.run_until(lambda: not bench.loop.watched)
    assert bench.reports == []


def test_the_command_runs_in_the_environment_and_directory_of_the_process(bench):
    bench.watch('echo "$PWD $COLOR {instance}"; exit 1', env={"COLOR": "blue"}, instance=4)
    assert bench.result().detail == f"exited with 1: {bench.cwd} blue 4"


def test_a_command_that_is_not_there_fails_with_its_reason(bench):
    bench.watch("", argv=("/no/such/program",))
    result = bench.result()
    assert not result.ok
    assert result.detail.startswith("could not start: ")
    assert "/no/such/program" in result.detail


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (SpawnError("starting a process", errno.EAGAIN, "", "Resource temporarily unavailable"), "starting a process"),
        (OSError(errno.EMFILE, "Too many open files"), "making its pipe: Too many open files"),
    ],
)
def test_a_machine_that_can_start_nothing_condemns_nobody(bench, error, text):
    bench.system.refusal = error
    bench.watch("exit 0", interval=1.0, grace=0.0, unhealthy_threshold=1)
    bench.loop.advance(30.0)
    assert bench.reports == []
    assert len(bench.troubles) == 1
    assert f"health checks cannot be made: could not start: {text}" in bench.troubles[0]
    bench.system.refusal = None
    assert bench.result(1.0).ok


def test_probes_of_a_starting_program_take_at_most_a_quarter_of_the_time(bench, tmp_path):
    os.mkfifo(tmp_path / "go")
    bench.watch("echo x >> begun; cat go; exit 1", grace=100.0)
    bench.loop.advance(0.1)
    bench.loop.run_until((tmp_path / "begun").exists)
    bench.loop.advance(2.0)
    (tmp_path / "go").write_text("")
    bench.loop.run_until(lambda: bench.reports)
    assert bench.loop.next_timer_in() == pytest.approx(6.0)
