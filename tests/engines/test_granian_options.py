"""What granian's own parser makes of options and command lines."""

from __future__ import annotations

import sys

import pytest

from oxherd.host.engines import granian_options
from oxherd.host.engines.base import EngineError, Job


@pytest.fixture(autouse=True)
def same_path(monkeypatch):
    """Granian puts the app's folder into ``sys.path``."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def read(**options):
    return granian_options.read_options(Job(engine="granian", target="main:app", options=options))


def command(*words):
    return granian_options.read_command(Job(engine="granian", source="command", argv=words))


def test_options_go_through_granians_own_types():
    arguments, proxy = read(
        http="2", websockets=False, backpressure=50, http1_buffer_size=16384, static_path_route=["/a"]
    )
    assert str(arguments["http"]) == "2"
    assert arguments["websockets"] is False
    assert arguments["backpressure"] == 50
    assert arguments["http1_settings"].max_buffer_size == 16384
    assert arguments["static_path_route"] == ("/a",)
    assert proxy is None


def test_keepalive_is_the_header_timer_unless_that_is_set():
    assert read()[0]["http1_settings"].header_read_timeout == 5000
    assert read(http1_header_read_timeout=9000)[0]["http1_settings"].header_read_timeout == 9000


def test_a_proxy_is_believed_on_request():
    assert read(proxy_headers=True)[1] == granian_options.Proxy("127.0.0.1")
    assert read(proxy_headers=True, forwarded_allow_ips="*")[1] == granian_options.Proxy("*")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"websocket": True}, "server_options.websocket is no option of granian 2.8; did you mean websockets?"),
        ({"http": "3"}, "granian: Invalid value for '--http': '3' is not one of 'auto', '1', '2'."),
        ({"backpressure": "lots"}, "granian: Invalid value for '--backpressure': 'lots' is not a valid integer range."),
        ({"websockets": "yes"}, "server_options.websockets is 'yes', expected true or false"),
        ({"workers": 4}, "server_options.workers is not granian's to set here; use `workers =` of the process"),
        ({"reload": True}, "server_options.reload is not granian's to set here; use `watch = true`"),
        ({"proxy_headers": 1}, "server_options.proxy_headers is 1, expected true or false"),
        (
            {"forwarded_allow_ips": ["*"]},
            'server_options.forwarded_allow_ips is [\'*\'], expected text, as in "127.0.0.1,10.0.0.0/8" or "*"',
        ),
    ],
)
def test_options_that_are_wrong_are_refused(options, text):
    with pytest.raises(EngineError) as refused:
        read(**options)
    assert str(refused.value) == text


def test_a_variable_of_granian_is_for_its_command_line_alone(monkeypatch):
    monkeypatch.setenv("GRANIAN_BACKPRESSURE", "77")
    assert read()[0]["backpressure"] is None
    assert command("--interface", "asgi", "main:app").options["backpressure"] == 77


def test_a_command_line_is_read():
    job = command("--interface", "wsgi", "--workers", "4", "--backlog", "512", "--factory", "pkg.main:make")
    assert (job.target, job.interface, job.factory, job.backlog) == ("pkg.main:make", "wsgi", True, 512)
    assert job.options["workers"] == 4
    assert job.keepalive == 5.0


def test_a_target_without_a_name_is_app():
    assert command("--interface", "asginl", "main").target == "main:app"


def test_what_a_command_line_says_of_times_and_certificates_counts(tmp_path):
    for name in ("key", "chain"):
        (tmp_path / name).touch()
    words = ("--ssl-certificate", str(tmp_path / "chain"), "--ssl-keyfile", str(tmp_path / "key"))
    job = command("--interface", "asgi", "--http1-header-read-timeout", "2000", *words, "main:app")
    assert job.keepalive == 2.0
    assert job.ssl_certfile == str(tmp_path / "chain")
    assert job.ssl_keyfile == str(tmp_path / "key")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("main:app",), "RSGI, its default"),
        (("--interface", "asgi", "--reload", "main:app"), "--reload, which cannot be hosted"),
        (("--interface", "asgi", "--metrics", "main:app"), "--metrics-enabled, which cannot be hosted"),
        (("--no-such", "main:app"), "granian: No such option"),
        (("--interface", "asgi"), "granian: Missing argument 'APP'"),
    ],
)
def test_command_lines_that_cannot_be_hosted_are_refused(words, text):
    with pytest.raises(EngineError) as refused:
        command(*words)
    assert text in str(refused.value)


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(granian_options.importlib.metadata, "version", lambda _name: "2.9.0")
    with pytest.raises(EngineError) as refused:
        granian_options.check_version()
    assert "granian 2.9.0 is installed" in str(refused.value)
    assert f"{sys.executable} -m pip install 'granian>=2.8,<2.9'" in str(refused.value)
