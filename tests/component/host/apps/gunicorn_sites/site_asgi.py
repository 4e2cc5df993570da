"""An ASGI app with everything a drain may meet. Gates are files: what waits for one goes on when it is there."""

import asyncio
import os


async def through(gate):
    print("in the gate", flush=True)
    while not os.path.exists(gate):  # noqa: ASYNC110, ASYNC240 - a file is what a test and its app have in common
        await asyncio.sleep(0.01)


async def lifespan(receive, send):
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            if os.environ.get("FAIL_LIFESPAN"):
                await send({"type": "lifespan.startup.failed", "message": "Traceback ...\nOSError: no database"})
                return
            await send({"type": "lifespan.startup.complete"})
        else:
            print("shutdown done", flush=True)
            await send({"type": "lifespan.shutdown.complete"})
            return


async def websocket(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("websocket ended with", message.get("code"), flush=True)
            return
        await send({"type": "websocket.send", "text": message["text"]})


async def app(scope, receive, send):
    match scope["type"]:
        case "lifespan":
            await lifespan(receive, send)
        case "websocket":
            await websocket(receive, send)
        case "http":
            await http(scope, receive, send)


async def http(scope, receive, send):
    async def plain(text):
        body = text.encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    path, query = scope["path"], scope["query_string"].decode()
    match path:
        case "/gate":
            await through(query)
            await plain("through the gate")
        case "/echo":
            whole, more = b"", True
            while more:
                message = await receive()
                whole += message.get("body", b"")
                more = message.get("more_body", False)
            await plain(whole.decode())
        case "/pid":
            await plain(str(os.getpid()))
        case "/environ":
            await plain(repr({key: str(value) for key, value in scope.items()}))
        case "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"first ", "more_body": True})
            await through(query)
            await send({"type": "http.response.body", "body": b"last"})
        case _:
            await plain(f"hello {path}")
