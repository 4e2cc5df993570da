"""The blocking client against scripted ends of a real unix socket."""

from __future__ import annotations

import json
import socket
import threading

import pytest

from oxherd import __version__, errors
from oxherd.control.client import Client
from oxherd.control.paths import Home


class Peer:
    """The other end: takes a connection (and another one), reads requests, sends what it was told to."""

    def __init__(self, path, *answers, keep_open=False, then=None):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        self.answers = answers
        self.received = []
        self.release = threading.Event()
        self.keep_open = keep_open
        self.then = then
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self):
        self.serve_one(self.answers)
        if self.then is not None:
            self.serve_one([self.then])

    def serve_one(self, answers):
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rb") as lines:
            for answer in answers:
                self.received.append(json.loads(lines.readline()))
                for message in answer:
                    connection.sendall(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n")
            if self.keep_open:
                self.release.wait(30)

    def close(self):
        self.release.set()
        self.thread.join(30)
        self.listener.close()


@pytest.fixture
def home(tmp_path):
    (tmp_path / "run").mkdir()
    return Home(runtime=str(tmp_path / "run"), state=str(tmp_path / "state"))


@pytest.fixture
def peer(home):
    peers = []

    def make(*answers, **options):
        peers.append(Peer(home.socket, *answers, **options))
        return peers[-1]

    yield make
    for made in peers:
        made.close()


def answer(**message):
    return {"id": 1, "server": __version__, **message}


def test_the_result_is_returned_and_progress_is_handed_on(home, peer):
    other = peer([{"id": 1, "progress": {"n": 1}}, {"id": 1, "progress": {"n": 2}}, answer(result={"ok": True})])
    seen = []
    with Client.connect(home) as client:
        assert client.request("start", seen.append, stack="/srv/oxfile.toml", names=[]) == {"ok": True}
        assert client.server_version == __version__
    assert seen == [{"n": 1}, {"n": 2}]
    assert other.received == [
        {
            "oxherd": 1,
            "version": __version__,
            "id": 1,
            "verb": "start",
            "args": {"stack": "/srv/oxfile.toml", "names": []},
        }
    ]


def test_two_requests_go_over_one_connection(home, peer):
    other = peer([answer(result={"n": 1})], [{"id": 2, "server": __version__, "result": {"n": 2}}])
    with Client.connect(home) as client:
        assert client.request("ping") == {"n": 1}
        assert client.request("ping") == {"n": 2}
    assert [request["id"] for request in other.received] == [1, 2]


def test_an_error_is_raised_as_what_it_is(home, peer):
    peer([answer(error={"code": "OX401", "message": "web crashed", "hint": "oxherd why web", "exit_code": 1})])
    with Client.connect(home) as client, pytest.raises(errors.OperationError, match="web crashed") as caught:
        client.request("start")
    assert (caught.value.code, caught.value.hint) == ("OX401", "oxherd why web")


def test_nobody_listening_says_how_to_start(home):
    with pytest.raises(errors.NoSupervisorError, match="no supervisor is running") as caught:
        Client.connect(home)
    assert caught.value.hint == "oxherd start"
    assert caught.value.exit_code == 3


def test_a_stale_socket_is_nobody(home):
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(home.socket)
    stale.close()
    with pytest.raises(errors.NoSupervisorError):
        Client.connect(home)


def test_a_home_that_was_never_made_is_nobody(tmp_path):
    with pytest.raises(errors.NoSupervisorError):
        Client.connect(Home(runtime=str(tmp_path / "a" / "b"), state=str(tmp_path)))


def test_another_socket_can_be_named(home, tmp_path):
    path = str(tmp_path / "run-abc.sock")
    other = Peer(path, [answer(result={})])
    with Client.connect(home, socket_path=path) as client:
        assert client.path == path
        assert client.request("ping") == {}
    other.close()


def test_a_socket_that_cannot_be_connected_to_is_a_system_fault(home):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(home.socket)
        with pytest.raises(errors.SystemFault, match=f"cannot connect to {home.socket}: Protocol wrong type") as caught:
            Client.connect(home)
    assert caught.value.code == "OX611"
    assert "OXHERD_HOME" in caught.value.hint


def test_a_path_that_cannot_be_a_socket_address_is_a_system_fault(home):
    with pytest.raises(errors.SystemFault) as caught:
        Client.connect(home, socket_path="/" + "x" * 200)
    assert caught.value.code == "OX611"


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([], "OX508"),
        ([b'{"id": 1, "resu'], "OX508"),
        ([b"garbage\n"], "OX501"),
        ([b"\xff\n"], "OX501"),
        ([answer(result=[])], "OX503"),
        ([answer()], "OX503"),
        ([answer(error=3)], "OX503"),
    ],
)
def test_what_is_no_answer_is_a_protocol_error(home, peer, messages, code):
    peer(messages)
    with Client.connect(home) as client, pytest.raises(errors.ProtocolError) as caught:
        client.request("status")
    assert caught.value.code == code


def test_silence_ends_at_the_timeout(home, peer):
    other = peer([], keep_open=True)
    with (
        Client.connect(home) as client,
        pytest.raises(errors.OperationError, match="status did not end within") as caught,
    ):
        client.request("status", timeout=0.05)
    assert caught.value.code == "OX440"
    other.release.set()


def test_the_answer_to_an_older_request_is_skipped(home, peer):
    peer([{"id": 0, "server": __version__, "result": {"old": 1}}, answer(result={"new": 1})])
    with Client.connect(home) as client:
        assert client.request("status") == {"new": 1}


def test_a_refusal_without_a_request_id_is_heard(home, peer):
    refusal = {"code": "OX510", "message": "not yours", "hint": "", "exit_code": 1}
    peer([{"id": None, "server": __version__, "error": refusal}])
    with Client.connect(home) as client, pytest.raises(errors.ProtocolError, match="not yours"):
        client.request("status")


def test_a_refusal_sent_before_the_request_was_read_is_heard(home, tmp_path):
    """The server hangs up on a request that is too long; the client's write fails, and the reason is still read."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(home.socket)
    listener.listen()

    def refuse():
        connection, _ = listener.accept()
        with connection:
            connection.recv(10)
            refusal = {"code": "OX502", "message": "too long", "hint": "", "exit_code": 1}
            connection.sendall(json.dumps({"id": None, "server": __version__, "error": refusal}).encode() + b"\n")

    thread = threading.Thread(target=refuse)
    thread.start()
    with Client.connect(home) as client, pytest.raises(errors.ProtocolError, match="too long"):
        client.request("start", text="x" * 8_000_000)
    thread.join(30)
    listener.close()


def test_a_supervisor_of_another_version_is_noted_once_in_a_process(home, peer, capsys):
    old = {"server": "0.0.9", "result": {}}
    peer([{"id": 1, **old}], [{"id": 2, **old}], then=[{"id": 1, **old}])
    with Client.connect(home) as client:
        client.request("ping")
        client.request("ping")
    with Client.connect(home) as another:
        another.request("ping")
    assert capsys.readouterr().err == (
        f"note: this is oxherd {__version__}, the supervisor is 0.0.9; "
        f"`oxherd daemon upgrade` brings it to {__version__}\n"
    )
