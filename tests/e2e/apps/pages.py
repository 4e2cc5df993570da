"""A Django project in one file, for gunicorn."""

import os

import django
import gate
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for tests",
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
        "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["stderr"], "level": "INFO"},
    },
)
django.setup()


def health(_request):
    return JsonResponse({"pid": os.getpid(), "parent": os.getppid()})


def hold(_request, name):
    gate.pass_through(name)
    return JsonResponse({"held": name, "pid": os.getpid()})


def boom(_request):
    raise ValueError("the kettle has boiled over")


urlpatterns = [path("health", health), path("hold/<str:name>", hold), path("boom", boom)]
application = get_wsgi_application()
