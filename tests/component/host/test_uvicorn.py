"""uvicorn in a worker: its own command line, WSGI, websockets, TLS, logs, and every protocol implementation."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import threading
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from support.waiting import DEADLINE, wait_until

APPS = Path(__file__).parent / "apps"
PEM = Path(__file__).parents[2] / "support" / "localhost.pem"


def command(*argv: str, **fields) -> dict:
    return {"source": "command", "target": "", "argv": list(argv), "interface": "auto", **fields}


# -- the command line -------------------------------------------------------------------------------------------------


def test_a_command_is_read_by_uvicorns_own_parser(worker):
    one = worker(
        **command("full:app", "--port", "9999", "--workers", "4", "--root-path", "/api", "--header", "x-team:red")
    )
    one.started()
    answer = one.request("/x")
    assert (answer.body, answer.headers["x-team"]) == ("GET /api/x http", "red")
    assert "GET /api/x HTTP" not in one.output()  # a probe is nobody's access


def test_a_command_logs_accesses_as_uvicorn_does(worker, public):
    one = worker(**command("full:app"))
    one.started()
    listener = public()
    one.accept("web:0", listener)
    one.request("/seen?a=b", to=listener)
    wait_until(lambda: '"GET /seen?a=b HTTP/1.1" 200' in one.output(), one.story)


def test_variables_are_options_too(worker):
    one = worker(
        **command(), env={"UVICORN_APP": "full:app", "UVICORN_LOOP": "asyncio", "UVICORN_NO_SERVER_HEADER": "1"}
    )
    assert one.started()["loop"] == "asyncio"


@pytest.mark.parametrize(
    "argv", [["full:create_app", "--factory"], ["full:create_app"], ["full:app", "--interface", "asgi3"]]
)
def test_ways_to_name_an_app(worker, argv):
    one = worker(**command(*argv))
    one.started()
    assert one.request("/").status == 200


def test_app_dir_and_env_file(worker, tmp_path):
    (tmp_path / "settings").write_text("COLOUR=grün\n")
    one = worker(**command("full:app", "--app-dir", str(APPS), "--env-file", "settings"), cwd=tmp_path)
    one.started()
    assert one.request("/env?COLOUR").body == "'grün'"
    assert one.request("/path").body == repr((str(APPS), [], str(tmp_path)))


def test_without_app_dir_the_working_directory_is_looked_in(worker):
    one = worker(**command("full:app"))
    one.started()
    assert one.request("/path").body == repr(("", [], str(APPS)))


def test_a_log_config_is_set_up_before_the_app_is_imported(worker, tmp_path):
    """As uvicorn does it: what the app then changes stays changed."""
    (tmp_path / "main.py").write_text(
        "import logging\nlogging.getLogger('uvicorn.error').info('from the import')\nfrom full import app\n"
    )
    (tmp_path / "log.json").write_text(
        json.dumps(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"own": {"format": "own: %(message)s"}},
                "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
                "loggers": {"uvicorn.error": {"handlers": ["own"], "level": "INFO", "propagate": False}},
            }
        )
    )
    one = worker(**command("main:app", "--log-config", "log.json"), cwd=tmp_path, env={"PYTHONPATH": str(APPS)})
    one.started()
    assert "own: from the import" in one.output()


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["full:app", "--prot", "80"], "No such option"),
        (["full:app", "--port", "eighty"], "'eighty' is not a valid integer"),
        ([], "Missing argument 'APP'"),
        (["full:app", "--reload"], "uvicorn --reload is for development"),
        (["--version"], "prints something and serves nothing"),
    ],
)
def test_a_command_that_cannot_be_is_refused_in_uvicorns_words(worker, argv, text):
    one = worker(**command(*argv))
    failed = one.wait("failed")
    assert failed["stage"] == "options"
    assert text.lower() in failed["text"].lower()
    assert one.exit_code() == 3


def test_limit_max_requests_recycles_instead_of_ending(worker, public):
    one = worker(**command("full:app", "--limit-max-requests", "2"))
    one.started()
    listener = public()
    one.accept("web:0", listener)
    for _ in range(4):
        one.request("/", to=listener)
    one.wait("recycle", reason="max_requests")
    assert one.request("/", to=listener).status == 200


def test_the_commands_graceful_timeout_holds(worker, public):
    one = worker(**command("full:app", "--timeout-graceful-shutdown", "0"), graceful_timeout=DEADLINE * 2)
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with one.connect(listener) as stuck:
        stuck.send("/stubborn")
        one.wait_meters(lambda now: now.in_flight == 1)
        one.drain()
        assert one.exit_code() == 0


# -- interfaces -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields", [{"target": "full:wsgi"}, command("full:wsgi", "--interface", "wsgi"), command("full:wsgi")]
)
def test_a_wsgi_app_is_served_in_threads(worker, public, fields):
    one = worker(**fields)
    assert one.started()["interface"] == "wsgi"
    listener = public()
    one.accept("web:0", listener)
    answer = one.request("/hello", to=listener)
    assert answer.body.startswith("wsgi /hello in WSGI")
    assert one.wait_meters(lambda now: now.requests == 1).classes == (0, 1, 0, 0, 0)
    with one.connect(listener) as idle:
        idle.get()
        one.drain()
        assert idle.get().closes
    assert one.exit_code() == 0


def test_wsgi_without_a2wsgi_says_what_to_type(worker, tmp_path):
    (tmp_path / "a2wsgi.py").write_text("raise ModuleNotFoundError('not here', name='a2wsgi')\n")
    one = worker("full:wsgi", env={"PYTHONPATH": str(tmp_path)})
    failed = one.wait("failed")
    assert failed["stage"] == "options"
    assert "-m pip install a2wsgi" in failed["text"]


def test_without_uvicorn_it_says_what_to_type_and_what_is_there(worker, tmp_path):
    (tmp_path / "uvicorn.py").write_text("raise ModuleNotFoundError(\"No module named 'uvicorn'\", name='uvicorn')\n")
    one = worker(env={"PYTHONPATH": str(tmp_path)})
    failed = one.wait("failed")
    assert failed["stage"] == "engine"
    assert "uvicorn is not installed in" in failed["text"]
    assert "-m pip install uvicorn" in failed["text"]
    assert "gunicorn" in failed["text"]


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_every_http_implementation_is_a_lame_duck(worker, public, gate, http):
    one = worker(options={"http": http})
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with one.connect(listener) as idle, one.connect(listener) as silent, one.connect(listener) as busy:
        idle.get()
        busy.send(f"/gate?{gate}")
        one.wait_meters(lambda now: now.in_flight == 1 and now.connections == 3)
        one.drain()
        gate.touch()
        assert [idle.get().closes, silent.get().closes, busy.answer().closes] == [True] * 3
    assert one.exit_code() == 0
    assert one.wait("drained")["closed"] == 0


@pytest.mark.parametrize("options", [{"http": "h11"}, {"http": "httptools"}, {"reset_contextvars": True}], ids=str)
def test_every_way_to_serve_a_request_is_counted(worker, public, options):
    one = worker(options=options)
    one.started()
    listener = public()
    one.accept("web:0", listener)
    assert one.request("/seen", to=listener).status == 200
    one.wait_meters(lambda now: now.classes == (0, 1, 0, 0, 0) and not now.in_flight)


def test_a_pipelined_request_is_answered_before_the_connection_ends(worker, public, gate):
    """Both were sent before the drain: the first answer must not end the connection under the second."""
    one = worker()
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with socket.create_connection(listener.getsockname(), DEADLINE) as client:
        client.sendall(b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n")
        first = b""
        while b"GET /first" not in first:
            piece = client.recv(1000)
            assert piece, first
            first += piece
        client.sendall(f"GET /gate?{gate} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        one.wait_meters(lambda now: now.in_flight == 1)
        one.drain()
        gate.touch()
        answered = b""
        while piece := client.recv(1000):
            answered += piece
        assert b"connection: close" in answered
        assert b"through the gate" in answered


# -- websockets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ws", ["websockets-sansio", "wsproto"])
def test_a_websocket_is_told_to_come_back_when_the_linger_ends(worker, public, ws):
    one = worker(options={"ws": ws}, linger=0.3)
    one.started()
    listener = public()
    one.accept("web:0", listener)
    host, port = listener.getsockname()
    with connect(f"ws://{host}:{port}/chat") as client:
        client.send("before")
        assert client.recv(DEADLINE) == "before"
        assert one.report()["connections"] == 1
        one.drain()
        client.send("while draining")
        assert client.recv(DEADLINE) == "while draining"
        with pytest.raises(ConnectionClosed):
            client.recv(DEADLINE)
        assert client.close_code == 1012
    assert one.exit_code() == 0
    assert "websocket ended with 1012" in one.output()
    assert one.wait("drained")["closed"] == 1
    assert one.read_meters().requests == 0


def test_a_websocket_that_ends_itself_ends_the_drain(worker, public):
    one = worker(linger=DEADLINE * 2, graceful_timeout=DEADLINE * 2)
    one.started()
    listener = public()
    one.accept("web:0", listener)
    host, port = listener.getsockname()
    with connect(f"ws://{host}:{port}/chat") as client:
        client.send("hello")
        client.recv(DEADLINE)
        one.drain()
    assert one.exit_code() == 0
    assert one.wait("drained")["closed"] == 0


# -- TLS, logs --------------------------------------------------------------------------------------------------------


def test_tls_outside_and_none_on_the_private_listener(worker, public):
    one = worker(ssl_certfile=str(PEM), ssl_keyfile=str(PEM))
    one.started()
    listener = public()
    one.accept("web:0", listener)
    # A probe sees what a client sees: an app must not send it to https.
    assert one.request("/health").body == "GET /health https"
    context = ssl.create_default_context(cafile=str(PEM))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with socket.create_connection(listener.getsockname(), DEADLINE) as plain, context.wrap_socket(plain) as client:
        client.sendall(b"GET /secret HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"GET /secret https" in client.recv(4000) + client.recv(4000)
        one.drain()
        client.sendall(b"GET /again HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while piece := client.recv(4000):
            answer += piece
        assert b"connection: close" in answer
        assert b"GET /again https" in answer
    assert one.exit_code() == 0


@pytest.mark.parametrize("setting", ["text", "json"])
def test_the_access_log_is_on_stdout(worker, public, setting):
    one = worker(access_log=setting)
    one.started()
    listener = public()
    one.accept("web:0", listener)
    one.request("/health")
    one.request("/a%0Ab?c=d", to=listener, X_Forwarded_For="203.0.113.7")
    line = wait_until(lambda: next((line for line in one.output().splitlines() if "c=d" in line), ""), one.story)
    if setting == "json":
        said = json.loads(line)
        assert (said["client"], said["method"], said["path"], said["status"]) == (
            "203.0.113.7",
            "GET",
            "/a%0Ab?c=d",
            200,
        )
    else:
        assert line.startswith('203.0.113.7 "GET /a%0Ab?c=d HTTP/1.1" 200 ')
    assert "/health" not in one.output()


def test_the_access_log_in_a_file_is_opened_anew(worker, public, tmp_path):
    path, old = tmp_path / "access.log", tmp_path / "access.log.1"
    one = worker(access_log=str(path))
    one.started()
    listener = public()
    one.accept("web:0", listener)
    one.request("/first", to=listener)
    wait_until(lambda: "/first" in path.read_text(), "the first line")
    path.rename(old)
    one.signal(signal.SIGUSR1)
    wait_until(path.exists, "the new file")
    one.request("/second", to=listener)
    wait_until(lambda: "/second" in path.read_text(), "the second line")
    assert "/second" not in old.read_text()


def test_no_access_log_is_the_default_of_an_app(worker, public):
    one = worker()
    one.started()
    listener = public()
    one.accept("web:0", listener)
    one.request("/seen", to=listener)
    one.drain()
    assert one.exit_code() == 0
    assert "/seen" not in one.output()


def test_an_unlimited_stream_is_told_through_uvicorns_own_hook(worker, public, tmp_path):
    """sse-starlette and its like look for the server behind the signal handler and end their streams when it exits."""
    (tmp_path / "main.py").write_text(
        "import asyncio, signal\n"
        "from full import app as full\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': return await full(scope, receive, send)\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    server = signal.getsignal(signal.SIGTERM).__self__\n"
        "    while not server.should_exit:\n"
        "        await send({'type': 'http.response.body', 'body': b'tick ', 'more_body': True})\n"
        "        await asyncio.sleep(0.02)\n"
        "    await send({'type': 'http.response.body', 'body': b'bye'})\n"
    )
    env = {"PYTHONPATH": str(APPS)}
    one = worker("main:app", cwd=tmp_path, env=env, linger=0.2, graceful_timeout=DEADLINE * 2)
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with one.connect(listener) as client:
        client.send("/events")
        one.wait_meters(lambda now: now.in_flight == 1)
        one.drain()
        assert client.answer().body.endswith("bye")
    assert one.exit_code() == 0


def test_nothing_fails_while_listeners_are_lent_and_taken_back_under_load(worker, public):
    """Two workers of one listener, which goes to and fro between them; every request is answered."""
    ones = [worker(), worker()]
    for one in ones:
        one.started()
    listener = public()
    ones[0].accept("web:0", listener)
    failures: list[object] = []
    answered = [0]
    over = threading.Event()

    def hammer() -> None:
        while not over.is_set():
            try:
                with ones[0].connect(listener) as client:
                    for _ in range(3):
                        assert client.get("/").status == 200
                        answered[0] += 1
            except Exception as error:  # noqa: BLE001 - whatever it is, it is a lost request
                failures.append(error)

    threads = [threading.Thread(target=hammer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(20):
        ones[(turn + 1) % 2].accept("web:0", listener)
        ones[turn % 2].release("web:0")
    over.set()
    # The last turn has left it with the first.
    for thread in threads:
        thread.join()
    assert failures == []
    assert answered[0] > 20
    assert os.getpid() not in {one.pid for one in ones}
