"""What servers say when their address is taken is understood, word for word as they say it."""

from __future__ import annotations

import socket

import pytest

from oxherd.system.portholders import Holder, _address, _same, address_in_use

NODE = """
node:events:497
      throw er; // Unhandled 'error' event
      ^

Error: listen EADDRINUSE: address already in use 127.0.0.1:18765
    at Server.setupListenHandle [as _listen2] (node:net:1908:16)
    at listenInCluster (node:net:1965:12)
Emitted 'error' event on Server instance at:
    at emitErrorNT (node:net:1944:8) {
  code: 'EADDRINUSE',
  errno: -98,
  syscall: 'listen',
  address: '127.0.0.1',
  port: 18765
}

Node.js v20.20.2
"""
HYPERCORN = """
  File "/srv/v/lib/python3.11/site-packages/hypercorn/config.py", line 208, in create_sockets
    insecure_sockets = self._create_sockets(self.bind)
                       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  File "/srv/v/lib/python3.11/site-packages/hypercorn/config.py", line 275, in _create_sockets
    sock.bind(binding)
OSError: [Errno 98] Address already in use
"""
UVICORN = """
INFO:     Started server process [29722]
INFO:     Waiting for application startup.
INFO:     Application startup complete.
ERROR:    [Errno 98] error while attempting to bind on address ('127.0.0.1', 18765): address already in use
INFO:     Waiting for application shutdown.
INFO:     Application shutdown complete.
"""
GUNICORN = """
[2026-11-21 09:05:00 +0000] [29726] [ERROR] Connection in use: ('127.0.0.1', 18765)
[2026-11-21 09:05:00 +0000] [29726] [ERROR] connection to ('127.0.0.1', 18765) failed: [Errno 98] Address already in use
[2026-11-21 09:05:01 +0000] [29726] [ERROR] Can't connect to ('127.0.0.1', 18765)
"""
GUNICORN_UNIX = """
[2026-11-21 09:05:00 +0000] [29726] [ERROR] Connection in use: /run/app.sock
[2026-11-21 09:05:00 +0000] [29726] [ERROR] connection to /run/app.sock failed: [Errno 98] Address already in use: '/run/app.sock'
"""
FLASK = """
 * Serving Flask app 'x'
 * Debug mode: off
Address already in use
Port 18765 is in use by another program. Either identify and stop that program, or start the server with a different port.
"""
POSTGRES = """
2026-11-21 09:05:10.179 UTC [30278] LOG:  starting PostgreSQL 15.18 on x86_64-pc-linux-gnu, 64-bit
2026-11-21 09:05:10.179 UTC [30278] LOG:  could not bind IPv4 address "127.0.0.1": Address already in use
2026-11-21 09:05:10.179 UTC [30278] HINT:  Is another postmaster already running on port 18765? If not, wait a few seconds and retry.
2026-11-21 09:05:10.179 UTC [30278] WARNING:  could not create listen socket for "localhost"
2026-11-21 09:05:10.179 UTC [30278] FATAL:  could not create any TCP/IP sockets
"""
REDIS = """
30183:M 21 Nov 2026 09:05:05.930 * monotonic clock: POSIX clock_gettime
30183:M 21 Nov 2026 09:05:05.931 # Warning: Could not create server TCP listening socket *:18765: bind: Address already in use
30183:M 21 Nov 2026 09:05:05.931 # Failed listening on port 18765 (TCP), aborting.
"""
NGINX = """
2026/11/21 09:05:03 [emerg] 30147#30147: bind() to 127.0.0.1:18765 failed (98: Address already in use)
2026/11/21 09:05:03 [emerg] 30147#30147: still could not bind()
"""
DAPHNE = """
2026-11-21 09:05:02,167 INFO     Configuring endpoint tcp:port=18765:interface=127.0.0.1
2026-11-21 09:05:02,168 CRITICAL Listen failure: Couldn't listen on 127.0.0.1:18765: [Errno 98] Address already in use.
"""

SAID = {
    "uvicorn": (UVICORN, ("127.0.0.1", 18765)),
    "gunicorn": (GUNICORN, ("127.0.0.1", 18765)),
    "gunicorn, unix socket": (GUNICORN_UNIX, ("/run/app.sock", 0)),
    "hypercorn, no address": (HYPERCORN, ("", 0)),
    "granian, no address": ("RuntimeError: Address already in use (os error 98)", ("", 0)),
    "daphne": (DAPHNE, ("127.0.0.1", 18765)),
    "django, no address": ("Performing system checks...\nError: That port is already in use.", ("", 0)),
    "flask": (FLASK, ("", 18765)),
    "node": (NODE, ("127.0.0.1", 18765)),
    "node, any address": ("Error: listen EADDRINUSE: address already in use :::3000", ("::", 3000)),
    "node, path": ("Error: listen EADDRINUSE: address already in use /tmp/x.sock", ("/tmp/x.sock", 0)),
    "nginx": (NGINX, ("127.0.0.1", 18765)),
    "nginx, unix socket": ("bind() to unix:/run/x.sock failed (98: Address already in use)", ("/run/x.sock", 0)),
    "redis": (REDIS, ("", 18765)),
    "postgres": (POSTGRES, ("127.0.0.1", 18765)),
    "asyncio, v6": (
        "OSError: [Errno 98] error while attempting to bind on address ('::1', 8000, 0, 0): address already in use",
        ("::1", 8000),
    ),
    "go": ("listen tcp :8080: bind: address already in use", ("", 8080)),
    "go, v6": ("listen tcp [::1]:8080: bind: address already in use", ("::1", 8080)),
    "ruby": ('Address already in use - bind(2) for "0.0.0.0" port 3000 (Errno::EADDRINUSE)', ("0.0.0.0", 3000)),
    "spring": ("Web server failed to start. Port 8080 was already in use.", ("", 8080)),
    "memcached": ("failed to listen on TCP port 11211: Address already in use", ("", 11211)),
    "haproxy": ("[ALERT] (1) : Starting frontend x: cannot bind socket (Address already in use) [0.0.0.0:80]", (
        "0.0.0.0", 80,
    )),
    "macOS": ("[Errno 48] Address already in use", ("", 0)),
    "a time is no address": ("09:05:03 Address already in use", ("", 0)),
    "no such port": ("bind: address already in use 127.0.0.1:99999", ("", 0)),
    "binary": ("\x00\udcff Address already in use \x01", ("", 0)),
}  # fmt: skip


@pytest.mark.parametrize(("text", "address"), SAID.values(), ids=SAID)
def test_the_address_is_found_in_what_the_server_says(text, address):
    assert address_in_use(text.encode("utf-8", "surrogateescape").splitlines()) == address


@pytest.mark.parametrize(
    "text",
    ["", "Uvicorn running on http://127.0.0.1:8000", "ConnectionRefusedError: [Errno 111] Connection refused"],
)
def test_other_trouble_is_not_taken_for_it(text):
    assert address_in_use(text.encode().splitlines()) is None


def test_the_last_complaint_counts():
    lines = [b"bind() to 127.0.0.1:80 failed (98: Address already in use)", b"listen tcp :81: address already in use"]
    assert address_in_use(lines) == ("", 81)


@pytest.mark.parametrize(
    ("family", "text", "address"),
    [
        (socket.AF_INET, "0100007F", "127.0.0.1"),
        (socket.AF_INET, "00000000", "0.0.0.0"),
        (socket.AF_INET6, "00000000000000000000000001000000", "::1"),
        (socket.AF_INET6, "0000000000000000FFFF00000100007F", "127.0.0.1"),
    ],
)
def test_addresses_of_the_kernels_table(family, text, address):
    assert _address(family, text.encode()) == address


@pytest.mark.parametrize(
    ("wanted", "held", "same"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", "0.0.0.0", True),
        ("0.0.0.0", "127.0.0.1", True),
        ("", "10.0.0.1", True),
        ("*", "::1", True),
        ("localhost", "127.0.0.1", True),
        ("localhost", "::1", True),
        ("localhost", "10.0.0.1", False),
        ("[::1]", "::1", True),
        ("db.internal", "10.0.0.1", True),
        ("::ffff:127.0.0.1", "127.0.0.1", True),
    ],
)
def test_which_addresses_get_in_each_others_way(wanted, held, same):
    assert _same(wanted, held) is same


def test_a_holder_in_words():
    assert Holder(pid=12, name="nginx", cmdline="nginx -g").text == "nginx (pid 12)"
    assert Holder(pid=0, name="a process of user root", cmdline="").text == "a process of user root"
