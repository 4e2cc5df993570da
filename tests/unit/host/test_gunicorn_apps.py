"""The app as gunicorn's workers get it."""

from __future__ import annotations

import asyncio
import socket

import pytest

from oxherd.host.counting import Draining
from oxherd.host.engines.gunicorn_apps import AsgiApp, WsgiApp, any_app


class FakeMeters:
    def __init__(self) -> None:
        self.statuses: list[int] = []

    def turn(self, _now: float) -> None:
        """As `Meters` has it."""

    def enter(self, _text: str, _now: float) -> int:
        return 1

    def leave(self, _entry: int, status: int, _started: float, _now: float) -> None:
        self.statuses.append(status)


def app(environ, start_response):
    start_response("200 OK", [("X-Scheme", environ["wsgi.url_scheme"])])
    return environ.get("answer", [b"hello"])


def ask(wsgi: WsgiApp, **environ):
    heard = {}

    def start_response(status, headers, *_rest) -> None:
        heard.update(headers)

    answer = wsgi({"wsgi.url_scheme": "http", "REQUEST_METHOD": "GET", "PATH_INFO": "/", **environ}, start_response)
    body = b"".join(answer)
    if hasattr(answer, "close"):
        answer.close()
    return body, heard


@pytest.fixture
def meters():
    return FakeMeters()


@pytest.fixture
def private(tmp_path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "private"))
        yield made


def test_clients_are_counted_and_probes_are_not(meters, private):
    wsgi = WsgiApp(app, meters)
    wsgi.private_path = private.getsockname()
    assert ask(wsgi)[0] == b"hello"
    with socket.socket(socket.AF_UNIX) as other:
        assert ask(wsgi, **{"gunicorn.socket": other})[0] == b"hello"
    assert ask(wsgi, **{"gunicorn.socket": private})[0] == b"hello"
    assert meters.statuses == [200, 200]


def test_a_probe_is_shown_https_where_clients_have_it(meters, private):
    """Or the app would send it elsewhere."""
    wsgi = WsgiApp(app, meters)
    wsgi.private_path, wsgi.is_tls = private.getsockname(), True
    assert ask(wsgi, **{"gunicorn.socket": private})[1]["X-Scheme"] == "https"


def test_parts_of_long_answers_are_noted(meters):
    """Not of short ones: a list costs nothing."""
    closed = []

    class Parts:
        def __iter__(self):
            return iter([b"a", b"b", b"c"])

        def close(self):
            closed.append(True)

    wsgi = WsgiApp(app, meters)
    ask(wsgi)
    assert wsgi.parts == 0
    assert ask(wsgi, answer=Parts())[0] == b"abc"
    assert (wsgi.parts, closed) == (3, [True])


def test_a_file_stays_the_servers_own(meters):
    """It is sent by the kernel; a wrapper around it would end that."""

    class Wrapper:
        def __iter__(self):
            return iter([b"file"])

    wsgi = WsgiApp(app, meters)
    environ = {"wsgi.file_wrapper": Wrapper, "answer": Wrapper()}
    answer = wsgi(
        {"wsgi.url_scheme": "http", "REQUEST_METHOD": "GET", "PATH_INFO": "/", **environ}, lambda *_anything: None
    )
    assert isinstance(answer, Wrapper)


def test_clients_are_told_to_go(meters):
    closing = Draining()
    wsgi = WsgiApp(app, meters, closing=closing)
    assert "Connection" not in ask(wsgi)[1]
    closing.on = True
    assert ask(wsgi)[1]["Connection"] == "close"


def test_what_the_app_says_of_its_failed_startup_is_kept(meters):
    said = []

    async def failing(_scope, _receive, send):
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    async def send(_message):
        return None

    asyncio.run(AsgiApp(failing, meters, said.append)({"type": "lifespan"}, None, send))
    assert said == ["no database"]


def test_an_app_nobody_knows_is_left_alone(meters):
    thing = object()
    assert any_app(thing, None, meters, Draining()) is thing
    assert any_app(app, "wsgi", meters, Draining()) is not app
