"""Wrappers: what an app does is passed on unchanged, and counted once, however it ends."""

from __future__ import annotations

import asyncio

import pytest

from oxherd.host.counting import Draining, count_asgi, count_wsgi, tally_asgi
from oxherd.host.tally import Tally

CLOSE = (b"connection", b"close")
HTTP = {"type": "http", "method": "GET", "path": "/", "http_version": "1.1"}


class Counting:
    """One of the two ways to count ASGI."""

    def __init__(self, meters, way):
        self.meters = meters
        self.tally = Tally(meters) if way == "tally" else None

    def wrap(self, app, draining=None, log=None):
        if self.tally is None:
            return count_asgi(app, self.meters, draining, log)
        return tally_asgi(app, self.tally, draining or Draining(), log)

    def read(self):
        self.flush()
        return self.meters.read()

    def flush(self):
        if self.tally is not None:
            self.tally.flush(1.0)


@pytest.fixture(params=["meters", "tally"])
def counting(request, meters):
    return Counting(meters, request.param)


def call(app, scope=HTTP):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request"}

    asyncio.run(app(scope, receive, send))
    return sent


def answering(status=200, *, parts=1):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": [(b"x", b"y")]})
        for part in range(parts):
            await send({"type": "http.response.body", "body": b"part", "more_body": part < parts - 1})

    return app


async def silent(scope, receive, send):
    return None


async def raising(scope, receive, send):
    raise ValueError("as asked")


async def raising_late(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise ValueError("as asked")


async def unfinished(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})


async def cancelled(scope, receive, send):
    raise asyncio.CancelledError


async def sending_a_path(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.pathsend", "path": "/file"})


@pytest.mark.parametrize(
    ("app", "classes", "aborted"),
    [
        (answering(), (0, 1, 0, 0, 0), 0),
        (answering(404), (0, 0, 0, 1, 0), 0),
        (answering(parts=3), (0, 1, 0, 0, 0), 0),
        (sending_a_path, (0, 1, 0, 0, 0), 0),
        (raising, (0, 0, 0, 0, 1), 0),
        (raising_late, (0, 0, 0, 0, 0), 1),
        (unfinished, (0, 0, 0, 0, 0), 1),
        (silent, (0, 0, 0, 0, 0), 1),
        (cancelled, (0, 0, 0, 0, 0), 1),
    ],
)
def test_an_asgi_request_is_counted_once_however_it_ends(counting, app, classes, aborted):
    logged = []
    wrapped = counting.wrap(app, log=lambda scope, status, seconds: logged.append(status))
    try:
        call(wrapped)
    except (ValueError, asyncio.CancelledError):
        assert app in {raising, raising_late, cancelled}
    else:
        assert app not in {raising, raising_late, cancelled}
    reading = counting.read()
    assert (reading.classes, reading.aborted, reading.in_flight) == (classes, aborted, 0)
    assert len(logged) == 1


def test_messages_are_passed_on_as_they_are(counting):
    assert call(counting.wrap(answering(parts=2), Draining())) == call(answering(parts=2))


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
def test_lifespan_and_websockets_are_passed_through(counting, kind):
    seen = []

    async def app(scope, receive, send):
        seen.append((scope, receive, send))

    async def receive():
        return {}

    async def send(message):
        return None

    scope = {"type": kind, "path": "/"}
    asyncio.run(counting.wrap(app, Draining())(scope, receive, send))
    assert seen == [(scope, receive, send)]
    assert counting.read().requests == counting.read().aborted == 0


def test_while_draining_answers_say_close(counting):
    draining = Draining()
    app = counting.wrap(answering(), draining)
    assert CLOSE not in call(app)[0]["headers"]
    draining.on = True
    start = call(app)[0]
    assert start["headers"] == [(b"x", b"y"), CLOSE]
    # HTTP/2 has no such header; a client may take it for a broken answer.
    assert CLOSE not in call(app, {**HTTP, "http_version": "2"})[0]["headers"]


def test_a_drain_that_begins_in_the_middle_of_a_request_is_told_in_its_answer(counting):
    draining = Draining()

    async def app(scope, receive, send):
        draining.on = True
        await answering()(scope, receive, send)

    assert CLOSE in call(counting.wrap(app, draining))[0]["headers"]


def test_the_request_is_in_the_table_while_it_is_answered(counting):
    seen = []

    async def app(scope, receive, send):
        counting.flush()
        seen.extend(counting.meters.in_flight())
        await answering()(scope, receive, send)

    call(counting.wrap(app), {**HTTP, "path": "/grün"})
    assert [one.text for one in seen] == ["GET /grün"]
    counting.flush()
    assert counting.meters.in_flight() == []


# -- WSGI -------------------------------------------------------------------------------------------------------------

ENVIRON = {"REQUEST_METHOD": "POST", "PATH_INFO": "/form"}


class Closing:
    """An iterable as frameworks return it."""

    def __init__(self, parts, error=None):
        self.parts, self.error, self.closed = parts, error, 0

    def __iter__(self):
        yield from self.parts
        if self.error:
            raise self.error

    def close(self):
        self.closed += 1


class FileWrapper:
    """As servers offer it: ``wsgi.file_wrapper``."""

    def __init__(self, file):
        self.file = file
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self):
        return iter(self.file)


def wsgi_app(result, status="200 OK"):
    def app(environ, start_response):
        start_response(status, [("X", "y")])
        return result

    return app


def serve(app, environ=ENVIRON):
    """As a server does: iterate, then close whatever happened."""
    started = []
    result = app(environ, lambda *args: started.append(args))
    try:
        body = b"".join(result)
    finally:
        if hasattr(result, "close"):
            result.close()
    return started, body


def test_a_wsgi_request_lasts_until_its_iterable_is_closed(meters):
    result = Closing([b"a", b"b"])
    started = []
    watched = count_wsgi(wsgi_app(result), meters)(ENVIRON, lambda *args: started.append(args))
    assert [one.text for one in meters.in_flight()] == ["POST /form"]
    assert b"".join(watched) == b"ab"
    assert meters.read().in_flight == 1
    watched.close()
    watched.close()
    reading = meters.read()
    assert (reading.in_flight, reading.requests, reading.classes) == (0, 1, (0, 1, 0, 0, 0))
    assert started == [("200 OK", [("X", "y")])]
    assert result.closed == 2


@pytest.mark.parametrize("result", [[b"ab"], (b"a", b"b"), Closing([b"ab"]), (part for part in [b"ab"]), [b"", b"ab"]])
def test_any_iterable_is_served_as_it_is(meters, result):
    assert serve(count_wsgi(wsgi_app(result, "404 Not Found"), meters))[1] == b"ab"
    assert meters.read().classes == (0, 0, 0, 1, 0)


def test_a_wsgi_app_that_raises_is_a_500(meters):
    def app(environ, start_response):
        raise ValueError("as asked")

    with pytest.raises(ValueError, match="as asked"):
        serve(count_wsgi(app, meters))
    assert (meters.read().classes[4], meters.read().in_flight) == (1, 0)


def test_a_wsgi_app_that_raises_in_the_middle_has_not_answered(meters):
    with pytest.raises(ValueError, match="as asked"):
        serve(count_wsgi(wsgi_app(Closing([b"a"], ValueError("as asked"))), meters))
    assert (meters.read().aborted, meters.read().in_flight) == (1, 0)


def test_the_servers_own_file_wrapper_reaches_the_server(meters):
    class File:
        closed = 0

        def __iter__(self):
            return iter([b"content"])

        def close(self):
            self.closed += 1

    file = File()
    wrapper = FileWrapper(file)
    environ = {**ENVIRON, "wsgi.file_wrapper": FileWrapper}
    started = []
    result = count_wsgi(wsgi_app(wrapper), meters)(environ, lambda *args: started.append(args))
    assert result is wrapper
    assert meters.read().in_flight == 1
    result.close()
    assert (meters.read().in_flight, meters.read().requests, file.closed) == (0, 1, 1)


def test_exc_info_and_write_are_passed_on(meters):
    def app(environ, start_response):
        assert start_response("200 OK", []) == "write"
        start_response("500 Oh", [], ("exc_info",))
        return [b""]

    started = []

    def start_response(*args):
        started.append(args)
        return "write"

    count_wsgi(app, meters)(ENVIRON, start_response).close()
    assert started == [("200 OK", []), ("500 Oh", [], ("exc_info",))]
    assert meters.read().classes[4] == 1


def test_while_draining_wsgi_answers_say_close(meters):
    draining = Draining()
    app = count_wsgi(wsgi_app([b""]), meters, draining)
    assert serve(app)[0] == [("200 OK", [("X", "y")])]
    draining.on = True
    assert serve(app)[0] == [("200 OK", [("X", "y"), ("Connection", "close")])]


def test_threads_lose_no_count(meters):
    import sys
    import threading

    app = count_wsgi(wsgi_app([b""]), meters)
    switch = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=lambda: [serve(app) for _ in range(300)]) for _ in range(6)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    reading = meters.read()
    assert (reading.requests, reading.in_flight) == (1800, 0)
