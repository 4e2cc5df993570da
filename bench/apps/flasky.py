"""What many WSGI services look like: Flask, and an answer in JSON."""

import os
import time

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello():
    return {"hello": "world"}


@app.get("/pid")
def pid():
    return str(os.getpid())


@app.get("/busy")
def busy():
    time.sleep(0.02)
    return str(os.getpid())
