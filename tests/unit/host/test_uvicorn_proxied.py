"""Who a client is said to be where a proxy says so: what uvicorn's middleware makes of it, whatever was asked before."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from uvicorn.config import Config

from oxherd.host.counting import Draining
from oxherd.host.engines.uvicorn import private_config, public_config
from oxherd.host.tally import Tally

PROXY, STRANGER = ("127.0.0.1", 4000), ("192.0.2.7", 4000)
FOR, PROTO, HOST = (b"x-forwarded-for", b"198.51.100.9"), (b"x-forwarded-proto", b"https"), (b"host", b"a")


def seen_by(config_of, asked, **options):
    """Ask, one after the other; return client and scheme as the app saw them."""
    seen = []

    async def app(scope, receive, send):
        seen.append((scope["client"][0], scope["scheme"]))

    config = config_of(Config(app, log_level="warning", **options), app)

    async def ask():
        for kind, client, headers in asked:
            scheme = "ws" if kind == "websocket" else "http"
            scope = {"type": kind, "client": client, "scheme": scheme, "headers": list(headers), "path": "/"}
            await config.loaded_app(scope, None, None)

    asyncio.run(ask())
    return seen


def public(config, app):
    return public_config(config, app, Tally(SimpleNamespace(), str), Draining(), None)


@pytest.mark.parametrize("config_of", [public, private_config])
@pytest.mark.parametrize(
    ("asked", "seen"),
    [
        ([("http", PROXY, [HOST])], ("127.0.0.1", "http")),
        ([("http", PROXY, [HOST, FOR])], ("198.51.100.9", "http")),
        ([("http", PROXY, [HOST, PROTO])], ("127.0.0.1", "https")),
        ([("http", PROXY, [PROTO, FOR, HOST])], ("198.51.100.9", "https")),
        ([("websocket", PROXY, [HOST, FOR, PROTO])], ("198.51.100.9", "wss")),
        ([("http", STRANGER, [HOST, FOR, PROTO])], ("192.0.2.7", "http")),
        ([("http", PROXY, [])], ("127.0.0.1", "http")),
    ],
)
def test_a_request_is_seen_the_same_first_and_after_any_other(config_of, asked, seen):
    others = [
        ("http", PROXY, [HOST]),
        ("http", STRANGER, [FOR]),
        ("http", PROXY, [FOR, PROTO]),
        ("http", PROXY, [HOST]),
    ]
    for before in range(len(others) + 1):
        assert seen_by(config_of, others[:before] + asked)[-1] == seen


def test_nobody_is_believed_where_that_is_said():
    asked = [("http", PROXY, [FOR, PROTO])] * 2
    assert seen_by(public, asked, proxy_headers=False) == [("127.0.0.1", "http")] * 2
    assert seen_by(public, asked, forwarded_allow_ips="192.0.2.1") == [("127.0.0.1", "http")] * 2


def test_the_lifespan_has_no_headers():
    started = []

    async def app(scope, receive, send):
        started.append(scope["type"])

    config = public(Config(app, log_level="warning"), app)
    asyncio.run(config.loaded_app({"type": "lifespan"}, None, None))
    assert started == ["lifespan"]
