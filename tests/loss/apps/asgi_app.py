"""The ASGI app of the loss suite, without a framework: what is measured is the server."""

from __future__ import annotations

import asyncio
import json
import os
import traceback

import lossapp

lossapp.on_import()


async def app(scope, receive, send) -> None:
    match scope["type"]:
        case "lifespan":
            await lifespan(receive, send)
        case "websocket":
            await websocket(receive, send)
        case "http":
            parameters = lossapp.query(scope["query_string"].decode())
            await ROUTES.get(scope["path"], missing)(parameters, receive, send)


async def lifespan(receive, send) -> None:
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            if lossapp.MODE == "hang-startup":
                await asyncio.Event().wait()
            try:
                lossapp.on_startup()
            except RuntimeError:
                # As Starlette does it; without this message a server takes the app for one that knows no lifespan.
                await send({"type": "lifespan.startup.failed", "message": traceback.format_exc()})
                raise
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return


async def websocket(receive, send) -> None:
    await receive()
    headers = [(key.encode(), value.encode()) for key, value in lossapp.answer_headers()]
    await send({"type": "websocket.accept", "headers": headers})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


async def begin(send, status: int, length: int | None) -> None:
    headers = [(key.encode(), value.encode()) for key, value in lossapp.answer_headers()]
    headers.append((b"content-type", b"text/plain"))
    if length is not None:
        headers.append((b"content-length", str(length).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def answer(send, body: bytes, status: int = 200) -> None:
    await begin(send, status, len(body))
    await send({"type": "http.response.body", "body": body})


async def missing(parameters, receive, send) -> None:
    await answer(send, b"no such path", 404)


async def fast(parameters, receive, send) -> None:
    await answer(send, lossapp.token(parameters))


async def slow(parameters, receive, send) -> None:
    await asyncio.sleep(float(parameters["s"]))
    await answer(send, lossapp.token(parameters))


async def block(parameters, receive, send) -> None:
    lossapp.block(float(parameters["s"]))
    await answer(send, lossapp.token(parameters))


async def post(parameters, receive, send) -> None:
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        body += event.get("body", b"")
        more = event.get("more_body", False)
    await answer(send, lossapp.checksum(body))


async def stream(parameters, receive, send) -> None:
    await begin(send, 200, None)
    piece = lossapp.token(parameters).ljust(int(parameters["size"]), b".")
    for _ in range(int(parameters["chunks"])):
        await send({"type": "http.response.body", "body": piece, "more_body": True})
        await asyncio.sleep(float(parameters["pause"]))
    await send({"type": "http.response.body", "body": b""})


async def health(parameters, receive, send) -> None:
    status = lossapp.health()
    body = json.dumps({"pid": os.getpid(), "parent": os.getppid(), "generation": lossapp.GENERATION})
    await answer(send, body.encode(), status)


async def ready(parameters, receive, send) -> None:
    await answer(send, b"", 200 if lossapp.is_ready() else 503)


ROUTES = {
    "/fast": fast,
    "/slow": slow,
    "/block": block,
    "/post": post,
    "/stream": stream,
    "/health": health,
    "/ready": ready,
}
