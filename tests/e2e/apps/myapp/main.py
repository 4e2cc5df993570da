"""The web app of the documentation's first oxfile."""

import os

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route


def health(_request):
    return JSONResponse({"pid": os.getpid(), "database": os.environ["DATABASE_URL"]})


app = Starlette(routes=[Route("/health", health)])
