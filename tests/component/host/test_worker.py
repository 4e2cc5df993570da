"""A worker over the wire: booted, given and taken listeners, asked, drained, stopped, left alone."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from http.client import RemoteDisconnected

import pytest

from support.waiting import DEADLINE, wait_until

LOOPS = ["asyncio", "uvloop"]


@pytest.fixture(params=LOOPS)
def looped(request, worker):
    """Return `worker` with each event loop in turn."""

    def start(*args, **fields):
        return worker(*args, **{"options": {"loop": request.param}, **fields})

    return start


# -- booting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loop", LOOPS)
def test_it_starts_and_says_with_what(worker, loop):
    one = worker(options={"loop": loop})
    started = one.started()
    assert (started["interface"], started["engine"], started["loop"]) == ("asgi", "uvicorn", loop)
    assert started["engine_version"].count(".") == 2
    assert started["seconds"] > 0
    assert one.read_meters().state.name == "STARTED"
    assert one.request("/health").body == "GET /health http"


def test_it_is_not_started_before_the_apps_startup_is_over(worker, gate):
    one = worker(env={"SLOW_STARTUP": str(gate)})
    wait_until(lambda: "starting" in one.output(), one.story)
    one.wait_meters(lambda now: now.ticks > 1, "ticks while the app starts")
    assert [message for message in one.look() if message["kind"] == "started"] == []
    gate.touch()
    one.started()
    assert "startup done" in one.output()


def test_a_listener_that_comes_early_waits_for_the_startup(worker, public, gate):
    one = worker(env={"SLOW_STARTUP": str(gate)})
    listener = public()
    one.tell("accept", [listener.fileno()], key="web:0")
    gate.touch()
    one.wait("accepting", key="web:0")
    kinds = [message["kind"] for message in one.messages]
    assert kinds.index("started") < kinds.index("accepting")
    assert one.request("/", to=listener).status == 200


def test_an_app_whose_startup_fails_ends_with_the_reason(worker):
    one = worker(env={"FAIL_LIFESPAN": "1"})
    failed = one.wait("failed")
    assert failed["stage"] == "startup"
    assert "RuntimeError: the database is away" in failed["text"]
    assert "Traceback (most recent call last)" in failed["traceback"]
    assert one.exit_code() == 3
    assert "the database is away" in one.output()


@pytest.mark.parametrize(
    ("fields", "stage", "text"),
    [
        ({"target": "ful:app"}, "import", "did you mean full:app?"),
        ({"target": "full:ap"}, "import", "full has no attribute 'ap'; it has: app (an ASGI app)"),
        ({"engine": "uvicron"}, "engine", "there is no engine 'uvicron'"),
        ({"options": {"proxy_header": True}}, "options", "did you mean proxy_headers?"),
        ({"options": {"port": 80}}, "options", "use the key bind"),
        ({"options": {"http": "h33"}}, "options", "does not take these options"),
        ({"ssl_certfile": "/nowhere.pem"}, "options", "No such file"),
        ({"access_log": "/nowhere/access.log"}, "options", "/nowhere/access.log cannot be opened"),
    ],
)
def test_a_boot_that_cannot_be_says_why(worker, fields, stage, text):
    one = worker(**fields)
    failed = one.wait("failed")
    assert failed["stage"] == stage
    assert text in failed["text"]
    assert one.exit_code() == 3
    assert failed["text"].splitlines()[0] in one.output()


def test_an_import_that_fails_shows_the_apps_own_traceback(worker, tmp_path):
    (tmp_path / "main.py").write_text("import helper\n")
    (tmp_path / "helper.py").write_text("setting = 1\nvalue = settings\n")
    one = worker("main:app", cwd=tmp_path)
    failed = one.wait("failed")
    assert failed["text"].startswith(f"importing main failed at {tmp_path}/helper.py:2: NameError")
    lines = failed["traceback"].splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == f'  File "{tmp_path}/main.py", line 1, in <module>'
    assert one.exit_code() == 3
    assert failed["traceback"] in one.output()


def test_a_missing_dependency_is_told_from_a_missing_app(worker, tmp_path):
    (tmp_path / "main.py").write_text("import no_such_library\n")
    failed = worker("main:app", cwd=tmp_path).wait("failed")
    assert f"{tmp_path}/main.py:1 imports 'no_such_library'" in failed["text"]
    assert sys.executable in failed["text"]


# -- what the app sees ------------------------------------------------------------------------------------------------


def test_the_app_sees_a_python_as_python_m_has_it(worker, tmp_path):
    """No directory of Oxherd's on the path, the app's own first, and names of the host are the app's to use."""
    for name in ("wire", "worker", "engines"):
        (tmp_path / f"{name}.py").write_text("MINE = True\n")
    (tmp_path / "main.py").write_text(
        "import sys, wire, worker, engines\n"
        "from full import app\n"
        "assert wire.MINE and worker.MINE and engines.MINE\n"
        "print(sys.argv, flush=True)\n"
    )
    apps = os.path.join(os.path.dirname(__file__), "apps")
    one = worker("main:app", cwd=tmp_path, env={"PYTHONPATH": apps})
    one.started()
    assert one.request("/path").body == repr((str(tmp_path), [], str(tmp_path)))
    assert "['uvicorn', 'main:app']" in one.output()


def test_what_the_app_starts_inherits_nothing(worker, public):
    one = worker()
    one.started()
    one.accept("web:0", public())
    assert "True" not in one.request("/fds").body


def test_the_control_thread_is_none_of_the_apps(worker):
    one = worker()
    one.started()
    assert one.request("/threads").body == "['MainThread']"


def test_the_app_may_spawn_processes(worker):
    """multiprocessing's "spawn" imports the main script in the child: it must not boot again."""
    one = worker()
    one.started()
    assert one.request("/spawn").body == "5"


def test_its_title_says_who_it_is(worker):
    one = worker()
    one.started()
    with open(f"/proc/{one.pid}/cmdline", encoding="utf-8") as file:
        assert file.read().rstrip("\0") == "oxherd: test web:0"


# -- listeners --------------------------------------------------------------------------------------------------------


def test_listeners_come_and_go(looped, public):
    one = looped()
    one.started()
    first, second, third = public(), public(), public("::1")
    for key, listener in (("web:0", first), ("web:1", second), ("web:2", third)):
        one.accept(key, listener)
        assert one.request(f"/{key}", to=listener).body == f"GET /{key} http"
    with one.connect(second) as kept:
        kept.get()
        one.release("web:1")
        # Nobody accepts: what comes now waits in the queue, which the supervisor keeps.
        with one.connect(second) as waiting:
            waiting.send("/queued")
            assert kept.get("/kept").body == "GET /kept http"
            assert one.request("/", to=first).status == 200
            one.accept("web:1", second)
            assert waiting.answer().body == "GET /queued http"


def test_a_released_listener_is_closed_here(looped, public):
    one = looped()
    one.started()
    listener = public()
    inode = os.stat(f"/proc/self/fd/{listener.fileno()}").st_ino

    def holds() -> bool:
        fds = f"/proc/{one.pid}/fd"
        return any(os.readlink(f"{fds}/{fd}") == f"socket:[{inode}]" for fd in os.listdir(fds))

    one.accept("web:0", listener)
    assert holds()
    one.release("web:0")
    assert not holds()
    one.release("web:0")
    one.release("unknown")


def test_a_unix_listener_is_served(looped, tmp_path):
    one = looped()
    one.started()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "public"))
        listener.listen()
        one.accept("web", listener)
        assert one.request("/", to=listener).status == 200


def test_what_is_no_listener_is_refused(looped, public):
    one = looped()
    one.started()
    pipe = os.pipe()
    one.tell("accept", [pipe[0]], key="pipe")
    for fd in pipe:
        os.close(fd)
    assert one.wait("refused", key="pipe")["text"]
    listener = public()
    one.accept("web:0", listener)
    assert one.request("/", to=listener).status == 200


def test_accepted_connections_do_not_wait_for_nagle(looped, public):
    one = looped()
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with one.connect(listener) as client:
        client.get()
        fds = [int(fd) for fd in os.listdir(f"/proc/{one.pid}/fd")]
        pidfd = os.pidfd_open(one.pid)
        found = []
        for fd in fds:
            with socket.socket(fileno=_borrow(pidfd, fd)) if _is_socket(one.pid, fd) else socket.socket() as there:
                if there.family == socket.AF_INET and _peer(there) == client.socket.getsockname():
                    found.append(there.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        os.close(pidfd)
    assert found == [1]


def _is_socket(pid: int, fd: int) -> bool:
    return os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:")


def _borrow(pidfd: int, fd: int) -> int:
    import ctypes

    return ctypes.CDLL(None, use_errno=True).syscall(438, pidfd, fd, 0)


def _peer(one: socket.socket) -> object:
    try:
        return one.getpeername()
    except OSError:
        return None


# -- meters and reports -----------------------------------------------------------------------------------------------


def test_it_measures_what_comes_from_outside(worker, public, gate):
    one = worker()
    one.started()
    listener = public()
    one.accept("web:0", listener)
    one.request("/health")
    for path in ("/", "/status?404", "/status?503", "/raise"):
        one.request(path, to=listener)
    with one.connect(listener) as client:
        client.send(f"/gate?{gate}")
        reading = one.wait_meters(lambda now: now.in_flight == 1 and now.connections == 1)
        report = one.report()
        assert [(each["method"], each["path"]) for each in report["in_flight"]] == [("GET", "/gate")]
        assert report["connections"] == 1
        gate.touch()
        client.answer()
        reading = one.wait_meters(lambda now: not now.in_flight)
    assert reading.classes == (0, 2, 0, 1, 2)
    assert (reading.requests, sum(reading.latency)) == (5, 5)
    assert one.wait_meters(lambda now: not now.connections).ticks > 0


def test_a_blocked_loop_shows_its_stacks_and_its_request(worker, public, gate):
    one = worker()
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with one.connect(listener) as client:
        client.send(f"/block?{gate}")
        wait_until(lambda: "blocking" in one.output(), one.story)
        ticked_at, began = one.read_meters().ticked_at, time.monotonic()
        one.signal(signal.SIGRTMIN + 5)
        wait_until(lambda: "full.py" in one.dump_text(), one.dump_text)
        wait_until(lambda: time.monotonic() - began > 0.3, "time to pass without a tick")
        assert one.read_meters().ticked_at == ticked_at
        gate.touch()
        assert client.answer().body == "no longer blocked"
    one.wait_meters(lambda now: now.ticked_at > ticked_at and sum(now.lag[7:]) > 0, "a late tick")


def test_it_asks_to_be_recycled_once(worker, public):
    one = worker(max_requests=3)
    one.started()
    listener = public()
    one.accept("web:0", listener)
    for _ in range(5):
        one.request("/", to=listener)
    one.wait("recycle", reason="max_requests")
    ticks = one.read_meters().ticks
    one.wait_meters(lambda now: now.ticks > ticks + 2)
    assert [message["kind"] for message in one.look()].count("recycle") == 1
    assert one.request("/", to=listener).status == 200


def test_a_worker_without_a_log_file_survives_the_call_to_reopen_it(worker):
    one = worker()
    one.started()
    one.signal(signal.SIGUSR1)
    assert one.request("/").status == 200
    assert one.is_alive()


# -- leaving ----------------------------------------------------------------------------------------------------------


def test_a_lame_duck_answers_everyone_it_has(looped, public, gate):
    """Idle, silent, in flight and streaming connections are all answered; new ones wait for the next worker."""
    one = looped()
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with (
        one.connect(listener) as idle,
        one.connect(listener) as silent,
        one.connect(listener) as busy,
        one.connect(listener) as streaming,
    ):
        idle.get()
        busy.send(f"/gate?{gate}")
        streaming.send(f"/stream?{gate}")
        one.wait_meters(lambda now: now.in_flight == 2 and now.connections == 4)
        one.drain()
        assert one.read_meters().state.name == "DRAINING"
        with one.connect(listener) as late:
            late.send("/late")
            for client in (idle, silent):
                answer = client.get("/after")
                assert (answer.body, answer.closes) == ("GET /after http", True)
                assert client.ended()
            assert one.request("/health").body == "GET /health http"
            gate.touch()
            answer = busy.answer()
            assert (answer.body, answer.closes) == ("through the gate", True)
            assert streaming.answer().body == "first last"
            streaming.close()
            assert one.exit_code() == 0
            drained = one.wait("drained")
            assert drained["closed"] == 0
            assert drained["seconds"] > 0
            # The next worker has it.
            two = looped()
            two.started()
            two.accept("web:0", listener)
            assert late.answer().body == "GET /late http"
    assert "shutdown done" in one.output()
    assert one.read_meters().state.name == "DONE"


def test_what_stays_silent_is_closed_after_the_linger(looped, public):
    one = looped(linger=0.3, keepalive=60)
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with one.connect(listener) as idle, one.connect(listener) as silent:
        idle.get()
        one.wait_meters(lambda now: now.connections == 2)
        one.drain()
        assert idle.ended()
        assert silent.ended()
        assert one.wait("drained")["closed"] == 2
        assert one.exit_code() == 0


def test_a_second_sigterm_skips_the_linger(looped, public, gate):
    one = looped(linger=DEADLINE * 2, graceful_timeout=DEADLINE * 2, keepalive=DEADLINE * 2)
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with one.connect(listener) as idle, one.connect(listener) as busy:
        idle.get()
        busy.send(f"/gate?{gate}")
        one.wait_meters(lambda now: now.connections == 2 and now.in_flight == 1)
        one.drain()
        one.signal(signal.SIGTERM)
        assert idle.ended()
        gate.touch()
        assert busy.answer().body == "through the gate"
        assert one.exit_code() == 0


def test_what_takes_too_long_is_cancelled_at_the_graceful_timeout(looped, public):
    one = looped(linger=0.1, graceful_timeout=0.5)
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with one.connect(listener) as stuck:
        stuck.send("/stubborn")
        one.wait_meters(lambda now: now.in_flight == 1)
        one.drain()
        assert one.exit_code() == 0
    assert "cancelled" in one.output()
    assert "shutdown done" in one.output()
    assert one.wait("drained")["closed"] == 1
    assert one.read_meters().aborted == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_it_stops_quickly_when_told_to(looped, public, number):
    one = looped(linger=DEADLINE * 2, graceful_timeout=DEADLINE * 2)
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with one.connect(listener) as stuck:
        stuck.send("/stubborn")
        one.wait_meters(lambda now: now.in_flight == 1)
        one.signal(number)
        assert one.exit_code() == 0
    assert "shutdown done" in one.output()


def test_it_leaves_at_once_while_it_starts(looped, gate):
    one = looped(env={"SLOW_STARTUP": str(gate)})
    wait_until(lambda: "starting" in one.output(), one.story)
    one.signal(signal.SIGTERM)
    assert one.exit_code() == 0
    assert "startup done" not in one.output()


def test_a_drain_without_connections_is_over_at_once(looped):
    one = looped(linger=DEADLINE * 2, graceful_timeout=DEADLINE * 2)
    one.started()
    with one.connect() as probe:
        probe.get("/health")  # a probe that stays connected holds nobody up
        one.drain()
        assert one.exit_code() == 0


def test_a_draining_worker_refuses_listeners(worker, public, gate):
    one = worker()
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with one.connect(listener) as busy:
        busy.send(f"/gate?{gate}")
        one.wait_meters(lambda now: now.in_flight == 1)
        one.drain()
        one.tell("accept", [public().fileno()], key="web:1")
        assert "draining" in one.wait("refused", key="web:1")["text"]
        one.release("web:0")
        gate.touch()
        assert busy.answer().closes


def test_an_app_that_ends_the_process_keeps_its_exit_code(worker, tmp_path):
    (tmp_path / "main.py").write_text(
        "import os\nfrom full import app as full\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http': os._exit(42)\n"
        "    await full(scope, receive, send)\n"
    )
    one = worker("main:app", cwd=tmp_path, env={"PYTHONPATH": os.path.join(os.path.dirname(__file__), "apps")})
    one.started()
    with pytest.raises((RemoteDisconnected, ConnectionResetError)):
        one.request("/")
    assert one.exit_code() == 42


# -- without a supervisor ---------------------------------------------------------------------------------------------


def test_it_serves_on_when_the_supervisor_dies(looped, public):
    one = looped()
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with one.connect(listener) as kept:
        kept.get()
        one.hang_up()
        for _ in range(3):
            assert kept.get().status == 200
            assert one.request("/", to=listener).status == 200
        ticks = one.read_meters().ticks
        one.wait_meters(lambda now: now.ticks > ticks + 2)
        one.signal(signal.SIGTERM)
        assert kept.get().closes
    assert one.exit_code() == 0
    assert "Traceback" not in one.output()


def test_what_it_cannot_read_it_passes_over(worker, public):
    """A newer supervisor says things an older worker does not know; garbage is nobody's."""
    one = worker()
    one.started()
    one.tell("dance", key="web:0")
    one.channel.send(b"\xff\xfe not json")
    one.channel.send(b"[]")
    one.channel.send(b"x" * 100_000)
    one.tell("accept", key="no descriptor")
    one.wait("refused", key="no descriptor")
    listener = public()
    one.accept("grün:0", listener)
    assert one.request("/", to=listener).status == 200
    assert "Traceback" not in one.output()


def test_bytes_that_are_no_http_get_400(looped, public):
    one = looped()
    one.started()
    listener = public()
    one.accept("web:0", listener)
    with socket.create_connection(listener.getsockname(), DEADLINE) as client:
        client.sendall(b"\x16\x03\x01\x00\xa5\x01\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 400")
    assert one.request("/gr%C3%BCn", to=listener).status == 200


# -- the garbage collector --------------------------------------------------------------------------------------------

COLLECTOR = """
import gc
{setting}
async def app(scope, receive, send):
    if scope["type"] != "http":
        await receive()
        await send({{"type": "lifespan.startup.complete"}})
        await receive()
        await send({{"type": "lifespan.shutdown.complete"}})
        return
    body = f"{{gc.get_threshold()[0]}} {{gc.isenabled()}} {{gc.get_freeze_count() > 0}}".encode()
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": body}})
"""


@pytest.mark.parametrize(
    "case",
    [
        ("", "10000 True True"),
        ("gc.set_threshold(50, 5, 5)", "50 True True"),
        ("gc.disable()", "10000 False True"),
    ],
)
@pytest.mark.parametrize("way", ["exec", "fork"])
def test_the_collector_looks_seldom_and_leaves_the_import_alone_unless_the_app_says_otherwise(
    worker, zygote, tmp_path, case, way
):
    setting, seen = case
    (tmp_path / "main.py").write_text(COLLECTOR.format(setting=setting))
    if way == "exec":
        one = worker("main:app", cwd=tmp_path)
    else:
        parent = zygote("main:app", cwd=tmp_path)
        parent.ready()
        one = parent.fork(0)
    one.started()
    assert one.request("/").body == seen
