"""The control server on a real loop and real unix sockets, driven turn by turn in one thread."""

from __future__ import annotations

import errno
import json
import os
import pwd
import random
import socket
import stat
import time

import pytest

from oxherd.control.protocol import MAX_LINE
from oxherd.daemon.control_server import _RESERVE, ControlServer
from oxherd.errors import OperationError, SystemFault
from oxherd.system.loop import Loop


class World:
    """A server, what it was asked, and clients without a thread."""

    def __init__(self, directory) -> None:
        self.errors = []
        self.loop = Loop(self.errors.append)
        self.path = str(directory / "control.sock")
        self.requests = []
        self.script = {"ping": lambda request, reply: reply.result({"pong": request.args.get("n")})}
        self.sockets = []
        self.server = ControlServer(self.loop, self.path, self.dispatch, version="0.1.0", owner_uid=os.geteuid())

    def dispatch(self, request, reply):
        self.requests.append((request, reply))
        self.script[request.verb](request, reply)

    def connect(self):
        client = socket.socket(socket.AF_UNIX)
        client.setblocking(False)
        client.connect(self.path)
        self.sockets.append(client)
        return client

    def pump(self, predicate):
        """Turn the loop until it is so."""
        deadline = time.monotonic() + 20
        while not predicate():
            assert time.monotonic() < deadline, "it did not come to pass"
            self.loop.run_once(0.01)

    def send(self, client, data):
        """Send all of it while the loop turns; return False if the server hung up."""
        view = memoryview(data)
        while view:
            try:
                view = view[client.send(view) :]
            except BlockingIOError:
                self.loop.run_once(0.01)
            except (BrokenPipeError, ConnectionResetError):
                return False
        return True

    def answers(self, client, count=1):
        """Return that many answers, or fewer with a final None if the server hangs up."""
        data = bytearray()

        def enough():
            try:
                while chunk := client.recv(1 << 20):
                    data.extend(chunk)
            except BlockingIOError:
                return data.count(b"\n") >= count
            except ConnectionResetError:
                # What a unix socket says, after the data, when the other end closed with input unread.
                data.extend(b"null\n")
                return True
            data.extend(b"null\n")
            return True

        self.pump(enough)
        return [json.loads(line) for line in data.splitlines()]

    def close(self):
        for client in self.sockets:
            client.close()
        self.server.close()
        assert self.server.clients == 0
        assert self.loop.watched == frozenset()
        assert self.loop.timers == 0
        assert not os.path.exists(self.path)
        self.loop.close()


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.close()


def ask(verb="ping", identity=1, **args):
    return json.dumps({"oxherd": 1, "version": "x", "id": identity, "verb": verb, "args": args}).encode() + b"\n"


def test_a_request_is_dispatched_and_answered(world):
    client = world.connect()
    world.send(client, ask(n=5))
    assert world.answers(client) == [{"id": 1, "server": "0.1.0", "result": {"pong": 5}}]
    ((request, reply),) = world.requests
    assert (request.verb, request.args, request.version) == ("ping", {"n": 5}, "x")
    assert reply.closed


def test_one_connection_carries_many_requests(world):
    client = world.connect()
    world.send(client, b"".join(ask(identity=number, n=number) for number in range(300)))
    assert [answer["result"]["pong"] for answer in world.answers(client, 300)] == list(range(300))


def test_many_clients_are_answered(world):
    clients = [world.connect() for _ in range(100)]
    for number, client in enumerate(clients):
        world.send(client, ask(n=number))
    for number, client in enumerate(clients):
        assert world.answers(client)[0]["result"] == {"pong": number}


def test_progress_comes_before_the_result(world):
    world.script["start"] = lambda _request, reply: (
        reply.progress({"n": 1}),
        world.loop.call_soon(lambda: finish(reply)),
    )

    def finish(reply):
        reply.progress({"n": 2})
        reply.result({"done": True})
        reply.progress({"n": 3})
        reply.result({"done": "again"})
        reply.error(OperationError("late"))

    client = world.connect()
    world.send(client, ask("start") + ask(identity=2))
    assert [answer.get("progress") or answer["result"] for answer in world.answers(client, 4)] == [
        {"n": 1},
        {"pong": None},
        {"n": 2},
        {"done": True},
    ]


def test_a_raised_error_is_the_answer(world):
    def fail(_request, _reply):
        raise OperationError("web crashed", hint="oxherd why web")

    world.script["start"] = fail
    client = world.connect()
    world.send(client, ask("start"))
    assert world.answers(client)[0]["error"] == {
        "code": "OX400",
        "message": "web crashed",
        "hint": "oxherd why web",
        "exit_code": 1,
    }
    assert world.errors == []


def test_a_bug_in_a_verb_is_answered_and_reported_and_ends_nothing(world):
    client = world.connect()
    world.send(client, ask("no such key in the script") + ask(identity=2, n=1))
    first, second = world.answers(client, 2)
    assert first["error"]["message"].startswith("the supervisor failed at no such key in the script: KeyError")
    assert second["result"] == {"pong": 1}
    world.pump(lambda: world.errors)
    assert isinstance(world.errors[0], KeyError)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "OX501"),
        (b"\x16\x03\x01\x02\x00\n", "OX501"),
        (b'{"oxherd": 99, "id": 1, "verb": "ping"}\n', "OX504"),
        (b'{"oxherd": 1, "id": null, "verb": "ping"}\n', "OX503"),
    ],
)
def test_what_is_no_request_is_answered_and_hung_up_on(world, data, code):
    client = world.connect()
    world.send(client, data)
    answer, end = world.answers(client, 2)
    assert (answer["id"], answer["error"]["code"], end) == (None, code, None)
    assert world.requests == []
    world.pump(lambda: world.server.clients == 0)


def test_random_bytes_harm_nobody(world):
    chance = random.Random(20)  # the same noise in every run
    steady = world.connect()
    for number in range(150):
        noise = world.connect()
        world.send(noise, chance.randbytes(chance.randrange(1, 300)))
        if number % 2:
            noise.close()
        world.loop.run_once(0.01)
    world.send(steady, ask(n=1))
    assert world.answers(steady)[0]["result"] == {"pong": 1}
    assert world.errors == []


def test_a_line_of_100_mb_is_refused_before_it_is_kept(world):
    client = world.connect()
    assert not world.send(client, b"x" * 100_000_000), "the server took all of it"
    answer, end = world.answers(client, 2)
    assert (answer["error"]["code"], end) == ("OX502", None)
    assert world.server.clients == 0


def test_a_refused_client_that_goes_on_sending_is_not_read(world):
    """Its answer is larger than the socket takes, so the server waits for it to read, without spinning on its input."""
    world.script["big"] = lambda _request, reply: reply.result({"text": "x" * 4_000_000})
    client = world.connect()
    world.send(client, ask("big") + b"garbage\n" + b"more" * 5000)
    world.pump(lambda: len(world.requests) == 1)
    turns = 0
    deadline = time.monotonic() + 0.2
    while time.monotonic() < deadline:
        world.loop.run_once(0.05)
        turns += 1
    assert turns < 20
    answers = world.answers(client, 3)
    assert answers[0]["result"]["text"] == "x" * 4_000_000
    assert answers[1]["error"]["code"] == "OX501"
    assert answers[2] is None


def test_half_a_message_delays_nobody_and_is_forgotten_with_its_client(world):
    half, whole = world.connect(), world.connect()
    world.send(half, ask()[:-9])
    world.send(whole, ask(n=1))
    assert world.answers(whole)[0]["result"] == {"pong": 1}
    half.close()
    world.pump(lambda: world.server.clients == 1)
    assert len(world.requests) == 1


def test_a_client_that_reads_late_gets_everything(world):
    world.script["big"] = lambda _request, reply: reply.result({"text": "x" * 12_000_000})
    client = world.connect()
    world.send(client, ask("big") + ask(identity=2, n=2))
    world.pump(lambda: len(world.requests) == 2)
    big, small = world.answers(client, 2)
    assert len(big["result"]["text"]) == 12_000_000
    assert small["result"] == {"pong": 2}


def test_a_client_that_never_reads_is_dropped_and_delays_nobody(world):
    cancelled = []
    subscribers = []

    def follow(_request, reply):
        subscribers.append(reply)
        reply.on_close(lambda: cancelled.append(reply))

    world.script["events"] = follow
    deaf, other = world.connect(), world.connect()
    world.send(deaf, ask("events"))
    world.pump(lambda: subscribers)
    chunk = {"text": "x" * 1_000_000}
    for _ in range(16):
        subscribers[0].progress(chunk)
    world.loop.run_once(0)
    assert world.server.clients == 2, "16 MB minus what the kernel took is within the bound"
    for _ in range(3):
        subscribers[0].progress(chunk)
    assert cancelled == [], "no callback runs inside progress()"
    world.pump(lambda: cancelled)
    assert subscribers[0].closed
    assert world.server.clients == 1
    world.send(other, ask(n=1))
    assert world.answers(other)[0]["result"] == {"pong": 1}


def test_hanging_up_cancels_what_was_subscribed_to(world):
    cancelled = []
    world.script["events"] = lambda request, reply: reply.on_close(lambda: cancelled.append(request.id))
    client = world.connect()
    world.send(client, ask("events", 1) + ask("events", 2) + ask(identity=3))
    world.answers(client, 1)
    client.close()
    world.pump(lambda: len(cancelled) == 2)
    late = []
    world.requests[0][1].on_close(lambda: late.append("at once"))
    assert late == ["at once"]
    world.requests[0][1].progress({})
    world.requests[0][1].result({})


def test_an_answered_request_is_not_cancelled(world):
    cancelled = []

    def answer(_request, reply):
        reply.on_close(lambda: cancelled.append(1))
        reply.result({})

    world.script["status"] = answer
    client = world.connect()
    world.send(client, ask("status"))
    world.answers(client)
    client.close()
    world.pump(lambda: world.server.clients == 0)
    assert cancelled == []


def test_a_result_that_does_not_fit_into_a_line_becomes_an_error(world):
    world.script["big"] = lambda _request, reply: reply.result({"text": "x" * MAX_LINE})
    client = world.connect()
    world.send(client, ask("big"))
    (answer,) = world.answers(client)
    assert (answer["id"], answer["error"]["code"]) == (1, "OX502")


def test_open_requests_of_one_connection_are_bounded(world):
    world.script["wait"] = lambda _request, _reply: None
    client = world.connect()
    world.send(client, b"".join(ask("wait", number) for number in range(300)))
    answer, end = world.answers(client, 2)
    assert (answer["error"]["code"], end) == ("OX507", None)
    assert len(world.requests) == 256
    assert all(reply.closed for _, reply in world.requests)


def test_the_socket_is_only_for_its_owner(world):
    status = os.stat(world.path)
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert sorted(os.listdir(os.path.dirname(world.path))) == ["control.sock"]


def test_another_user_is_refused(tmp_path, monkeypatch):
    world = World(tmp_path)
    monkeypatch.setattr("oxherd.daemon.control_server.peer_uid", lambda _connection: os.geteuid() + 1)
    client = world.connect()
    world.send(client, ask())
    answer, end = world.answers(client, 2)
    assert answer["error"]["code"] == "OX510"
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert answer["error"]["message"] == (
        f"this supervisor belongs to {name} (uid {os.geteuid()}): it is not yours to command"
    )
    assert end is None
    assert world.requests == []
    world.close()


def test_the_peer_is_asked_of_the_kernel():
    from oxherd.control.ownership import peer_uid

    left, right = socket.socketpair()
    with left, right:
        assert peer_uid(left) == os.geteuid()


def test_a_stale_socket_is_replaced(tmp_path):
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / "control.sock"))
    stale.close()
    world = World(tmp_path)
    client = world.connect()
    world.send(client, ask(n=1))
    assert world.answers(client)[0]["result"] == {"pong": 1}
    world.close()


def test_a_socket_that_another_supervisor_put_there_is_left(tmp_path):
    old = World(tmp_path)
    new = World(tmp_path)
    old.server.close()
    client = new.connect()
    new.send(client, ask(n=1))
    assert new.answers(client)[0]["result"] == {"pong": 1}
    old.loop.close()
    new.close()


def test_a_directory_that_is_not_there_is_a_system_fault(tmp_path):
    loop = Loop(lambda error: None)
    mask = os.umask(0o022)
    os.umask(mask)
    with pytest.raises(
        SystemFault, match=r"cannot listen on .*/gone/control\.sock: No such file or directory"
    ) as caught:
        ControlServer(loop, str(tmp_path / "gone" / "control.sock"), print, version="1", owner_uid=0)
    assert caught.value.code == "OX613"
    assert os.umask(mask) == mask, "the umask is as it was"
    loop.close()


def test_without_descriptors_accepting_pauses_and_goes_on(world, monkeypatch):
    attempts = []

    class Exhausted:
        """The listener of a process that has no descriptor left, until it has."""

        def __init__(self, real):
            self.real = real
            self.empty = True

        def _accept(self):
            attempts.append(1)
            if self.empty:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return self.real._accept()

        def __getattr__(self, name):
            return getattr(self.real, name)

    listener = Exhausted(world.server._socket)
    world.server._socket = listener
    monkeypatch.setattr("oxherd.daemon.control_server._ACCEPT_PAUSE", 0.2)
    client = world.connect()
    world.pump(lambda: world.errors)
    assert isinstance(world.errors[0], SystemFault)
    assert "Too many open files" in world.errors[0].message
    used_up = len(attempts)
    for _ in range(5):
        world.loop.run_once(0)
    assert len(attempts) == used_up == 1 + _RESERVE, "it gives its reserve, then does not spin"
    listener.empty = False
    world.send(client, ask(n=1))
    assert world.answers(client)[0]["result"] == {"pong": 1}


def test_closing_hangs_up_on_everyone(tmp_path):
    world = World(tmp_path)
    gone = []
    world.script["events"] = lambda _request, reply: reply.on_close(lambda: gone.append(1))
    client = world.connect()
    world.send(client, ask("events"))
    world.pump(lambda: world.requests)
    world.server.close()
    world.server.close()
    assert gone == [1]
    client.setblocking(True)
    assert client.recv(1) == b""
    world.close()


def test_a_silent_client_makes_room_for_one_that_asks(world, monkeypatch):
    """The longest there first, and never one that waits for an answer."""
    world.script["wait"] = lambda _request, _reply: None
    waiting, silent, other = world.connect(), world.connect(), world.connect()
    waiting.send(ask("wait"))
    world.pump(lambda: len(world.requests) == 1 and world.server.clients == 3)
    for fd in world.server._reserve:
        os.close(fd)
    world.server._reserve.clear()
    listener = world.server._socket

    class Scarce:
        """accept(2) without a descriptor, until somebody has hung up."""

        def _accept(self):
            if world.server.clients >= 3:
                raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            return listener._accept()

        def __getattr__(self, name):
            return getattr(listener, name)

    monkeypatch.setattr(world.server, "_socket", Scarce())
    late = world.connect()
    late.send(ask())
    assert world.answers(late)[0]["result"] == {"pong": None}
    assert silent.recv(1) == b""
    for client in (waiting, other):
        with pytest.raises(BlockingIOError):
            client.recv(1)
    assert world.errors == []
    monkeypatch.undo()
