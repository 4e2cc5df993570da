"""The web app of the documentation's first oxfile."""

import os

from fastapi import FastAPI

app = FastAPI()


@app.get("/health")
def health():
    return {"pid": os.getpid(), "database": os.environ["DATABASE_URL"]}
