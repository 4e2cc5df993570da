"""An app that takes most of a second to import, as apps do that have grown: FastAPI, SQLAlchemy, pandas, 150 routes."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING

import lossapp
import numpy  # noqa: ICN001
import pandas  # noqa: ICN001
import sqlalchemy
from fastapi import FastAPI, Response
from pydantic import create_model
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

lossapp.on_import()


class Base(DeclarativeBase):
    """The tables."""


class Item(Base):
    __tablename__ = "items"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]


# It connects when it is first used, as it should.
ENGINE = sqlalchemy.create_engine("sqlite://")
FRAME = pandas.DataFrame(numpy.arange(100_000).reshape(-1, 10))


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    lossapp.on_startup()
    yield
    ENGINE.dispose()


app = FastAPI(lifespan=lifespan)


def add_route(number: int) -> None:
    model = create_model(f"Model{number}", id=(int, 0), name=(str, ""), price=(float, 0.0))

    def endpoint(item: model) -> model:  # type: ignore[valid-type]
        return item

    # What a string annotation could not name.
    endpoint.__annotations__ = {"item": model, "return": model}
    app.post(f"/items{number}")(endpoint)


for number in range(150):
    add_route(number)


@app.get("/fast")
async def fast(n: str = "") -> Response:
    return Response(n, headers=dict(lossapp.answer_headers()))


@app.get("/health")
async def health() -> Response:
    body = json.dumps({"pid": os.getpid(), "generation": lossapp.GENERATION})
    return Response(body, lossapp.health(), headers=dict(lossapp.answer_headers()))


@app.get("/frame")
async def frame() -> Response:
    return Response(str(int(FRAME.sum().sum())))
