"""Targets: found, told apart, and refused with a text that says what to type."""

from __future__ import annotations

import functools
import sys

import pytest

from oxherd.host.target import TargetError, find, interface_of

MODULE = """
import functools

async def app(scope, receive, send): pass
async def slim(scope, receive, send=None): pass
def application(environ, start_response): return []
def create_app(): return app
def create_with(settings): return app
async def create_async(): return app
def broken_factory(): raise RuntimeError("no settings")

class Asgi:
    async def __call__(self, scope, receive, send): pass
    async def method(self, scope, receive, send): pass

class Wsgi:
    def __call__(self, environ, start_response): return []
    def wsgi_app(self, environ, start_response): return []

class Decorated:
    def __call__(self, scope, receive, send): return app(scope, receive, send)

class Old:
    def __init__(self, scope): pass
    async def __call__(self, receive, send): pass

def old(scope): return None
def anything(*args, **kwargs): return None
asgi, wsgi, decorated = Asgi(), Wsgi(), Decorated()
partial = functools.partial(lambda key, environ, start_response: [], "key")
class holder: api = asgi
number = 42
text = "main"
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A working directory with modules, forgotten after the test."""
    before = set(sys.modules)
    (tmp_path / "shop.py").write_text(MODULE)
    (tmp_path / "site_pkg").mkdir()
    (tmp_path / "site_pkg" / "__init__.py").write_text("")
    (tmp_path / "site_pkg" / "wsgi.py").write_text("def application(environ, start_response): return []\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("target", "interface"),
    [
        ("shop:app", "asgi"),
        ("shop:asgi", "asgi"),
        ("shop:asgi.method", "asgi"),
        ("shop:decorated", "asgi"),
        ("shop:holder.api", "asgi"),
        ("shop:create_app()", "asgi"),
        ("shop:create_app", "asgi"),
        ("shop:application", "wsgi"),
        ("shop:wsgi", "wsgi"),
        ("shop:wsgi.wsgi_app", "wsgi"),
        ("shop:partial", "wsgi"),
        ("site_pkg.wsgi:application", "wsgi"),
    ],
)
def test_an_app_is_told_by_looking_at_it(project, target, interface):
    found = find(target)
    assert (found.interface, found.label) == (interface, target)
    assert callable(found.call)


def test_what_is_said_is_believed(project):
    assert find("shop:anything", interface="wsgi").interface == "wsgi"
    assert find("shop:create_app", factory=True).call is find("shop:app").call


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("shop", "'shop' names no app; expected module:attr, as in main:app"),
        (":app", "expected module:attr"),
        ("shop:", "expected module:attr"),
        ("shop:create_with('x')", "a factory without arguments, as in main:create_app()"),
        ("shop:appp", "shop has no attribute 'appp'; it has: app (an ASGI app), "),
        ("shop:appp", "create_app (a function)"),
        ("shop:appp", "; did you mean shop:app?"),
        (
            "shop:holder.appi",
            "shop.holder has no attribute 'appi'; it has: api (an ASGI app); did you mean shop:holder.api?",
        ),
        ("shop:number", "shop:number is an int, no app: it cannot be called"),
        ("shop:functools", "shop:functools is a module, no app"),
        ("shop:old", "an app of ASGI 2"),
        ("shop:Old", "an app of ASGI 2"),
        ("shop:anything", "is neither an ASGI app (scope, receive, send) nor a WSGI app"),
        ("shop:anything", "it takes (*args, **kwargs)"),
        ("shop:broken_factory()", "the factory shop:broken_factory() failed at "),
        ("shop:broken_factory()", "RuntimeError: no settings"),
        ("shop:create_with()", "TypeError"),
        ("shop:create_async()", "is a coroutine function"),
        ("shop:number()", "no factory: it cannot be called"),
        ("shopp:app", "there is no module 'shopp': looked in "),
        ("shopp:app", "; did you mean shop:app?"),
        ("sit_pkg.wsgi:application", "did you mean site_pkg.wsgi:application?"),
        ("site_pkg.wsgj:application", "there is no module 'site_pkg.wsgj'"),
        ("site_pkg.wsgj:application", "did you mean site_pkg.wsgi:application?"),
        ("shop.app:app", "shop is a module, no package"),
        ("completely_else:app", "there is shop, site_pkg"),
    ],
)
def test_what_is_no_app_is_refused_with_what_to_type(project, target, text):
    with pytest.raises(TargetError) as caught:
        find(target)
    assert text in caught.value.text
    assert "\n" not in caught.value.text


def test_an_import_that_fails_shows_the_apps_frames_alone(project):
    (project / "main.py").write_text("import helper\n")
    (project / "helper.py").write_text("def load():\n    raise KeyError('DATABASE_URL')\nload()\n")
    with pytest.raises(TargetError) as caught:
        find("main:app")
    assert caught.value.text == f"importing main failed at {project}/helper.py:2: KeyError: 'DATABASE_URL'"
    lines = caught.value.traceback.splitlines()
    assert lines[:2] == ["Traceback (most recent call last):", f'  File "{project}/main.py", line 1, in <module>']
    assert lines[-1] == "KeyError: 'DATABASE_URL'"
    assert "oxherd/host" not in caught.value.traceback


def test_a_syntax_error_is_told_with_its_place(project):
    (project / "main.py").write_text("app = 1\ndef broken(:\n")
    with pytest.raises(TargetError) as caught:
        find("main:app")
    assert f"importing main failed at {project}/main.py:2: SyntaxError" in caught.value.text
    assert "def broken(:" in caught.value.traceback


def test_a_missing_dependency_is_not_a_missing_app(project):
    (project / "main.py").write_text("import no_such_library.client\n")
    with pytest.raises(TargetError) as caught:
        find("main:app")
    assert f"{project}/main.py:1 imports 'no_such_library', which {sys.executable} does not have" in caught.value.text
    assert "ModuleNotFoundError" in caught.value.traceback


def test_an_import_that_exits_is_told(project):
    (project / "main.py").write_text("import sys\nsys.exit('set SECRET_KEY')\n")
    with pytest.raises(TargetError, match=r"ended the process: .*main.py:2 raised SystemExit\('set SECRET_KEY'\)"):
        find("main:app")


def test_the_frameworks_are_told_apart():
    django = pytest.importorskip("django.core.handlers.asgi")
    from django.core.handlers.wsgi import WSGIHandler
    from fastapi import FastAPI
    from flask import Flask
    from starlette.applications import Starlette

    assert interface_of(FastAPI()) == "asgi"
    assert interface_of(Starlette()) == "asgi"
    assert interface_of(Flask("shop")) == "wsgi"
    assert interface_of(Flask("shop").wsgi_app) == "wsgi"
    # Made without settings: looking must not need them.
    assert interface_of(object.__new__(django.ASGIHandler)) == "asgi"
    assert interface_of(object.__new__(WSGIHandler)) == "wsgi"


def test_an_aiohttp_application_is_sent_to_its_own_server(project):
    (project / "main.py").write_text(
        "class Application:\n    def __call__(self): return self\nApplication.__module__ = 'aiohttp.web_app'\n"
        "app = Application()\n"
    )
    with pytest.raises(TargetError, match="aiohttp application, which is neither ASGI nor WSGI"):
        find("main:app")


def test_looking_calls_nothing():
    class Trap:
        def __call__(self, *args):
            raise AssertionError("called")

        def __getattr__(self, name):
            raise RuntimeError("working outside of application context")

    assert interface_of(Trap()) is None
    assert interface_of(functools.partial(Trap())) is None
    assert interface_of(len) is None
