"""What every engine does while it serves."""

from __future__ import annotations

import hashlib
import signal
import socket
import threading
from pathlib import Path

import pytest

from support.engines import Feature, page
from support.waiting import wait_until

PIECE = b"0123456789abcdef" * 4096


def test_the_private_listener_is_served_first(start, kind):
    worker = start()
    told = worker.started()
    assert (told["engine"], told["interface"]) == (kind.engine, kind.interface)
    assert told["engine_version"]
    assert worker.request("/health").body == "GET /health"


def test_listeners_come_and_go(start, public):
    worker, first, second = start(), public(), public()
    worker.started()
    worker.accept("web:0", first)
    worker.accept("web:1", second)
    assert worker.request("/a", to=first).body == "GET /a"
    assert worker.request("/b", to=second).body == "GET /b"
    worker.release("web:1")
    with worker.connect(second) as waiting:
        waiting.send("/late")
        assert worker.request("/a", to=first).status == 200
        worker.accept("web:1", second)
        assert waiting.answer().body == "GET /late"


def test_a_released_listener_is_closed_here(start, public):
    worker = start()
    worker.started()
    held = public()
    worker.accept("web:0", held)
    address = held.getsockname()
    worker.release("web:0")
    held.close()
    with socket.socket() as client:
        client.settimeout(5)
        wait_until(lambda: client.connect_ex(address) != 0, "the address to refuse connections")


def test_an_unknown_listener_is_released_without_a_word(serving):
    worker, held = serving()
    worker.release("web:7")
    assert worker.request("/", to=held).status == 200


@pytest.mark.needs_features(Feature.KEEP_ALIVE)
def test_connections_outlive_the_release_of_their_listener(serving):
    worker, held = serving()
    with worker.connect(held) as client:
        assert client.get("/a").status == 200
        worker.release("web:0")
        assert client.get("/b").status == 200


def test_lending_under_load_loses_nothing(serving, public):
    worker, own = serving()
    lent = public()
    over = threading.Event()
    answers: list[object] = []

    def ask(to: socket.socket) -> None:
        while not over.is_set():
            try:
                answers.append(worker.request("/load", to=to).body)
            except OSError as error:
                answers.append(error)

    askers = [threading.Thread(target=ask, args=(to,)) for to in (own, own, lent, lent)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(8):
            worker.accept("web:1", lent)
            seen = len(answers)
            wait_until(lambda seen=seen: len(answers) >= seen + 10, worker.story)
            worker.release("web:1")
        worker.accept("web:1", lent)
    finally:
        over.set()
        for asker in askers:
            asker.join()
    assert set(answers) == {"GET /load"}


def test_a_unix_listener_is_served(start, tmp_path):
    worker = start()
    worker.started()
    with socket.socket(socket.AF_UNIX) as held:
        held.bind(str(tmp_path / "public"))
        held.listen()
        worker.accept("web", held)
        assert worker.request("/", to=held).body == "GET /"


def test_an_ipv6_listener_is_served(start, public):
    worker, held = start(), public("::1")
    worker.started()
    worker.accept("web:0", held)
    assert worker.request("/", to=held).body == "GET /"


def test_accepted_connections_do_not_wait_for_nagle(serving, kind):
    worker, held = serving()
    if kind.interface == "asgi":
        assert worker.request("/nodelay", to=held).body == "1"
    with worker.connect(held) as client:
        client.send("/nodelay")
        assert client.answer().status == 200
        assert held.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1


def test_a_big_upload_in_pieces_arrives_whole(serving):
    worker, held = serving()
    digest = hashlib.sha256(PIECE * 40).hexdigest()
    with worker.connect(held) as client:
        head = f"POST /body HTTP/1.1\r\nHost: test.example\r\nContent-Length: {len(PIECE) * 40}\r\n\r\n"
        client.socket.sendall(head.encode())
        for _ in range(40):
            client.socket.sendall(PIECE)
        answer = client.socket.makefile("rb")
        assert b" 200 " in answer.readline()
        rest = answer.readline()
        while rest.strip():
            rest = answer.readline()
        wanted = f"{len(PIECE) * 40} {digest}".encode()
        assert answer.read(len(wanted)) == wanted


@pytest.mark.needs_features(Feature.PIECES)
def test_an_upload_reaches_the_app_piece_by_piece(serving):
    worker, held = serving()
    with worker.connect(held) as client:
        head = f"POST /pieces HTTP/1.1\r\nHost: test.example\r\nContent-Length: {len(PIECE) * 4}\r\n\r\n"
        client.socket.sendall(head.encode() + PIECE * 2)
        wait_until(lambda: "got a piece" in worker.output(), worker.story)
        client.socket.sendall(PIECE * 2)
        client._connection._HTTPConnection__state = "Request-sent"
        assert client.answer().body == str(len(PIECE) * 4)


def test_a_download_is_streamed(serving):
    worker, held = serving()
    assert worker.request("/download", to=held).body == "x" * (65536 * 128)


def test_events_are_sent_as_they_happen(serving, gate):
    worker, held = serving()
    with worker.connect(held) as client:
        client.socket.sendall(f"GET /events?{gate} HTTP/1.1\r\nHost: test.example\r\n\r\n".encode())
        seen = b""
        while b"data: first" not in seen:
            seen += client.socket.recv(65536)
        assert b"data: last" not in seen
        gate.touch()
        while b"data: last" not in seen:
            seen += client.socket.recv(65536)


@pytest.mark.needs_features(Feature.DISCONNECT)
def test_the_app_hears_that_its_client_has_gone(serving):
    worker, held = serving()
    with worker.connect(held) as client:
        client.socket.sendall(b"GET /disconnect HTTP/1.1\r\nHost: test.example\r\n\r\n")
        seen = b""
        while b"waiting" not in seen:
            seen += client.socket.recv(65536)
    wait_until(lambda: "heard http.disconnect" in worker.output(), worker.story)


@pytest.mark.needs_features(Feature.LIFESPAN)
def test_requests_have_the_state_of_the_lifespan(serving):
    worker, held = serving()
    assert worker.request("/state", to=held).body == "in the lifespan"
    assert worker.request("/state").body == "in the lifespan"


@pytest.mark.needs_features(Feature.KEEP_ALIVE)
def test_an_idle_connection_ends_after_the_keep_alive_time(serving):
    worker, held = serving(keepalive=1.0)
    with worker.connect(held) as client:
        assert client.get("/").status == 200
        assert client.ended()


def test_requests_are_counted_by_class(serving):
    worker, held = serving()
    for status in (200, 200, 302, 404, 503):
        assert worker.request(f"/status?{status}", to=held).status == status
    assert worker.request("/raise", to=held).status == 500
    worker.request("/health")  # private: not counted
    reading = worker.wait_meters(lambda now: now.requests == 6)
    assert reading.classes == (0, 2, 1, 1, 2)
    assert sum(reading.latency) == 6
    worker.wait_meters(lambda now: now.in_flight == 0)


def test_it_ticks(serving):
    worker, _ = serving()
    before = worker.read_meters().ticks
    worker.wait_meters(lambda now: now.ticks > before + 2)


def test_a_report_has_what_is_in_flight(serving, gate):
    worker, held = serving()
    with worker.connect(held) as client:
        client.send(f"/gate?{gate}")
        worker.wait_meters(lambda now: now.in_flight == 1)
        report = worker.report()
        assert [(one["method"], one["path"]) for one in report["in_flight"]] == [("GET", "/gate")]
        assert report["connections"] == 1
        gate.touch()
        assert client.answer().body == "through the gate"


def test_a_blocked_app_shows_its_stack_and_its_request(serving, gate):
    worker, held = serving()
    with worker.connect(held) as client:
        client.send(f"/block?{gate}")
        wait_until(lambda: "blocked" in worker.output(), worker.story)
        worker.signal(signal.SIGRTMIN + 5)
        wait_until(lambda: "blocked_here" in worker.dump_text(), worker.story)
        worker.wait_meters(lambda now: now.in_flight == 1)
        report = worker.report()["in_flight"]
        assert [(one["method"], one["path"]) for one in report] == [("GET", "/block")]
        gate.touch()
        assert client.answer().body == "no longer blocked"


def test_it_asks_to_be_recycled_and_serves_on(serving):
    worker, held = serving(max_requests=3)
    for _ in range(4):
        assert worker.request("/", to=held).status == 200
    assert worker.wait("recycle")["reason"] == "max_requests"
    assert worker.request("/", to=held).status == 200
    assert worker.is_alive()


@pytest.mark.needs_features(Feature.PARALLEL)
def test_a_request_that_waits_holds_nobody_up(serving, gate):
    worker, held = serving()
    with worker.connect(held) as slow:
        slow.send(f"/gate?{gate}")
        worker.wait_meters(lambda now: now.in_flight == 1)
        assert worker.request("/", to=held).status == 200
        gate.touch()
        assert slow.answer().status == 200


@pytest.mark.needs_features(Feature.PROXY)
def test_headers_of_a_proxy_are_read(start, public, kind):
    worker, held = start(options=kind.proxy), public()
    worker.started()
    worker.accept("web:0", held)
    seen = worker.request("/seen", to=held, X_Forwarded_Proto="https", X_Forwarded_For="192.0.2.7")
    assert seen.body.startswith("https 1.1")


def test_the_access_log_is_the_same_everywhere(start, public):
    worker, held = start(access_log="text"), public()
    worker.started()
    worker.accept("web:0", held)
    worker.request("/logged?a=b", to=held)
    wait_until(lambda: '"GET /logged?a=b HTTP/1.1" 200' in worker.output(), worker.story)


def test_the_page_about_engines_is_what_is_tested():
    assert (Path(__file__).parents[2] / "docs/reference/engines.md").read_text() == page()
