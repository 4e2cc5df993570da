"""A Flask app, for gunicorn and for `flask run`."""

import os

import gate
from flask import Flask

app = Flask(__name__)


@app.get("/health")
def health():
    return {"pid": os.getpid(), "parent": os.getppid(), "config": os.environ.get("FROM_CONFIG", "")}


@app.get("/hold/<name>")
def hold(name):
    gate.pass_through(name)
    return {"held": name, "pid": os.getpid()}


@app.get("/boom")
def boom():
    raise ValueError("the kettle has boiled over")
