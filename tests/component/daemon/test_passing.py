"""Programs that are passed their listeners, on a fake machine with real sockets: start, readiness, leaving, reloads."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from oxherd.config.model import Command, HostSpec, HostWay, LimitSpec, StopSpec
from oxherd.core.exits import ExitStatus
from support.services import unused_port
from support.workbench import Workbench, spec

KILLED, FAILED = ExitStatus(signal=9), ExitStatus(code=1)
TERM = 15


@pytest.fixture
def bench(tmp_path):
    before = set(os.listdir("/proc/self/fd"))
    bench = Workbench(tmp_path)
    yield bench
    bench.close()
    assert set(os.listdir("/proc/self/fd")) <= before
    assert list((tmp_path / "run").glob("workers/*")) == []


@pytest.fixture
def port():
    return unused_port()


def served(port, *words, **fields):
    """Return a process whose program is passed one listener."""
    host = {"overlap": True, "balance": "shared", "linger": 7.0, **fields.pop("host", {})}
    bind = fields.pop("bind", (f"127.0.0.1:{port}",))
    passed = HostSpec(way=HostWay.PASSED, engine="server", argv=words, bind=bind, **host)
    return spec("web", host=passed, **fields)


def by_number(port, **fields):
    return served(port, "server", "--fd", "{fd:0}", "--probe=fd://{private}", **fields)


def main(bench, name="web"):
    (process,) = bench.system.living(name)
    return process


def signals(bench, process):
    return [signum for pid, signum in bench.system.sent if pid == process.pid]


def inode(fd):
    return os.fstat(fd).st_ino


def refused(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


# -- the start ------------------------------------------------------------------------------------------------------


def test_the_command_line_names_the_descriptors(bench, port):
    """Each placeholder becomes the number the program has it under; it listens before the program is there."""
    bench.ask("start", by_number(port))
    request = main(bench).request
    public, private = request.pass_fds
    assert request.argv == ("server", "--fd", str(public), f"--probe=fd://{private}")
    with socket.socket(fileno=os.dup(public)) as listener:
        assert listener.getsockname() == ("127.0.0.1", port)
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        assert listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not os.get_blocking(public)
    with socket.socket(fileno=os.dup(private)) as listener:
        assert Path(listener.getsockname()).exists()


def test_a_program_that_reads_listen_fds_gets_them_as_systemd_passes_them(bench, port):
    """In order, named, and blocking: nothing else was ever promised to it."""
    other = unused_port()
    bench.ask("start", served(port, bind=(f"127.0.0.1:{port}", f"127.0.0.1:{other}")))
    request = main(bench).request
    assert request.argv == ("web",)
    assert request.listen_names == ("web", "web")
    assert request.pass_fds == ()
    for fd, expected in zip(request.listen_fds, (port, other), strict=True):
        with socket.socket(fileno=os.dup(fd)) as listener:
            assert listener.getsockname()[1] == expected
        assert os.get_blocking(fd)


def test_a_second_instance_changes_nothing_below_the_first(bench, port):
    """Whether a socket blocks is a property all that have it share."""
    bench.up(served(port))
    (fd,) = main(bench).request.listen_fds
    os.set_blocking(fd, False)  # as an event loop does
    bench.ask("scale", name="web", instances=2)
    assert bench.system.living("web")[1].request.listen_fds == (fd,)
    assert not os.get_blocking(fd)


def test_a_program_that_makes_its_private_listener_itself_is_told_where(bench, port):
    bench.ask("start", served(port, "server", "--fd", "{fd:0}", "-u", "{private_path}"))
    path = Path(main(bench).request.argv[-1])
    assert path.parent.is_dir()
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    bench.loop.advance(1)
    bench.ask("stop")
    assert not path.exists()


def test_a_port_that_is_taken_is_told_with_who_has_it(bench, port):
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
        holder.listen()
        answer = bench.ask("start", by_number(port))
        bench.loop.advance(10)
        assert f"127.0.0.1:{port} is in use by" in answer.failed["web"]
        assert f"(pid {os.getpid()})" in answer.failed["web"]
        assert bench.system.launched == []
        bench.ask("stop")


# -- readiness ------------------------------------------------------------------------------------------------------


def test_it_is_ready_when_it_is_seen_to_accept(bench, port):
    bench.system.accepts = dict.fromkeys(range(1000), False)
    answer = bench.ask("start", served(port))
    bench.loop.advance(30)
    assert bench.status() == {"web": "starting"}
    bench.system.accepts[main(bench).pid] = True
    bench.loop.advance(0.2)
    assert bench.status() == {"web": "running"}
    assert answer.failed == {}


def test_where_that_cannot_be_told_it_is_ready_when_it_lives(bench, port):
    bench.system.accepts = dict.fromkeys(range(1000), None)
    bench.ask("start", served(port))
    bench.loop.advance(0.4)
    assert bench.status() == {"web": "starting"}
    bench.loop.advance(0.3)
    assert bench.status() == {"web": "running"}


def test_an_epoll_that_watches_something_else_is_believed_in_the_end(bench, port):
    """Perhaps it waits for connections with select(2); it is not condemned for that."""
    bench.system.accepts = dict.fromkeys(range(1000), False)
    bench.ask("start", served(port, host={"boot_timeout": 20.0}))
    bench.loop.advance(19)
    assert bench.status() == {"web": "starting"}
    bench.loop.advance(2)
    assert bench.status() == {"web": "running"}


def test_it_is_ready_when_it_has_accepted_on_its_private_listener(bench, port):
    """Which needs nothing of the kernel's secrets, whatever it waits with."""
    bench.system.accepts = dict.fromkeys(range(1000), None)
    bench.ask("start", by_number(port))
    bench.loop.advance(60)
    assert bench.status() == {"web": "starting"}
    with socket.socket(fileno=os.dup(main(bench).request.pass_fds[1])) as listener:
        listener.accept()[0].close()
    bench.loop.advance(0.2)
    assert bench.status() == {"web": "running"}


def test_a_short_queue_that_an_engine_asked_for_is_made_long_again(bench, port):
    bench.system.accepts = dict.fromkeys(range(1000), False)
    bench.ask("start", served(port))
    bench.system.accepts.clear()
    (fd,) = main(bench).request.listen_fds
    with socket.socket(fileno=os.dup(fd)) as listener:
        listener.listen(1)
        bench.loop.advance(1)
        clients = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(8)]
        for client in clients:
            client.close()


# -- the listeners stay ---------------------------------------------------------------------------------------------


def test_a_crash_keeps_the_queue(bench, port):
    """What nobody had accepted is there for the next incarnation, which gets the same socket."""
    bench.up(by_number(port))
    old = main(bench)
    with socket.create_connection(("127.0.0.1", port), 5) as client:
        bench.system.end(old, KILLED)
        new = main(bench)
        assert new.pid != old.pid
        assert inode(new.request.pass_fds[0]) == inode(old.request.pass_fds[0])
        with socket.socket(fileno=os.dup(new.request.pass_fds[0])) as listener:
            accepted, peer = listener.accept()
            assert peer == client.getsockname()
            accepted.close()
        assert not Path(f"/proc/self/fd/{old.request.pass_fds[1]}").exists() or inode(new.request.pass_fds[1]) == inode(
            old.request.pass_fds[1]
        )


def test_a_stop_gives_the_address_back(bench, port):
    bench.up(by_number(port))
    assert not refused(port)
    bench.ask("stop")
    assert refused(port)
    bench.up(by_number(port))
    assert not refused(port)


def test_a_stop_is_at_once(bench, port):
    """Whoever stops it all has no sibling that could serve."""
    bench.up(by_number(port))
    old = main(bench)
    bench.system.clients[old.pid] = 5
    answer = bench.ask("stop")
    assert answer.done
    assert signals(bench, old) == [TERM]
    assert bench.events("draining") == []


# -- leaving --------------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(bench, port):
    """Two instances, of which the second one has clients."""
    bench.up(by_number(port, instances=2))
    bench.loop.advance(1)
    first, second = bench.system.living("web")
    assert inode(first.request.pass_fds[0]) == inode(second.request.pass_fds[0])
    assert inode(first.request.pass_fds[1]) != inode(second.request.pass_fds[1])
    bench.system.clients[second.pid] = 3
    return first, second


def test_who_is_scaled_away_serves_what_it_has_first(bench, pair):
    first, second = pair
    answer = bench.ask("scale", name="web", instances=1)
    assert bench.system.accepts[second.pid] is False
    assert first.pid not in bench.system.accepts
    bench.loop.advance(5)
    assert signals(bench, second) == []
    assert bench.status() == {"web:0": "running", "web:1": "stopping"}
    assert not answer.done
    bench.system.clients[second.pid] = 0
    bench.loop.advance(0.5)
    assert signals(bench, second) == [TERM]
    assert answer.failed == {}
    assert bench.system.living("web") == [first]
    draining, drained = bench.events("draining"), bench.events("drained")
    assert "serves the 3 connections it has, for 7 s" in draining[0]
    assert "no connection any more" in drained[0]


def rows(bench):
    return bench.ask("status").value["rows"]


def test_one_look_without_a_connection_is_not_enough(bench, pair):
    """A wake-up that was under way may have accepted one more."""
    _, second = pair
    bench.system.clients[second.pid] = 0
    bench.ask("scale", name="web", instances=1)
    bench.system.clients[second.pid] = 1
    bench.loop.advance(3)
    assert signals(bench, second) == []


def test_what_is_open_when_its_time_is_over_is_told(bench, pair):
    _, second = pair
    bench.ask("scale", name="web", instances=1)
    bench.loop.advance(6.8)
    assert signals(bench, second) == []
    bench.loop.advance(0.5)
    assert signals(bench, second) == [TERM]
    assert "still has 3 connections after 7 s" in bench.events("drained")[0]


def test_a_worker_that_was_forked_meanwhile_is_kept_from_accepting_too(bench, pair):
    _, second = pair
    bench.ask("scale", name="web", instances=1)
    bench.loop.advance(1)
    bench.system.accepts[second.pid] = True
    bench.loop.advance(0.5)
    assert bench.system.accepts[second.pid] is False
    assert signals(bench, second) == []


def test_who_cannot_be_kept_from_accepting_is_told_to_stop_at_once(bench, pair):
    _, second = pair
    bench.system.stubborn = "it waits with select"
    answer = bench.ask("scale", name="web", instances=1)
    assert answer.done
    assert signals(bench, second) == [TERM]
    assert "it waits with select" in bench.events("draining")[0]


def test_a_stop_does_not_wait_for_who_leaves(bench, pair):
    _, second = pair
    bench.ask("scale", name="web", instances=1)
    bench.loop.advance(1)
    answer = bench.ask("stop")
    assert answer.done
    assert signals(bench, second) == [TERM]
    assert bench.system.living() == []
    bench.loop.advance(30)
    assert signals(bench, second) == [TERM]


def test_who_dies_while_leaving_does_not_come_back(bench, pair):
    first, second = pair
    answer = bench.ask("scale", name="web", instances=1)
    bench.system.end(second, KILLED)
    bench.loop.advance(30)
    assert bench.system.living("web") == [first]
    assert answer.failed == {}


def test_the_stop_timeout_begins_with_the_signal(bench, pair):
    _, second = pair
    second.ignores.add(TERM)
    bench.ask("scale", name="web", instances=1)
    bench.loop.advance(7.3)
    assert signals(bench, second) == [TERM]
    bench.loop.advance(9.5)
    assert second.alive
    bench.loop.advance(1)
    assert not second.alive
    assert "still there after 10 s" in bench.events("killed")[0]


def test_nobody_lingers_for_longer_than_a_stop_may_take(bench, port):
    bench.up(by_number(port, instances=2, stop=StopSpec(timeout=2.0)))
    bench.loop.advance(1)
    second = bench.system.living("web")[1]
    bench.system.clients[second.pid] = 3
    bench.ask("scale", name="web", instances=1)
    bench.loop.advance(1.8)
    assert signals(bench, second) == []
    bench.loop.advance(0.4)
    assert signals(bench, second) == [TERM]


def test_the_last_one_is_told_at_once(bench, port):
    """A restart of a single instance: nobody else would take the connections that it does not."""
    bench.up(by_number(port))
    old = main(bench)
    bench.system.clients[old.pid] = 5
    bench.ask("restart")
    assert signals(bench, old) == [TERM]
    assert bench.events("draining") == []


def test_who_is_wanted_again_while_leaving_gets_a_successor(bench, pair):
    """What was taken from it cannot be given back; it is not left as one that serves nobody."""
    first, second = pair
    bench.ask("scale", name="web", instances=1)
    bench.loop.advance(1)
    bench.ask("scale", name="web", instances=2)
    bench.system.clients[second.pid] = 0
    bench.loop.advance(2)
    assert len(bench.system.living("web")) == 2
    assert second not in bench.system.living("web")
    assert first in bench.system.living("web")


def test_a_replacement_for_too_much_memory_comes_first(bench, port):
    bench.up(by_number(port, limits=LimitSpec(memory=50_000_000)))
    old = main(bench)
    old.rss = 90_000_000
    bench.loop.advance(10)
    new = main(bench)
    assert new is not old
    started = next(index for index, process in enumerate(bench.system.launched) if process is new)
    assert bench.system.launched[started - 1] is old
    kinds = [event["kind"] for event in bench.supervisor.events.last(100)]
    assert kinds.index("recycle") < kinds.index("draining") < kinds.index("drained")
    assert kinds.count("ready") == 2
    assert kinds.index("drained") > len(kinds) - 1 - kinds[::-1].index("ready")


# -- reloads --------------------------------------------------------------------------------------------------------


def test_a_reload_starts_the_new_one_beside_the_old_one(bench, port):
    before = by_number(port)
    bench.up(before)
    old = main(bench)
    bench.system.clients[old.pid] = 2
    answer = bench.ask("reload", before)
    bench.loop.advance(1)
    new = bench.system.living("web")[1]
    assert inode(new.request.pass_fds[0]) == inode(old.request.pass_fds[0])
    assert old.pid not in bench.system.accepts
    bench.loop.advance(3)
    assert bench.system.accepts[old.pid] is False
    assert signals(bench, old) == []
    bench.system.clients[old.pid] = 0
    bench.loop.advance(1)
    assert answer.failed == {}
    assert answer.value["notes"] == []
    assert bench.system.living("web") == [new]
    assert [row["generation"] for row in rows(bench)] == [2]


def test_what_does_not_start_changes_nothing(bench, port):
    bench.up(by_number(port))
    old = main(bench)
    answer = bench.ask("reload", by_number(port))
    new = bench.system.living("web")[1]
    bench.system.accepts[new.pid] = False
    bench.loop.advance(1)
    bench.system.end(new, FAILED)
    bench.loop.advance(1)
    assert "exited with 1" in answer.failed["web"]
    assert bench.system.living("web") == [old]
    assert old.pid not in bench.system.accepts
    assert signals(bench, old) == []
    assert not refused(port)


def test_one_that_does_not_become_ready_spares_what_it_has_accepted(bench, port):
    """It shares the listener, and may have begun to accept without being healthy."""
    bench.up(by_number(port))
    bench.system.accepts = dict.fromkeys(range(102, 200), False)
    answer = bench.ask("reload", by_number(port, ready_timeout=5.0))
    old, new = bench.system.living("web")
    bench.loop.advance(4.9)
    bench.system.clients[new.pid] = 1
    bench.loop.advance(0.3)
    assert signals(bench, new) == []
    bench.system.clients[new.pid] = 0
    bench.loop.advance(0.5)
    assert signals(bench, new) == [TERM]
    assert bench.system.living("web") == [old]
    assert signals(bench, old) == []
    assert "not ready after 5 s" in answer.failed["web"]


def test_a_reload_says_what_it_could_not_spare(bench, port):
    bench.up(by_number(port))
    bench.system.stubborn = "it waits with select"
    answer = bench.ask("reload", by_number(port))
    bench.loop.advance(5)
    (note,) = answer.value["notes"]
    assert note.startswith("web: ")
    assert note.endswith("it waits with select")


def test_a_stop_ends_a_reload_whose_old_one_drains(bench, port):
    bench.up(by_number(port))
    old = main(bench)
    bench.system.clients[old.pid] = 2
    bench.ask("reload", by_number(port))
    bench.loop.advance(4)
    assert len(bench.system.living("web")) == 2
    answer = bench.ask("stop")
    assert answer.done
    assert bench.system.living("web") == []
    assert refused(port)


def test_a_new_address_is_there_before_the_old_one_is_gone(bench, port):
    bench.up(by_number(port))
    old, other = main(bench), unused_port()
    bench.system.clients[old.pid] = 1
    answer = bench.ask("reload", by_number(other))
    bench.loop.advance(4)
    assert not refused(port)
    assert not refused(other)
    bench.system.clients[old.pid] = 0
    bench.loop.advance(1)
    assert answer.failed == {}
    assert refused(port)
    assert not refused(other)


def test_a_program_that_opens_the_address_itself_finds_it_free(bench, port):
    """It cannot share it: the old one goes first, and the listener with it. And back again."""
    bench.up(by_number(port))
    old = main(bench)
    alone = spec("web", command=Command(text="web", argv=("web", "--own")))
    bench.ask("reload", alone)
    bench.loop.advance(5)
    assert not old.alive
    assert main(bench).request.argv == ("web", "--own")
    assert refused(port)
    bench.ask("reload", by_number(port))
    bench.loop.advance(5)
    assert main(bench).request.argv[0] == "server"
    assert not refused(port)


def test_a_program_without_an_address_overlaps_and_is_not_kept_from_anything(bench):
    """A Celery worker: there is nothing to pass, and no connection to spare."""
    worker = spec("worker", host=HostSpec(way=HostWay.PASSED, engine="celery-worker", overlap=True))
    bench.up(worker)
    old = main(bench, "worker")
    assert old.request.pass_fds == old.request.listen_fds == ()
    bench.ask("reload", worker)
    bench.loop.advance(0.6)
    assert len(bench.system.living("worker")) == 2
    bench.loop.advance(5)
    assert main(bench, "worker") is not old
    assert signals(bench, old) == [TERM]
    assert bench.events("draining", "drained") == []
    assert bench.supervisor.hosting is None


def test_one_that_never_runs_twice_is_stopped_first(bench):
    """Celery beat."""
    beat = spec("beat", singleton=True)
    bench.up(beat)
    old = main(bench, "beat")
    bench.ask("reload", beat)
    bench.loop.advance(5)
    assert not old.alive
    assert main(bench, "beat") is not old
    most = 0
    for event in bench.supervisor.events.last(100):
        most += {"started": 1, "ended": -1}.get(event["kind"], 0)
        assert most <= 1
