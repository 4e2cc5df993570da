"""TLS and HTTP/2, on the engines that have them."""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPConnection

import pytest
import trustme

from support.engines import Feature
from support.hosting import Client
from support.http2 import Http2
from support.waiting import DEADLINE

NEVER = DEADLINE * 2


class Secured(Client):
    """A client over a connection that is there already."""

    def __init__(self, connected: ssl.SSLSocket) -> None:
        self.socket = connected
        self._connection = HTTPConnection("test.example", timeout=DEADLINE)
        self._connection.sock = connected


@pytest.fixture
def authority():
    return trustme.CA()


@pytest.fixture
def secured(authority, tmp_path):
    """Return the fields of a job that has a certificate."""
    certificate = authority.issue_cert("test.example")
    key, chain = tmp_path / "key.pem", tmp_path / "chain.pem"
    certificate.private_key_pem.write_to_path(str(key))
    for blob in certificate.cert_chain_pems:
        blob.write_to_path(str(chain), append=True)
    return {"ssl_certfile": str(chain), "ssl_keyfile": str(key)}


@pytest.fixture
def shake(authority):
    """Return a function that opens a TLS connection to a listener."""

    def shake(held, *protocols: str) -> ssl.SSLSocket:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        with socket.create_connection(held.getsockname(), DEADLINE) as plain:
            return context.wrap_socket(plain, server_hostname="test.example")

    return shake


@pytest.mark.needs_features(Feature.TLS)
def test_public_connections_are_encrypted_and_private_ones_are_not(serving, secured, shake):
    worker, held = serving(**secured)
    with Secured(shake(held)) as client:
        assert client.get("/seen").body.startswith("https 1.1 127.0.0.1")
    assert worker.request("/seen").body.startswith("https 1.1")


@pytest.mark.needs_features(Feature.TLS, Feature.KEEP_ALIVE)
def test_an_encrypted_idle_connection_is_answered_with_close(serving, secured, shake):
    worker, held = serving(**secured, linger=NEVER, graceful_timeout=NEVER, keepalive=NEVER)
    with Secured(shake(held)) as client:
        assert client.get("/").status == 200
        worker.drain()
        assert client.get("/late").closes
    assert worker.exit_code() == 0


@pytest.mark.needs_features(Feature.TLS, Feature.HTTP2)
def test_http2_is_spoken_over_tls(serving, secured, shake):
    _, held = serving(**secured)
    connected = shake(held, "h2", "http/1.1")
    assert connected.selected_alpn_protocol() == "h2"
    with Http2(connected) as client:
        status, text = client.get("/seen")
        assert (status, text.split()[:2]) == (200, ["https", "2"])


@pytest.mark.needs_features(Feature.HTTP2)
def test_http2_is_spoken_to_who_knows(serving):
    _, held = serving()
    with Http2(socket.create_connection(held.getsockname(), DEADLINE)) as client:
        assert client.get("/a") == (200, "GET /a")
        assert client.get("/b") == (200, "GET /b")


@pytest.mark.needs_features(Feature.HTTP2)
def test_http2_clients_are_told_to_go_and_lose_nothing(serving, gate):
    worker, held = serving(linger=2.0, graceful_timeout=NEVER)
    with Http2(socket.create_connection(held.getsockname(), DEADLINE)) as client:
        slow = client.send(f"/gate?{gate}")
        worker.wait_meters(lambda now: now.in_flight == 1)
        worker.drain()
        gate.touch()
        assert client.answer(slow) == (200, "through the gate")
        while not client.is_over:
            client.take()
        assert client.told_to_go
    assert worker.exit_code() == 0
