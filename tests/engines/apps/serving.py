# ruff: noqa: ASYNC110, ASYNC240
"""One app twice, for ASGI and for WSGI, with what the contract of the engines is tried on. Gates are files.

A path does the same in both, where both can: `TEXTS` are what is answered with one piece of text.
"""

import asyncio
import hashlib
import os
import socket
import threading
import time

PIECE = b"x" * 65536
PIECES = 128


def blocked_here(gate):
    print("blocked", flush=True)
    while not os.path.exists(gate):
        time.sleep(0.01)


def nodelay(client):
    """Say whether TCP_NODELAY is set on the connection that comes from this address and port (granian: as text)."""
    client = (client[0], int(client[1]))
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as one:
                if one.family == socket.AF_INET and one.getpeername() == client:
                    return str(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        except OSError:
            continue
    return "not found"


async def gate(name):
    while not os.path.exists(name):
        await asyncio.sleep(0.01)


async def lifespan(scope, receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            if os.environ.get("FAIL_LIFESPAN"):
                await send(
                    {"type": "lifespan.startup.failed", "message": "Traceback\nRuntimeError: the database is away"}
                )
                return
            if os.environ.get("SLOW_STARTUP"):
                print("starting", flush=True)
                await gate(os.environ["SLOW_STARTUP"])
            if "state" in scope:
                scope["state"]["found"] = "in the lifespan"
            print("startup done", flush=True)
            await send({"type": "lifespan.startup.complete"})
        else:
            print("shutdown done", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return


async def websocket(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("websocket ended", message.get("code"), flush=True)
            return
        text = message["text"]
        if text.startswith("close "):
            await send({"type": "websocket.close", "code": int(text[6:])})
        elif text == "state":
            await send({"type": "websocket.send", "text": scope.get("state", {}).get("found", "nothing")})
        else:
            await send({"type": "websocket.send", "text": text})


async def answer(send, text, status=200, kind=b"text/plain"):
    body = text.encode()
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", kind)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def stream(send, kind=b"application/octet-stream"):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(scope, receive, send)
        return
    if scope["type"] == "websocket":
        await websocket(scope, receive, send)
        return
    query = scope["query_string"].decode()
    match scope["path"]:
        case "/body":
            digest, size = hashlib.sha256(), 0
            while True:
                message = await receive()
                digest.update(message.get("body", b""))
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    break
            await answer(send, f"{size} {digest.hexdigest()}")
        case "/pieces":
            size, more = 0, True
            while more:
                message = await receive()
                size, more = size + len(message.get("body", b"")), message.get("more_body")
                if size:
                    print("got a piece", flush=True)
            await answer(send, str(size))
        case "/download":
            await stream(send)
            for _ in range(PIECES):
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case "/events":
            await stream(send, b"text/event-stream")
            await send({"type": "http.response.body", "body": b"data: first\n\n", "more_body": True})
            await gate(query)
            await send({"type": "http.response.body", "body": b"data: last\n\n", "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        case "/disconnect":
            await receive()
            await stream(send)
            await send({"type": "http.response.body", "body": b"waiting", "more_body": True})
            message = await receive()
            print("heard", message["type"], flush=True)
        case "/state":
            await answer(send, scope.get("state", {}).get("found", "nothing"))
        case "/gate":
            print("in the gate", flush=True)
            await gate(query)
            await answer(send, "through the gate")
        case "/block":
            blocked_here(query)
            await answer(send, "no longer blocked")
        case "/status":
            await answer(send, "as asked", int(query))
        case "/raise":
            raise ValueError("as asked")
        case "/nodelay":
            await answer(send, nodelay(scope["client"]))
        case "/seen":
            await answer(send, f"{scope['scheme']} {scope['http_version']} {scope['client'] and scope['client'][0]}")
        case path:
            await answer(send, f"{scope['method']} {path}")


def wsgi(environ, start_response):
    def plain(text, status="200 OK"):
        body = text.encode()
        start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    query = environ.get("QUERY_STRING", "")
    match environ["PATH_INFO"]:
        case "/body":
            digest, size = hashlib.sha256(), 0
            left = int(environ.get("CONTENT_LENGTH") or 0)
            while left and (piece := environ["wsgi.input"].read(min(left, 65536))):
                digest.update(piece)
                size += len(piece)
                left -= len(piece)
            return plain(f"{size} {digest.hexdigest()}")
        case "/pieces":
            size, left = len(environ["wsgi.input"].read(65536)), int(environ["CONTENT_LENGTH"])
            print("got a piece", flush=True)
            while size < left and (piece := environ["wsgi.input"].read(min(left - size, 65536))):
                size += len(piece)
            return plain(str(size))
        case "/download":
            start_response("200 OK", [("Content-Type", "application/octet-stream")])
            return (PIECE for _ in range(PIECES))
        case "/events":
            start_response("200 OK", [("Content-Type", "text/event-stream")])
            return events(query)
        case "/gate":
            print("in the gate", flush=True)
            blocked_here(query)
            return plain("through the gate")
        case "/block":
            blocked_here(query)
            return plain("no longer blocked")
        case "/status":
            return plain("as asked", f"{query} As Asked")
        case "/raise":
            raise ValueError("as asked")
        case "/nodelay":
            return plain(nodelay((environ["REMOTE_ADDR"], int(environ.get("REMOTE_PORT") or 0))))
        case "/seen":
            version = environ["SERVER_PROTOCOL"].rpartition("/")[2]
            return plain(f"{environ['wsgi.url_scheme']} {version} {environ.get('REMOTE_ADDR')}")
        case "/thread":
            return plain(threading.current_thread().name)
        case path:
            return plain(f"{environ['REQUEST_METHOD']} {path}")


def events(query):
    yield b"data: first\n\n"
    blocked_here(query)
    yield b"data: last\n\n"
