"""The WSGI app of the loss suite."""

from __future__ import annotations

import json
import os
import threading
import time

import lossapp

lossapp.on_import()

REASONS = {200: "200 OK", 404: "404 Not Found", 500: "500 Internal Server Error", 503: "503 Service Unavailable"}


class Once:
    """WSGI has no startup: the first request is it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._done = False

    def __call__(self) -> None:
        with self._lock:
            if not self._done:
                self._done = True
                lossapp.on_startup()


startup = Once()


def app(environ, start_response):
    startup()
    parameters = lossapp.query(environ.get("QUERY_STRING", ""))
    status, body, length = ROUTES.get(environ["PATH_INFO"], missing)(parameters, environ)
    headers = [*lossapp.answer_headers(), ("Content-Type", "text/plain")]
    if length is not None:
        headers.append(("Content-Length", str(length)))
    start_response(REASONS[status], headers)
    return body


def whole(body: bytes, status: int = 200):
    return status, [body], len(body)


def missing(parameters, environ):
    return whole(b"no such path", 404)


def fast(parameters, environ):
    return whole(lossapp.token(parameters))


def slow(parameters, environ):
    time.sleep(float(parameters["s"]))
    return whole(lossapp.token(parameters))


def block(parameters, environ):
    lossapp.block(float(parameters["s"]))
    return whole(lossapp.token(parameters))


def post(parameters, environ):
    length = environ.get("CONTENT_LENGTH")
    # Without a length the server ends the input itself, which it says by this key.
    body = environ["wsgi.input"].read(int(length)) if length else environ["wsgi.input"].read()
    return whole(lossapp.checksum(body))


def stream(parameters, environ):
    piece = lossapp.token(parameters).ljust(int(parameters["size"]), b".")

    def pieces():
        for _ in range(int(parameters["chunks"])):
            yield piece
            time.sleep(float(parameters["pause"]))

    return 200, pieces(), None


def health(parameters, environ):
    body = json.dumps({"pid": os.getpid(), "parent": os.getppid(), "generation": lossapp.GENERATION})
    return whole(body.encode(), lossapp.health())


def ready(parameters, environ):
    return whole(b"", 200 if lossapp.is_ready() else 503)


ROUTES = {
    "/fast": fast,
    "/slow": slow,
    "/block": block,
    "/post": post,
    "/stream": stream,
    "/health": health,
    "/ready": ready,
}
