"""The HTTP API: takes orders, shows them, and says whether it is well."""

from __future__ import annotations

import logging
import os
import sqlite3

from fastapi import FastAPI, HTTPException
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from shop import database
from shop.tasks import prepare

log = logging.getLogger("uvicorn.error")
app = FastAPI(title="Shop", description="Orders are prepared by a Celery worker; beat looks after forgotten ones.")


class NewOrder(BaseModel):
    item: str


@app.post("/orders", status_code=202)
def receive(order: NewOrder) -> dict[str, object]:
    """Keep the order and let the worker prepare it."""
    number = database.add_order(order.item)
    prepare.delay(number)
    log.info("order %d received: %s", number, order.item)
    return {"id": number, "state": "received"}


@app.get("/orders")
def show_all() -> list[dict[str, object]]:
    """Show the newest hundred orders."""
    return database.orders()


@app.get("/orders/{number}")
def show(number: int) -> dict[str, object]:
    """Show one order."""
    order = database.find_order(number)
    if order is None:
        raise HTTPException(status_code=404, detail=f"there is no order {number}")
    return order


@app.get("/health")
def health() -> JSONResponse:
    """Answer 200 while the database answers."""
    try:
        ticks = database.count_ticks()
    except sqlite3.Error as error:
        return JSONResponse({"status": "failing", "database": str(error)}, status_code=503)
    return JSONResponse({"status": "ok", "ticks": ticks, "pid": os.getpid()})
