# ruff: noqa: ASYNC110, ASYNC240, ASYNC251, ICN001, NPY002
"""An ASGI app with everything a drain may meet. What happens is printed; gates are files."""

import asyncio
import os
import random
import sys
import threading
import time

BORN_IN = os.getpid()
SHARED = bytearray(os.urandom(1 << 20)) * 32
print("imported", flush=True)


async def gate(name):
    while not os.path.exists(name):
        await asyncio.sleep(0.01)


async def lifespan(receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            if os.environ.get("FAIL_STARTUP"):
                raise RuntimeError("the database is away")
            if os.environ.get("SLOW_STARTUP"):
                print("starting", flush=True)
                await gate(os.environ["SLOW_STARTUP"])
            print("startup done", flush=True)
            await send({"type": "lifespan.startup.complete"})
        else:
            print("shutdown done", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return


async def failing_lifespan(receive, send):
    await receive()
    try:
        raise RuntimeError("the database is away")
    except RuntimeError:
        import traceback

        await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})


async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("websocket ended with", message["code"], flush=True)
            return
        await send({"type": "websocket.send", "text": message["text"]})


async def answer(send, text, status=200):
    body = text.encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await (failing_lifespan if os.environ.get("FAIL_LIFESPAN") else lifespan)(receive, send)
        return
    if scope["type"] == "websocket":
        await websocket(receive, send)
        return
    path, query = scope["path"], scope["query_string"].decode()
    match path:
        case "/pid":
            await answer(send, str(os.getpid()))
        case "/born":
            await answer(send, f"{BORN_IN} {os.getsid(0) == os.getpid()}")
        case "/random":
            import numpy

            await answer(send, f"{random.random()} {numpy.random.random()}")
        case "/env":
            await answer(send, repr(os.environ.get(query)))
        case "/path":
            await answer(
                send, repr((sys.path[0], [one for one in sys.path if one.endswith("oxherd/host")], os.getcwd()))
            )
        case "/threads":
            await answer(send, repr([one.name for one in threading.enumerate()]))
        case "/fds":
            await answer(
                send,
                repr(
                    {
                        fd: os.get_inheritable(int(fd))
                        for fd in os.listdir("/proc/self/fd")
                        if int(fd) > 2 and os.path.exists(f"/proc/self/fd/{fd}")
                    }
                ),
            )
        case "/gate":
            print("in the gate", flush=True)
            await gate(query)
            await answer(send, "through the gate")
        case "/stubborn":
            print("in the gate", flush=True)
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                print("cancelled", flush=True)
                raise
        case "/block":
            print("blocking", flush=True)
            while not os.path.exists(query):
                time.sleep(0.01)
            await answer(send, "no longer blocked")
        case "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first ", "more_body": True})
            await gate(query)
            await send({"type": "http.response.body", "body": b"last"})
        case "/status":
            await answer(send, "", int(query))
        case "/raise":
            raise ValueError("as asked")
        case "/spawn":
            import concurrent.futures
            import multiprocessing

            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
                result = await asyncio.get_running_loop().run_in_executor(pool, abs, -5)
            # Not before its process has gone: the test kills the worker when it has the answer.
            await answer(send, str(result))
        case _:
            await answer(send, f"{scope['method']} {path} {scope['scheme']}")


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"wsgi {environ['PATH_INFO']} in {threading.current_thread().name}".encode()]


def create_app():
    return app
