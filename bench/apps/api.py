"""What many ASGI services look like: FastAPI with an answer of 10 kB, an endpoint that is a plain ``def``, an upload."""

import os
import time

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel

app = FastAPI()


class Row(BaseModel):
    id: int
    name: str
    price: float
    tags: list[str]


# About 10 kB of JSON.
ROWS = [Row(id=number, name=f"thing number {number}", price=number / 3, tags=["one", "two"]) for number in range(120)]


@app.get("/json")
async def rows() -> list[Row]:
    return ROWS


# FastAPI runs it in its pool of threads.
@app.get("/def")
def plain() -> dict[str, str]:
    return {"hello": "world"}


@app.post("/upload")
async def upload(request: Request) -> dict[str, int]:
    size = 0
    async for part in request.stream():
        size += len(part)
    return {"size": size}


@app.get("/pid")
async def pid() -> PlainTextResponse:
    return PlainTextResponse(str(os.getpid()))


@app.get("/busy")
async def busy() -> PlainTextResponse:
    # The whole worker, so that a burst of requests meets all of them.
    time.sleep(0.02)  # noqa: ASYNC251
    return PlainTextResponse(str(os.getpid()))
