"""A FastAPI app on the PostgreSQL that DSN names: it is well while its database is."""

import os

import psycopg
from fastapi import FastAPI, Response

app = FastAPI()


@app.get("/health")
def health(response: Response):
    try:
        with psycopg.connect(os.environ["DSN"]) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError as error:
        response.status_code = 503
        return {"pid": os.getpid(), "database": str(error)}
    return {"pid": os.getpid(), "database": "up"}


@app.post("/notes/{text}")
def note(text: str):
    with psycopg.connect(os.environ["DSN"]) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS notes (id serial PRIMARY KEY, text text NOT NULL)")
        row = connection.execute("INSERT INTO notes (text) VALUES (%s) RETURNING id", [text]).fetchone()
    return {"id": row[0]}


@app.get("/notes")
def notes():
    with psycopg.connect(os.environ["DSN"]) as connection:
        return [text for (text,) in connection.execute("SELECT text FROM notes ORDER BY id").fetchall()]
