"""A service that has grown: seconds of imports, about 100 MB; FastAPI, SQLAlchemy, pandas, 500 models, a table in memory."""

import itertools
import json
import os
import time

import numpy as np
import pandas as pd
import sqlalchemy
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from pydantic import create_model
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    pass


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


# It connects when it is first used, as it should.
ENGINE = sqlalchemy.create_engine("sqlite://")
FRAME = pd.DataFrame(np.arange(1_000_000).reshape(-1, 10))
# Objects of Python, as caches and catalogues are: each request that looks one up writes its reference count.
PRICES = {number: {"name": f"thing number {number}", "price": number / 3} for number in range(80_000)}

app = FastAPI()

# First, so that what a request costs is its answer and not the way past five hundred routes.
TURN = itertools.count()


@app.get("/")
async def price():
    return PRICES[next(TURN) * 7919 % len(PRICES)]


@app.get("/pid")
async def pid():
    return PlainTextResponse(str(os.getpid()))


@app.get("/busy")
async def busy():
    # The whole worker, so that a burst of requests meets all of them.
    time.sleep(0.02)  # noqa: ASYNC251
    return PlainTextResponse(str(os.getpid()))


def add_route(number):
    model = create_model(f"Model{number}", id=(int, 0), name=(str, ""), price=(float, 0.0))

    def endpoint(item):
        return item

    endpoint.__annotations__ = {"item": model, "return": model}
    app.post(f"/items{number}")(endpoint)


for number in range(500):
    add_route(number)


def wsgi(environ, start_response):
    """The same for servers of WSGI."""
    path = environ["PATH_INFO"]
    if path == "/busy":
        time.sleep(0.02)
    body = json.dumps(PRICES[next(TURN) * 7919 % len(PRICES)]) if path == "/" else str(os.getpid())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]
