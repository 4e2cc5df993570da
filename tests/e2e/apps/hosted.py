"""An ASGI app without a framework: says who answers, waits at gates, blocks, and fails where an environment says so."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

from release import VERSION  # a module of the test's own, rewritten between generations

HERE = Path(os.environ.get("GATES", "/nonexistent"))


async def app(scope, receive, send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    status = 200
    match scope["path"]:
        case "/hold":
            (HERE / "hold.begun").write_text(str(os.getpid()))
            while not (HERE / "hold.open").exists():  # noqa: ASYNC110 - a file says when, from another process
                await asyncio.sleep(0.01)
        case "/block":
            (HERE / "block.begun").write_text(str(os.getpid()))
            while not (HERE / "block.open").exists():
                time.sleep(0.01)  # noqa: ASYNC251 - blocking the loop is what it is for
        case "/ready":
            status = 503 if (HERE / f"unready.{os.environ['WORKER_ID']}").exists() else 200
        case "/health":
            status = 503 if (HERE / "sick").exists() else 200
    body = json.dumps(
        {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "version": VERSION,
            "worker": os.environ["WORKER_ID"],
            "instance": os.environ["OXHERD_INSTANCE"],
        }
    ).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan(receive, send) -> None:
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await send({"type": "lifespan.shutdown.complete"})
            return
