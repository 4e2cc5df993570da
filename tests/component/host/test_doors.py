"""Workers and zygotes that have lost their supervisor come back to the next one, through their doors."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from oxherd.system.worker_handle import WorkerHandle
from oxherd.system.zygote_handle import ZygoteState
from support.hosting import HostedWorker, job
from support.successor import Successor
from support.waiting import DEADLINE, wait_until

APPS = Path(__file__).parent / "apps"


@pytest.fixture
def successor():
    with Successor() as made:
        yield made


# -- workers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_worker_says_what_it_is_and_does_what_it_is_told(worker, public, successor, loop):
    one = worker(options={"loop": loop})
    started = one.started()
    first, second = public(), public()
    one.accept("web:0", first)
    one.request("/", to=first)
    served = one.wait_meters(lambda now: now.requests == 1).requests
    one.hang_up()

    back = successor.rejoin(one)
    handle = back.handle
    assert (handle.here, handle.pid, handle.incarnation) == (True, one.pid, 1)
    assert (handle.started, handle.draining, handle.due, handle.failure) == (True, False, False, None)
    assert handle.asked == handle.accepting == {"web:0"}
    assert handle.facts == {key: value for key, value in started.items() if key != "fds"}

    # Its meters go on where they were.
    assert handle.meters.read().requests == served
    one.request("/", to=first)
    successor.wait(lambda: handle.meters.read().requests == served + 1)

    # The listener is the very one, and is served.
    listeners = handle.take_listeners()
    assert handle.listeners == {}
    assert list(listeners) == ["web:0"]
    with socket.socket(fileno=listeners["web:0"]) as came_back:
        assert os.fstat(came_back.fileno()).st_ino == os.fstat(first.fileno()).st_ino
        first.close()
        assert one.request("/", to=came_back).status == 200

    # Accept, report, release, stacks.
    back.say("accept", (second.fileno(),), key="web:1")
    back.wait("accepting", key="web:1")
    assert one.request("/", to=second).status == 200
    back.say("report")
    back.wait("report")
    back.say("release", key="web:0")
    back.wait("released", key="web:0")
    one.signal(signal.SIGRTMIN + 5)
    successor.wait(lambda: os.fstat(handle.dump_fd).st_size > 0)
    assert "Thread" in handle.dump()

    one.signal(signal.SIGTERM)
    back.wait("draining")
    back.wait("drained")
    assert one.exit_code() == 0
    successor.wait(lambda: back.is_closed)


@pytest.mark.parametrize("times", [2, 3])
def test_a_worker_outlives_any_number_of_supervisors(worker, public, times):
    one = worker()
    one.started()
    listener = public()
    one.accept("web:0", listener)
    fds = len(os.listdir(f"/proc/{one.pid}/fd"))
    one.hang_up()
    for _ in range(times):
        with Successor() as successor:
            back = successor.rejoin(one)
            assert back.handle.accepting == {"web:0"}
            assert len(os.listdir(f"/proc/{one.pid}/fd")) == fds
    assert one.request("/", to=listener).status == 200
    assert "Traceback" not in one.output()


def test_what_happened_meanwhile_is_known(worker, public, gate, successor):
    one = worker(max_requests=1)
    one.started()
    listener = public()
    one.accept("web:0", listener)
    one.hang_up()
    with one.connect(listener) as client:
        client.get()
        ticks = one.read_meters().ticks
        one.wait_meters(lambda now: now.ticks > ticks + 1, "a tick, which is when it asks to be recycled")
        client.send(f"/gate?{gate}")
        wait_until(lambda: "in the gate" in one.output(), one.story)
        one.signal(signal.SIGTERM)
        one.wait_meters(lambda now: now.state.name == "DRAINING")
        back = successor.rejoin(one)
        assert (back.handle.started, back.handle.draining, back.handle.due) == (True, True, True)
        # A lame duck has let go of everything.
        assert (back.handle.accepting, back.handle.listeners) == (set(), {})
        gate.touch()
        assert client.answer().body == "through the gate"
    assert back.wait("drained")["closed"] == 0
    assert one.exit_code() == 0


def test_a_worker_that_still_starts_comes_to_the_door_when_it_listens(worker, public, gate, successor):
    """What is said to it before waits, and is done in order."""
    one = worker(env={"SLOW_STARTUP": str(gate)})
    wait_until(lambda: "starting" in one.output(), one.story)
    one.hang_up()
    back = successor.rejoin(one)  # the control thread runs from before the app's own startup
    assert (back.handle.started, back.handle.facts) == (False, {})
    listener = public()
    back.say("accept", (listener.fileno(),), key="web:0")
    gate.touch()
    back.wait("started")
    back.wait("accepting", key="web:0")
    assert one.request("/", to=listener).status == 200


@pytest.fixture
def slow_import(tmp_path, gate):
    """Return a folder whose `main:app` imports until the gate is there, and then as `ENDING` says."""
    (tmp_path / "main.py").write_text(
        "import os, sys, time\n"
        "print('importing', flush=True)\n"
        f"while not os.path.exists({str(gate)!r}):\n"
        "    time.sleep(0.01)\n"
        "exec(os.environ.get('ENDING', ''))\n"
        f"sys.path.insert(0, {str(APPS)!r})\n"
        "from full import app\n"
    )
    return tmp_path


def test_a_worker_that_still_imports_comes_when_it_is_done(worker, slow_import, gate, successor):
    one = worker("main:app", cwd=slow_import)
    wait_until(lambda: "importing" in one.output(), one.story)
    one.hang_up()
    back = successor.knock(one)
    assert back.handle.hears
    gate.touch()
    back.wait("here-end")
    successor.wait(lambda: back.handle.started or any(one["kind"] == "started" for one in back.messages))
    assert one.request("/").status == 200


def test_a_worker_that_cannot_be_imported_says_so_at_the_door(worker, slow_import, gate, successor):
    one = worker("main:app", cwd=slow_import, env={"ENDING": "raise ValueError('no database')"})
    wait_until(lambda: "importing" in one.output(), one.story)
    one.hang_up()
    back = successor.knock(one)
    gate.touch()
    back.wait("here-end")
    assert back.handle.failure["stage"] == "import"
    assert "no database" in back.handle.failure["traceback"]
    assert one.exit_code() == 3
    successor.wait(lambda: back.is_closed)


def test_a_worker_that_ends_before_it_lets_anybody_in_closes_the_connection(worker, slow_import, successor):
    one = worker("main:app", cwd=slow_import)
    wait_until(lambda: "importing" in one.output(), one.story)
    one.hang_up()
    back = successor.knock(one)
    one.signal(signal.SIGKILL)
    successor.wait(lambda: back.is_closed)
    assert not back.handle.here
    with pytest.raises(ConnectionRefusedError):
        successor.knock(one)


def test_a_worker_whose_loop_is_blocked_comes_back_all_the_same(worker, public, gate, successor):
    """The door is the control thread's: what the app does to its event loop does not matter."""
    one = worker()
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with one.connect(listener) as client:
        client.send(f"/block?{gate}")
        wait_until(lambda: "blocking" in one.output(), one.story)
        one.hang_up()
        back = successor.rejoin(one)
        assert back.handle.accepting == {"web:0"}
        wait_until(lambda: [flight.text for flight in back.handle.meters.in_flight()] == ["GET /block"], one.story)
        gate.touch()
        assert client.answer().status == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run as somebody else")
def test_only_root_and_the_first_supervisors_user_are_let_in(worker, successor):
    one = worker()
    one.started()
    one.hang_up()
    os.chmod(os.path.dirname(one.door_path), 0o777)
    os.chmod(one.door_path, 0o777)
    # Connects as another user; the kernel remembers who called connect(2).
    program = (
        "import os, socket, sys\n"
        "os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "s.connect(sys.argv[1])\n"
        "print(s.recv(1000))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, one.door_path], capture_output=True, text=True, timeout=DEADLINE, check=True
    )
    assert found.stdout == "b''\n"
    assert successor.rejoin(one).handle.here


@pytest.mark.parametrize("worker_class", ["gthread", "gevent"])
def test_gunicorns_workers_come_back_patched_or_not(stack, public, worker_class, tmp_path):
    (tmp_path / "site_wsgi.py").write_text(
        "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'here']\n"
    )
    wishes = job("gunicorn", target="site_wsgi:app", cwd=tmp_path, options={"worker_class": worker_class})
    one = stack.enter_context(HostedWorker(wishes))
    one.started()
    listener = public()
    one.accept("web:0", listener)
    one.hang_up()
    for _ in range(2):
        with Successor() as successor:
            back = successor.rejoin(one)
            assert one.request("/", to=listener).body == "here"
            successor.wait(lambda back=back: back.handle.meters.read().requests > 0)
            back.say("release", key="web:0")
            back.wait("released", key="web:0")
            back.say("accept", (listener.fileno(),), key="web:0")
            back.wait("accepting", key="web:0")
            assert one.request("/", to=listener).body == "here"
    with Successor() as successor:
        back = successor.rejoin(one)
        one.signal(signal.SIGTERM)
        back.wait("drained")
        assert one.exit_code() == 0


# -- zygotes ----------------------------------------------------------------------------------------------------------


def test_a_zygote_says_what_it_has_and_forks_again(zygote, successor):
    one = zygote()
    ready = one.ready()
    living, dying = one.fork(0, 7), one.fork(1, 8)
    living.started()
    dying.started()
    one.hang_up()
    dying.signal(signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{dying.pid}"), one.story)

    back = successor.rejoin_zygote(one)
    handle = back.handle
    assert (handle.here, handle.pid, handle.state) == (True, one.pid, ZygoteState.READY)
    assert handle.facts == {key: value for key, value in ready.items() if key != "fds"}
    assert handle.exits == {dying.pid: signal.SIGKILL}
    children = handle.take_children()
    assert {pid: number for pid, (number, _) in children.items()} == {living.pid: 7}
    pidfd = children[living.pid][1]
    signal.pidfd_send_signal(pidfd, signal.SIGTERM)
    os.close(pidfd)
    assert back.wait("exited", pid=living.pid)["status"] == 0


def test_a_zygote_serves_any_number_of_supervisors(zygote, public):
    one = zygote()
    one.ready()
    first = one.fork(0, 1)
    first.started()
    one.hang_up()
    open_then = []
    for _ in range(3):
        with Successor() as successor:
            back = successor.rejoin_zygote(one)
            assert set(back.handle.children) == {first.pid}
            assert back.handle.exits == {}
            open_then.append(len(os.listdir(f"/proc/{one.pid}/fd")))
    assert len(set(open_then)) == 1
    with Successor() as successor:
        back = successor.rejoin_zygote(one)
        back.say("end")
        assert one.exit_code() == 0
    assert first.request("/").status == 200


def test_exits_are_kept_until_a_supervisor_has_heard_of_them(zygote):
    one = zygote()
    one.ready()
    worker = one.fork(0, 1)
    worker.started()
    one.hang_up()
    worker.signal(signal.SIGTERM)
    wait_until(lambda: not os.path.exists(f"/proc/{worker.pid}"), one.story)
    with Successor() as successor:
        successor.knock_zygote(one)  # and dies at once
    with Successor() as successor:
        back = successor.rejoin_zygote(one)
        assert back.handle.exits == {worker.pid: 0}
        back.say("fork", slot=0, incarnation=2)  # an answer means that it has read what was said before
        back.wait("fork-failed", incarnation=2)
    with Successor() as successor:
        assert successor.rejoin_zygote(one).handle.exits == {}


def test_workers_of_a_zygote_come_back_too_and_it_forks_for_the_new_supervisor(zygote, public, successor):
    one = zygote()
    one.ready()
    worker = one.fork(2, 5)
    worker.started()
    listener = public()
    worker.accept("web:2", listener)
    one.hang_up()
    worker.hang_up()
    back = successor.rejoin(worker)
    zygote_back = successor.rejoin_zygote(one)
    assert (back.handle.pid, back.handle.incarnation) == (worker.pid, 5)
    assert back.messages[0]["slot"] == 2
    directory = os.path.dirname(one.door_path)
    handle = WorkerHandle(successor.loop, directory, "next")
    heard = []
    handle.connect(lambda message, _fds: heard.append(message["kind"]), lambda: None)
    with open(os.devnull, "w") as null:
        given = (null.fileno(), null.fileno(), handle.theirs.fileno(), *handle.gifts)
        assert zygote_back.handle.fork(given, slot=3, incarnation=1, env={}, title="next")
    forked = zygote_back.wait("forked", slot=3)
    handle.handed_over()
    successor.wait(lambda: "started" in heard)
    os.kill(forked["pid"], signal.SIGTERM)
    assert zygote_back.wait("exited", pid=forked["pid"])["status"] == 0
    handle.close()
    assert os.listdir(directory) == ["door"]


def test_an_import_ends_at_the_door(zygote, slow_import, gate, successor):
    one = zygote("main:app", cwd=slow_import)
    wait_until(lambda: "importing" in one.output(), one.story)
    one.hang_up()
    back = successor.knock_zygote(one)
    assert back.handle.state is ZygoteState.BOOTING
    gate.touch()
    back.wait("here-end")
    assert (back.handle.state, back.handle.facts["engine"]) == (ZygoteState.READY, "uvicorn")


def test_an_import_that_fails_is_told_at_the_door(zygote, slow_import, gate, successor):
    one = zygote("main:app", cwd=slow_import, env={"ENDING": "raise ValueError('no database')"})
    wait_until(lambda: "importing" in one.output(), one.story)
    one.hang_up()
    back = successor.knock_zygote(one)
    gate.touch()
    back.wait("here-end")
    assert (back.handle.state, back.handle.failure["stage"]) == (ZygoteState.FAILED, "import")
    assert one.exit_code() == 3
