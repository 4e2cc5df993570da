"""A FastAPI app that is well from the moment its gate `ready` opens, though it listens before."""

import gate
from fast import app
from fastapi import Response

__all__ = ["app"]


@app.get("/ready")
def ready(response: Response):
    gate.say_begun("ready")
    response.status_code = 200 if gate.opened("ready").exists() else 503
    return {"status": response.status_code}
