"""The orders and the ticks, in one SQLite file. ``python -m shop.database`` makes the tables."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA = Path(os.environ.get("SHOP_DATA", "data")).absolute()

SCHEMA = """
CREATE TABLE IF NOT EXISTS orders (
    id INTEGER PRIMARY KEY,
    item TEXT NOT NULL,
    state TEXT NOT NULL DEFAULT 'received',
    received REAL NOT NULL,
    prepared REAL,
    prepared_by INTEGER
);
CREATE TABLE IF NOT EXISTS ticks (time REAL NOT NULL, waiting INTEGER NOT NULL);
"""


@contextmanager
def connect() -> Iterator[sqlite3.Connection]:
    """Open the database, and commit at the end unless something was raised."""
    connection = sqlite3.connect(DATA / "shop.db", timeout=10)
    connection.row_factory = sqlite3.Row
    try:
        with connection:
            yield connection
    finally:
        connection.close()


def create() -> None:
    """Make the tables. Readers and the writer do not wait for each other in WAL mode."""
    DATA.mkdir(parents=True, exist_ok=True)
    with connect() as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(SCHEMA)


def add_order(item: str) -> int:
    """Keep a new order and return its number."""
    with connect() as db:
        row = db.execute("INSERT INTO orders (item, received) VALUES (?, ?)", (item, time.time()))
        return int(row.lastrowid or 0)


def prepare_order(number: int) -> bool:
    """Mark an order as ready; False if somebody did already. So preparing twice does no harm."""
    with connect() as db:
        row = db.execute(
            "UPDATE orders SET state = 'ready', prepared = ?, prepared_by = ? WHERE id = ? AND state = 'received'",
            (time.time(), os.getpid(), number),
        )
        return row.rowcount == 1


def orders() -> list[dict[str, object]]:
    """Return all orders, the newest first."""
    with connect() as db:
        return [dict(row) for row in db.execute("SELECT * FROM orders ORDER BY id DESC LIMIT 100")]


def find_order(number: int) -> dict[str, object] | None:
    """Return one order, or None."""
    with connect() as db:
        row = db.execute("SELECT * FROM orders WHERE id = ?", (number,)).fetchone()
        return dict(row) if row else None


def waiting_orders(older_than: float) -> list[int]:
    """Return the numbers of the orders that have waited for more than so many seconds."""
    with connect() as db:
        rows = db.execute(
            "SELECT id FROM orders WHERE state = 'received' AND received < ?", (time.time() - older_than,)
        )
        return [row["id"] for row in rows]


def add_tick(waiting: int) -> None:
    """Note that beat has ticked; the ticks of the last hour are kept."""
    now = time.time()
    with connect() as db:
        db.execute("INSERT INTO ticks VALUES (?, ?)", (now, waiting))
        db.execute("DELETE FROM ticks WHERE time < ?", (now - 3600,))


def count_ticks() -> int:
    """Return how many ticks are kept; also the question of the health check, since it needs disk and schema."""
    with connect() as db:
        return int(db.execute("SELECT count(*) FROM ticks").fetchone()[0])


if __name__ == "__main__":
    create()
    print(f"tables are ready in {DATA / 'shop.db'}")
