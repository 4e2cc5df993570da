"""The least a WSGI app can do: what is measured is the server."""

import os
import time

PLAIN = [("Content-Type", "text/plain"), ("Content-Length", "13")]


def app(environ, start_response):
    """Say hello; ``/pid`` who answers; ``/busy`` holds a thread for a moment."""
    if environ["PATH_INFO"] == "/":
        start_response("200 OK", PLAIN)
        return [b"Hello, world!"]
    if environ["PATH_INFO"] == "/busy":
        time.sleep(0.02)
    body = str(os.getpid()).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
