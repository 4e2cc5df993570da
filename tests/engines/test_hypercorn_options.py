"""What hypercorn's own parser and Config make of options, files and command lines."""

from __future__ import annotations

import sys

import pytest

from oxherd.host.engines import hypercorn_options
from oxherd.host.engines.base import EngineError, Job


@pytest.fixture(autouse=True)
def same_path(monkeypatch):
    """Hypercorn puts the app's folder into ``sys.path``."""
    monkeypatch.setattr(sys, "path", [*sys.path])


def read(**options):
    return hypercorn_options.config_of(Job(engine="hypercorn", options=options))


def command(*words):
    return hypercorn_options.read_command(Job(engine="hypercorn", source="command", argv=words))


def test_options_are_those_of_its_config():
    config, proxy = read(h2_max_concurrent_streams=7, root_path="/api/", read_timeout=3, server_names=["a.example"])
    assert config.h2_max_concurrent_streams == 7
    assert config.root_path == "/api"
    assert config.read_timeout == 3
    assert config.server_names == ["a.example"]
    assert config.keep_alive_timeout == 5.0
    assert config.max_requests is None
    assert proxy is None


def test_a_proxy_is_believed_on_request():
    assert read(proxy_headers=True)[1] == hypercorn_options.Proxy("legacy", 1)
    assert read(proxy_headers=True, proxy_mode="modern", proxy_trusted_hops=2)[1] == hypercorn_options.Proxy(
        "modern", 2
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"root_paths": "/"}, "server_options.root_paths is no option of hypercorn; did you mean root_path?"),
        (
            {"include_date_header": "no"},
            "server_options.include_date_header is 'no', hypercorn expects bool, as in True",
        ),
        (
            {"h2_max_concurrent_streams": True},
            "server_options.h2_max_concurrent_streams is True, hypercorn expects int, as in 100",
        ),
        ({"bind": "a:1"}, "server_options.bind is not hypercorn's to set here; use `bind =` of the process"),
        (
            {"worker_class": "trio"},
            (
                "hypercorn's worker_class is 'trio'; Oxherd's workers host asyncio and uvloop. For trio run hypercorn itself,"
                " with `command =` and `adopt = false`"
            ),
        ),
        ({"proxy_mode": "ancient"}, "expected legacy (X-Forwarded-*) or modern (Forwarded)"),
        (
            {"proxy_trusted_hops": 0},
            "server_options.proxy_trusted_hops is 0, expected how many proxies there are, from 1",
        ),
        ({"proxy_headers": "yes"}, "server_options.proxy_headers is 'yes', expected true or false"),
    ],
)
def test_options_that_are_wrong_are_refused(options, text):
    with pytest.raises(EngineError) as refused:
        read(**options)
    assert str(refused.value).endswith(text)


def test_a_command_line_is_read():
    job = command("--keep-alive", "9", "--max-requests", "100", "--root-path", "/api", "-w", "4", "pkg.main:api")
    assert (job.target, job.interface, job.keepalive, job.max_requests) == ("pkg.main:api", "auto", 9, 100)
    config, _ = hypercorn_options.config_of(job)
    assert config.root_path == "/api"
    assert config.max_requests is None


def test_a_configuration_file_is_read(tmp_path):
    (tmp_path / "hypercorn.toml").write_text('root_path = "/filed"\nkeep_alive_timeout = 11\n')
    job = command("-c", str(tmp_path / "hypercorn.toml"), "asgi:main:app")
    assert (job.target, job.interface, job.keepalive) == ("main:app", "asgi", 11)
    assert hypercorn_options.config_of(job)[0].root_path == "/filed"


def test_an_app_without_a_name_is_app():
    assert command("main").target == "main:app"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "the following arguments are required: application"),
        (("--no-such", "main:app"), "unrecognized arguments: --no-such"),
        (("--quic-bind", "127.0.0.1:1", "main:app"), "HTTP/3 comes over UDP"),
        (("--insecure-bind", "127.0.0.1:1", "main:app"), "one kind of listener"),
        (("-c", "/nowhere.toml", "main:app"), "hypercorn cannot read its configuration: FileNotFoundError"),
        (("trio:main:app",), "neither asgi nor wsgi"),
    ],
)
def test_command_lines_that_cannot_be_hosted_are_refused(words, text):
    with pytest.raises(EngineError) as refused:
        command(*words)
    assert text in str(refused.value)


def test_trio_is_refused_when_it_is_asked_for():
    with pytest.raises(EngineError, match="worker_class is 'trio'"):
        hypercorn_options.config_of(command("-k", "trio", "main:app"))
