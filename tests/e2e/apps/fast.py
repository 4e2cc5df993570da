"""A FastAPI app, for uvicorn."""

import os

import gate
from fastapi import FastAPI

app = FastAPI()


@app.get("/health")
def health():
    return {"pid": os.getpid(), "parent": os.getppid()}


@app.get("/hold/{name}")
def hold(name: str):
    gate.pass_through(name)
    return {"held": name, "pid": os.getpid()}


@app.get("/boom")
def boom():
    raise ValueError("the kettle has boiled over")
