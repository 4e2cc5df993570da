"""gunicorn's options as Oxherd takes them over."""

from __future__ import annotations

import os
import sys

import pytest

from oxherd.host.engines.base import EngineError, Job
from oxherd.host.engines.gunicorn_options import Prepared, notes, prepare, read_command, unsupported


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    """What reading options may change: directory, environment, search path, arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def command(*argv: str, **fields) -> Prepared:
    return prepare(Job(engine="gunicorn", source="command", argv=argv, **fields))


def options(fields=None, **given) -> Prepared:
    return prepare(Job(engine="gunicorn", target="main:app", options=given, **(fields or {})))


def test_a_command_says_what_it_is():
    job = command("-k", "gthread", "--keep-alive", "75", "--max-requests", "9", "--max-requests-jitter", "3", "main")
    assert (job.target, job.keepalive, job.max_requests, job.max_requests_jitter) == ("main:application", 75.0, 9, 3)


def test_what_is_oxherds_is_taken_from_the_configuration():
    """Whoever replaces workers decides when; what only an arbiter can do is not tried."""
    cfg = command(
        *("--max-requests", "9", "--reload", "--daemon", "--pid", "/run/x.pid", "--reuse-port", "--preload", "main"),
        backlog=77,
        graceful_timeout=12.5,
    ).cfg
    assert (cfg.max_requests, cfg.reload, cfg.daemon, cfg.pidfile, cfg.reuse_port) == (0, False, False, None, False)
    assert (cfg.preload_app, cfg.backlog, cfg.graceful_timeout) == (False, 77, 13)


def test_an_app_process_has_the_oxfiles_times():
    cfg = options({"keepalive": 4.2, "graceful_timeout": 8.0, "log_level": "debug"}).cfg
    assert (cfg.keepalive, cfg.graceful_timeout, cfg.loglevel, cfg.accesslog) == (5, 8, "debug", None)
    assert (cfg.worker_class_str, cfg.threads) == ("gthread", 4)


@pytest.mark.parametrize(
    ("given", "worker_class", "threads"),
    [
        ({"worker_class": "sync"}, "sync", 1),
        ({"worker_class": "gthread"}, "gthread", 4),
        ({"worker_class": "gthread", "threads": 1}, "gthread", 1),
        ({"threads": 9}, "gthread", 9),
    ],
)
def test_threads(given, worker_class, threads):
    cfg = options(**given).cfg
    assert (cfg.worker_class_str, cfg.threads) == (worker_class, threads)


def test_a_configuration_file_says_less_than_the_options(place):
    (place / "gunicorn.conf.py").write_text("worker_class = 'sync'\nlimit_request_line = 100\nmax_requests = 7\n")
    job = options(limit_request_line=200)
    assert job.cfg.worker_class_str == "sync"
    assert job.cfg.limit_request_line == 200
    assert job.max_requests == 7


def test_what_is_prepared_is_not_prepared_again():
    job = options()
    assert prepare(job) is job


def test_the_environment_of_the_configuration_is_there_before_the_app():
    command("--env", "A=1", "--pythonpath", "lib", "main:app")
    assert os.environ["A"] == "1"
    assert os.environ["SERVER_SOFTWARE"].startswith("gunicorn/")
    assert os.path.abspath("lib") in sys.path
    assert sys.argv == ["gunicorn", "--env", "A=1", "--pythonpath", "lib", "main:app"]


@pytest.mark.parametrize("name", ["bind", "workers", "max_requests", "daemon", "loglevel", "certfile"])
def test_what_is_a_key_of_the_oxfile_is_no_option(name):
    with pytest.raises(EngineError, match=f"server_options.{name} is Oxherd's to set"):
        options(**{name: "1"})


def test_an_option_that_is_nearly_right():
    with pytest.raises(EngineError, match=r"has no option 'forwarded_allow_ip'; did you mean forwarded_allow_ips\?"):
        options(forwarded_allow_ip="*")


def test_an_option_that_is_nothing_like_any():
    with pytest.raises(EngineError, match="has no option 'zzz'; `gunicorn --help` lists what there is"):
        options(zzz=1)


def test_hooks_that_tell_of_the_arbiter_are_noted(place):
    (place / "gunicorn.conf.py").write_text("def on_reload(server): pass\nreuse_port = True\n")
    cfg = read_command(("-c", str(place / "gunicorn.conf.py"), "main:app")).cfg
    assert unsupported(cfg) == []
    said = notes(cfg)
    assert len(said) == 2
    assert "reuse_port has no effect" in said[0]
    assert "the hook on_reload is never called" in said[1]


def test_an_asgi_worker_that_cannot_be_told_to_close(monkeypatch):
    """Before 27; by descriptor it can be run all the same."""
    pytest.importorskip("gunicorn.asgi.protocol")
    from gunicorn.asgi.protocol import ASGIProtocol

    monkeypatch.delattr(ASGIProtocol, "_will_close", raising=False)
    cfg = read_command(("-k", "asgi", "main:app")).cfg
    assert "cannot be hosted; that of 27 or newer can" in unsupported(cfg)[0]
    with pytest.raises(EngineError, match="adopt = false"):
        command("-k", "asgi", "main:app")
