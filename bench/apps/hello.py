"""The least an ASGI app can do: what is measured is the server. Also an echo of websockets."""

import os
import time

PLAIN = [(b"content-type", b"text/plain"), (b"content-length", b"13")]


async def app(scope, receive, send):
    """Say hello; ``/pid`` who answers; ``/busy`` and ``/block`` hold the worker; echo on websockets."""
    if scope["type"] == "http":
        path = scope["path"]
        if path == "/":
            await send({"type": "http.response.start", "status": 200, "headers": PLAIN})
            await send({"type": "http.response.body", "body": b"Hello, world!"})
            return
        if path == "/busy":
            time.sleep(0.02)  # noqa: ASYNC251 - to hold it is what it is for
        elif path == "/block":
            time.sleep(1000)  # noqa: ASYNC251
        body = str(os.getpid()).encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            if message.get("bytes") is not None:
                await send({"type": "websocket.send", "bytes": message["bytes"]})
            else:
                await send({"type": "websocket.send", "text": message["text"]})
    else:
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
