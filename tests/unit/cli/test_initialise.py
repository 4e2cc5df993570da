"""`oxherd init`: what it finds in small projects, what it writes, and what it says it did not find."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from oxherd.cli.first_oxfile import plan_oxfile
from oxherd.cli.initialise import init
from oxherd.cli.inspect_project import inspect_project
from oxherd.errors import OperationError, UsageError
from oxherd.programs.compiled import compile_stack

FASTAPI = """
from fastapi import FastAPI
app = FastAPI()

@app.get("/health")
def health():
    return {}
"""
ROUTER = """
from fastapi import APIRouter
router = APIRouter(prefix="/internal")

@router.get("/healthz")
def healthz():
    return {}
"""
GUARDED = FASTAPI.replace('"/health"', '"/health", dependencies=[login]')
STARLETTE = """
import starlette.applications as s
from starlette.routing import Route
application: object = s.Starlette(routes=[Route("/ping", ping)])
"""
FACTORY = """
import fastapi

def create_app(settings=None):
    app = fastapi.FastAPI()

    @app.get("/up")
    def up(): ...

    return app
"""
FLASK = """
from flask import Flask
app = Flask(__name__)

@app.route("/health", methods=["POST"])
def reset(): ...

@app.route("/healthz")
def healthz(): ...

if __name__ == "__main__":
    app.run()
"""
FLASK_FACTORY = """
from flask import Flask

def create_app():
    return Flask(__name__)
"""
CELERY = """
from celery import Celery
app = Celery("tasks", broker="redis://localhost")
app.conf.beat_schedule = {"tick": {"task": "tasks.tick", "schedule": 10}}
"""
CELERY_NO_BEAT = "import celery\nqueue = celery.Celery('tasks')\n"
MANAGE = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
SETTINGS = (
    "DEBUG = False\nALLOWED_HOSTS = {hosts}\nROOT_URLCONF = 'shop.urls'\nWSGI_APPLICATION = 'shop.wsgi.application'\n"
)
URLS = "from django.urls import path\nurlpatterns = [path('health/', view)]\n"


def project(folder, files, programs=("uvicorn", "gunicorn", "celery", "python")):
    """Write a project; ``programs`` None leaves the virtual environment out."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if programs is not None:
        (folder / ".venv/bin").mkdir(parents=True)
        (folder / ".venv/pyvenv.cfg").write_text("home = /usr/bin\n")
        for program in programs:
            (folder / ".venv/bin" / program).write_text("")
    return plan_oxfile(inspect_project(str(folder), {}), "shop")


def commands(found):
    return {item.name: item.command for item in found.processes}


CASES = {
    "fastapi in main.py": (
        {"main.py": FASTAPI},
        "main:app",
        "GET /health (main.py:5)",
    ),
    "the file nearest to the top wins": (
        {"app/deep/api.py": FASTAPI, "app/main.py": FASTAPI},
        "app.main:app",
        "GET /health (app/main.py:5)",
    ),
    "src layout": (
        {"src/shop/web.py": FASTAPI},
        "shop.web:app",
        "GET /health (src/shop/web.py:5)",
    ),
    "a package's __init__": (
        {"shop/__init__.py": FASTAPI},
        "shop:app",
        "GET /health (shop/__init__.py:5)",
    ),
    "starlette by a module alias": (
        {"asgi.py": STARLETTE},
        "asgi:application",
        "GET /ping (asgi.py:4)",
    ),
    "an ASGI factory": (
        {"main.py": FACTORY},
        "main:create_app()",
        "GET /up (main.py:7)",
    ),
    "flask": (
        {"wsgi.py": FLASK},
        "wsgi:app",
        "GET /healthz (wsgi.py:8)",
    ),
    "a WSGI factory": (
        {"shop/__init__.py": FLASK_FACTORY},
        "shop:create_app()",
        "tcp 127.0.0.1:8000",
    ),
    "a route on a router may stand under a prefix": (
        {"main.py": FASTAPI.replace('@app.get("/health")', ""), "routes.py": ROUTER},
        "main:app",
        "tcp 127.0.0.1:8000",
    ),
    "a route behind a login": (
        {"main.py": GUARDED},
        "main:app",
        "tcp 127.0.0.1:8000",
    ),
    "django": (
        {"manage.py": MANAGE, "shop/settings.py": SETTINGS.format(hosts=["*"]), "shop/urls.py": URLS},
        "shop.wsgi:application",
        "GET /health/ (shop/urls.py:2)",
    ),
    "django that answers other hosts only": (
        {"manage.py": MANAGE, "shop/settings.py": SETTINGS.format(hosts=["shop.example"]), "shop/urls.py": URLS},
        "shop.wsgi:application",
        "tcp 127.0.0.1:8000",
    ),
    "django below a folder": (
        {"backend/manage.py": MANAGE, "backend/shop/settings.py": SETTINGS.format(hosts=["*"])},
        "shop.wsgi:application",
        "tcp 127.0.0.1:8000",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_web_app_is_found_and_the_oxfile_is_valid(name, tmp_path):
    files, app, health = CASES[name]
    found = project(tmp_path, files)
    web = found.processes[0]
    assert (web.name, web.app, web.command, web.health) == ("web", app, "", health)
    oxfile = tmp_path / "oxfile.toml"
    oxfile.write_text(found.text)
    compiled = compile_stack(str(oxfile), profile=None, environ={}, strict_files=False)
    assert [process.name for process in compiled.oxfile.processes] == ["web"]
    spec = compiled.oxfile.process("web")
    assert (spec.app.target, spec.app.bind, spec.hosted) == (app, ("127.0.0.1:8000",), True)
    assert spec.python == (f"{tmp_path}/.venv/bin/python" if "folder" in name else None)
    endpoint = f"http://127.0.0.1:8000{health.split()[1]}" if health.startswith("GET") else None
    assert spec.health.endpoint == endpoint


def test_every_doubt_about_a_health_route_is_said(tmp_path):
    """A route that may not answer is left out of the check and named, with the reason."""
    found = project(tmp_path, {"main.py": FASTAPI.replace('@app.get("/health")', ""), "routes.py": ROUTER})
    (said,) = [text for text in found.missing if "health route" in text]
    assert "/internal/healthz (routes.py:5)" in said
    assert "on a router" in said
    assert '# endpoint = "http://127.0.0.1:8000/internal/healthz"' in found.text


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (CELERY, {"worker": "-A tasks worker --loglevel=info", "beat": "-A tasks beat --loglevel=info"}),
        (CELERY_NO_BEAT, {"worker": "-A tasks:queue worker --loglevel=info"}),
        (CELERY.replace("app.conf.beat_schedule =", "CELERY_BEAT_SCHEDULE ="), {"worker": "", "beat": ""}),
        (CELERY_NO_BEAT + "queue.conf.update(beat_schedule={})\n", {"worker": "", "beat": ""}),
        (CELERY_NO_BEAT + "def f(sender):\n    sender.add_periodic_task(1, t)\n", {"worker": "", "beat": ""}),
    ],
)
def test_beat_is_written_only_where_there_is_a_schedule(source, expected, tmp_path):
    found = commands(project(tmp_path, {"tasks.py": source}))
    assert list(found) == list(expected)
    for name, arguments in expected.items():
        assert found[name].startswith(".venv/bin/celery")
        assert found[name].endswith(arguments)


def test_a_schedule_in_the_database_gets_its_scheduler(tmp_path):
    """django-celery-beat without its scheduler would run an empty schedule."""
    settings = SETTINGS.format(hosts=[]) + "INSTALLED_APPS = ['django_celery_beat']\n"
    files = {
        "manage.py": MANAGE,
        "shop/settings.py": settings,
        "shop/celery.py": CELERY_NO_BEAT.replace("queue", "app"),
    }
    found = commands(project(tmp_path, files))
    assert found["beat"].endswith(
        "-A shop.celery beat --loglevel=info --scheduler django_celery_beat.schedulers:DatabaseScheduler"
    )


def test_a_missing_server_is_named_with_the_command_that_installs_it(tmp_path):
    found = project(tmp_path, {"wsgi.py": FLASK}, programs=("python",))
    assert "gunicorn in .venv: install it with `.venv/bin/python -m pip install gunicorn`" in found.missing


def test_another_server_that_is_installed_is_taken(tmp_path):
    found = project(tmp_path, {"main.py": FASTAPI}, programs=("hypercorn",))
    assert 'app = "main:app"\nbind = "127.0.0.1:8000"\n' in found.text
    assert 'server = "hypercorn"\n' in found.text


def test_a_server_that_oxherd_has_no_workers_for_keeps_its_command(tmp_path):
    found = project(tmp_path, {"main.py": FASTAPI}, programs=("daphne",))
    assert commands(found)["web"] == ".venv/bin/daphne --bind 127.0.0.1 --port 8000 main:app"
    assert found.processes[0].app == ""


@pytest.mark.parametrize(
    ("files", "advice"),
    [
        ({}, "looked up on PATH"),
        ({"poetry.lock": ""}, "poetry env info --path"),
        ({"uv.lock": ""}, "uv sync"),
        ({"Pipfile": ""}, "pipenv --venv"),
    ],
)
def test_a_missing_environment_is_said_with_what_helps(files, advice, tmp_path):
    found = project(tmp_path, {"main.py": FASTAPI, **files}, programs=None)
    assert commands(found)["web"].startswith("uvicorn main:app")
    (said,) = [text for text in found.missing if "virtual environment" in text]
    assert ".venv, venv, env" in said
    assert advice in said


def test_the_active_environment_is_taken_where_the_folder_has_none(tmp_path):
    active = tmp_path / "elsewhere"
    (active / "bin").mkdir(parents=True)
    (active / "pyvenv.cfg").touch()
    (active / "bin/uvicorn").touch()
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "main.py").write_text(FASTAPI)
    found = plan_oxfile(inspect_project(str(folder), {"VIRTUAL_ENV": str(active)}), "x")
    assert 'app = "main:app"\n' in found.text
    assert f'python = "{active}/bin/python"\n' in found.text


def test_what_cannot_be_read_is_named_and_does_not_stop_the_rest(tmp_path):
    found = project(tmp_path, {"main.py": FASTAPI, "broken.py": "def f(:\n", "null.py": "a\0b"})
    assert any(text.startswith("broken.py:1") for text in found.missing)
    assert any(text.startswith("null.py") for text in found.missing)
    assert found.processes[0].app == "main:app"


def test_nothing_is_imported(tmp_path):
    """Looking at a project must not run it."""
    source = f"open({str(tmp_path / 'ran')!r}, 'w')\n" + FASTAPI
    project(tmp_path, {"main.py": source})
    assert not (tmp_path / "ran").exists()


def test_tests_environments_and_deep_folders_are_not_looked_at(tmp_path):
    found = project(
        tmp_path,
        {
            "tests/main.py": FASTAPI,
            "test_main.py": FASTAPI,
            "a/b/c/main.py": FASTAPI,
            "myenv/pyvenv.cfg": "",
            "myenv/main.py": FASTAPI,
            "node_modules/main.py": FASTAPI,
        },
    )
    assert found.text == ""
    assert "read 0 Python files" in found.missing[0]


def test_a_procfile_and_an_env_file_are_not_forgotten(tmp_path):
    found = project(tmp_path, {"main.py": FASTAPI, "Procfile": "clock: python clock.py\n", ".env": "A=1\n"})
    assert "#     clock: python clock.py" in found.text
    assert 'env_file = ".env"' in found.text


# -- the command ----------------------------------------------------------------------------------------------------


def run(folder, *options):
    return CliRunner().invoke(init, [str(folder), *options], standalone_mode=False)


def test_init_writes_the_file_and_says_what_it_found(tmp_path):
    project(tmp_path, {"main.py": FASTAPI, "tasks.py": CELERY})
    result = run(tmp_path)
    assert (result.exception, result.return_value) == (None, 0)
    assert f"wrote {tmp_path}/oxfile.toml" in result.output
    assert "FastAPI app main:app (main.py:3), by uvicorn" in result.output
    names = [
        process.name
        for process in compile_stack(
            str(tmp_path / "oxfile.toml"), profile=None, environ={}, strict_files=True
        ).oxfile.processes
    ]
    assert names == ["web", "worker", "beat"]
    assert sorted(os.listdir(tmp_path)) == [".venv", "main.py", "oxfile.toml", "tasks.py"]


def test_a_dry_run_prints_the_file_and_writes_nothing(tmp_path):
    found = project(tmp_path, {"main.py": FASTAPI})
    for option in ("--dry-run", "--stdout"):
        result = run(tmp_path, option)
        assert result.stdout == found.text.replace('"shop"', json.dumps(tmp_path.name))
        assert not (tmp_path / "oxfile.toml").exists()


def test_an_oxfile_that_is_there_is_replaced_only_by_force(tmp_path):
    project(tmp_path, {"main.py": FASTAPI, "oxfile.toml": "# mine\n"})
    result = run(tmp_path)
    assert isinstance(result.exception, UsageError)
    assert result.exception.code == "OX261"
    assert (tmp_path / "oxfile.toml").read_text() == "# mine\n"
    assert run(tmp_path, "--force").exception is None
    assert "[processes.web]" in (tmp_path / "oxfile.toml").read_text()


def test_a_folder_with_nothing_to_run_gets_no_file(tmp_path):
    (tmp_path / "notes.py").write_text("x = 1\n")
    result = run(tmp_path)
    assert isinstance(result.exception, OperationError)
    assert result.exception.code == "OX460"
    assert "read 1 Python file, two folders deep" in result.exception.message
    assert os.listdir(tmp_path) == ["notes.py"]


def test_json_tells_the_same(tmp_path):
    project(tmp_path, {"main.py": FASTAPI})
    document = json.loads(run(tmp_path, "--json").stdout)
    assert document["written"] is True
    assert document["processes"][0]["health_check"] == "GET /health (main.py:5)"
    assert document["text"] == (tmp_path / "oxfile.toml").read_text()
