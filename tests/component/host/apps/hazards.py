# ruff: noqa: ICN001
"""Imports that a fork does not survive, one at a time."""

import os
import socket
import sys

KIND = os.environ["HAZARD"]
kept = []
if KIND == "thread":
    import threading

    threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
elif KIND == "socket":
    server = socket.create_server(("127.0.0.1", 0))
    kept += [server, socket.create_connection(server.getsockname()), server.accept()[0]]
elif KIND == "loop":
    import asyncio

    kept.append(asyncio.new_event_loop())
elif KIND == "uvloop":
    import uvloop

    kept.append(uvloop.new_event_loop())
elif KIND == "epoll":
    import select

    kept.append(select.epoll())
elif KIND == "temporary":
    import tempfile

    kept.append(tempfile.TemporaryDirectory())
elif KIND == "child":
    import subprocess

    kept.append(subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE))
elif KIND == "listening":
    kept.append(socket.create_server(("127.0.0.1", 0)))
elif KIND == "harmless":
    import asyncio
    import logging
    import sqlite3
    import tempfile

    import numpy
    import pandas

    _ = numpy.ones((300, 300)) @ numpy.ones((300, 300)), pandas.DataFrame({"a": [1]})
    folder = tempfile.mkdtemp(dir=os.environ["FOLDER"])
    kept += [sqlite3.connect(f"{folder}/db"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
    kept[-1].connect(("127.0.0.1", 8125))
    logging.getLogger().addHandler(logging.FileHandler(f"{folder}/log"))

    async def nothing():
        pass

    asyncio.run(nothing())


async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})
