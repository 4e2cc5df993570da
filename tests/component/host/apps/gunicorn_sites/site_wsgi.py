"""A WSGI app with everything a drain may meet. Gates are files: what waits for one goes on when it is there."""

import os
import signal
import threading
import time
from pathlib import Path


def through(gate):
    print("in the gate", flush=True)
    while not os.path.exists(gate):
        time.sleep(0.01)


def app(environ, start_response):
    path, query = environ["PATH_INFO"], environ["QUERY_STRING"]

    def plain(text):
        body = text.encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    match path:
        case "/gate":
            through(query)
            return plain("through the gate")
        case "/echo":
            return plain(environ["wsgi.input"].read().decode())
        case "/pid":
            return plain(str(os.getpid()))
        case "/deaf":
            # From now on the kernel gives the signal to another thread, and no system call of this one is cut short.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            return plain("pardon?")
        case "/threads":
            return plain(" ".join(sorted(one.name for one in threading.enumerate())))
        case "/environ":
            return plain(repr({key: str(value) for key, value in environ.items()}))
        case "/os-environ":
            return plain(repr(os.environ.get(query)))
        case "/file":
            start_response("200 OK", [("Content-Type", "text/plain")])
            return environ["wsgi.file_wrapper"](Path(__file__).open("rb"))
        case "/stream":

            def parts():
                yield b"first "
                through(query)
                yield b"last"

            start_response("200 OK", [("Content-Type", "text/plain")])
            return parts()
        case "/boom":
            raise ValueError("the kettle has boiled over")
    return plain(f"hello {path}")


def create_app(greeting, *, loud=False):
    def made(_environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [greeting.upper().encode() if loud else greeting.encode()]

    return made


application = app
