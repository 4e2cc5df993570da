"""What a service manager hears, from a whole supervisor under a fake clock."""

from __future__ import annotations

import os

import pytest

from oxherd.daemon.watchdog import Watchdog, ending_marker, summary
from support.workbench import Workbench, spec


class Line:
    """A service manager that takes down what it is told, or is too busy."""

    def __init__(self, watchdog: float = 0.0, *, listens: bool = True) -> None:
        self.watchdog = watchdog
        self.listens = listens
        self.environ = {"NOTIFY_SOCKET": "/run/notify"}
        self.busy = False
        self.told: list[dict[str, str]] = []

    def send(self, **variables: str) -> bool:
        if self.busy:
            return False
        self.told.append(variables)
        return True

    def last(self, name: str) -> str:
        return next(said[name] for said in reversed(self.told) if name in said)

    def count(self, name: str) -> int:
        return sum(name in said for said in self.told)

    def close(self) -> None:
        self.listens = False


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(tmp_path)
    yield bench
    bench.close()


def speaking(bench: Workbench, **fields) -> Line:
    """Give the supervisor a line and say that it is ready."""
    line = Line(**fields)
    bench.assembly.watchdog = Watchdog(bench.supervisor, line, bench.home.runtime)
    bench.assembly.watchdog.ready()
    return line


def test_ready_tells_the_pid_and_what_runs(bench):
    line = speaking(bench)
    assert line.told == [{"READY": "1", "MAINPID": str(os.getpid()), "STATUS": "0 processes run"}]
    bench.assembly.watchdog.close()


def test_the_status_follows_the_processes_gathered_over_half_a_second(bench):
    """Fifty processes that start are not fifty datagrams."""
    line = speaking(bench)
    bench.up(*[spec(f"p{number}") for number in range(50)])
    bench.loop.advance(1)
    assert line.last("STATUS") == "50 processes run"
    assert line.count("STATUS") <= 4
    said = line.count("STATUS")
    bench.loop.advance(3600)
    assert line.count("STATUS") == said, "nothing has changed"
    bench.assembly.watchdog.close()


def test_a_sign_of_life_comes_twice_in_the_time_it_is_waited_for(bench):
    line = speaking(bench, watchdog=30.0)
    bench.loop.advance(60)
    assert line.count("WATCHDOG") == 5
    bench.assembly.watchdog.ready()
    said = line.count("WATCHDOG")
    bench.loop.advance(60)
    assert line.count("WATCHDOG") == said + 4, "ready twice is one watchdog"
    bench.assembly.watchdog.close()


def test_what_could_not_be_sent_is_sent_when_it_can_be(bench):
    """A start that is never confirmed would never end. Of a variable only the last value is of any interest."""
    line = Line()
    line.busy = True
    bench.assembly.watchdog = watchdog = Watchdog(bench.supervisor, line, bench.home.runtime)
    watchdog.ready()
    bench.up(spec("web"))
    assert line.told == []
    line.busy = False
    bench.loop.advance(1)
    assert line.told[0]["READY"] == "1"
    assert line.last("STATUS") == "1 process runs"
    watchdog.close()


def test_a_stop_asks_for_the_time_it_takes(bench):
    """Again and again, so that systemd waits for a drain of an hour, and for nothing that hangs."""
    line = speaking(bench, watchdog=30.0)
    bench.up(spec("web"))
    bench.assembly.watchdog.stopping()
    assert os.path.exists(ending_marker(bench.home.runtime))
    assert {"STOPPING": "1", "STATUS": "stopping: 1 process runs"} in line.told
    bench.loop.advance(60)
    assert line.count("EXTEND_TIMEOUT_USEC") == 7
    assert line.last("EXTEND_TIMEOUT_USEC") == "30000000"
    bench.assembly.watchdog.stopping()
    assert line.count("STOPPING") == 1
    bench.assembly.watchdog.close()
    assert not os.path.exists(ending_marker(bench.home.runtime))


def test_the_end_of_the_supervisor_is_told(bench):
    line = speaking(bench)
    bench.up(spec("web"))
    bench.assembly.end(lambda: None)
    bench.loop.advance(5)
    assert line.count("STOPPING") == 1
    bench.assembly.watchdog.close()


def test_a_marker_of_a_predecessor_goes_with_the_first_word(bench):
    """It died while it was stopping everything; this one does not."""
    marker = ending_marker(bench.home.runtime)
    with open(marker, "w"):
        pass
    speaking(bench)
    assert not os.path.exists(marker)
    bench.assembly.watchdog.close()


def test_a_marker_that_cannot_be_written_stops_no_stop(bench):
    speaking(bench)
    os.mkdir(ending_marker(bench.home.runtime))
    bench.assembly.watchdog.stopping()
    assert bench.events("state-trouble")
    bench.assembly.watchdog.close()
    os.rmdir(ending_marker(bench.home.runtime))


def test_a_reload_is_told_with_the_time_by_which_it_is_told_from_others(bench):
    line = speaking(bench)
    bench.assembly.watchdog.reloading()
    assert line.told[-1]["RELOADING"] == "1"
    assert line.told[-1]["MONOTONIC_USEC"] == str(int(bench.loop.now() * 1_000_000))
    assert bench.assembly.watchdog.environ == {"NOTIFY_SOCKET": "/run/notify"}
    bench.assembly.watchdog.close()


def test_without_a_service_manager_it_costs_nothing(bench):
    """No timer, no observer, no marker, no datagram."""
    line = speaking(bench, listens=False)
    bench.up(spec("web"))
    timers = bench.loop.timers
    bench.assembly.watchdog.stopping()
    assert (bench.loop.timers, line.told) == (timers, [])
    assert not os.path.exists(ending_marker(bench.home.runtime))


@pytest.mark.parametrize(
    ("statuses", "text"),
    [
        ([], "0 processes run"),
        (["running"], "1 process runs"),
        (["running"] * 12 + ["crashed"], "12 processes run, 1 crashed"),
        (
            ["stopped", "exited", "crashed", "backoff", "unhealthy", "starting"],
            "0 processes run, 1 starting, 1 unhealthy, 1 backoff, 1 crashed",
        ),
    ],
)
def test_the_status_is_one_short_line(statuses, text):
    assert summary(statuses) == text
