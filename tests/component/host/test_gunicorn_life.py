"""gunicorn's configuration, hooks and worker classes where Oxherd hosts them: real workers of real apps."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import time
from pathlib import Path

import pytest

from support.hosting import Client, HostedWorker, HostedZygote, job, listener
from support.waiting import DEADLINE, wait_until
from support.web import APPS as WEB_APPS

APPS = Path(__file__).parent / "apps" / "gunicorn_sites"
CERTIFICATE = Path(__file__).parents[2] / "support" / "localhost.pem"

HOOKS = """
def note(name):
    def hook(*arguments):
        print("hook", name, [type(one).__name__ for one in arguments], flush=True)
    return hook

for name in ("on_starting", "when_ready", "pre_fork", "post_fork", "post_worker_init", "worker_int", "worker_exit",
             "child_exit", "pre_request", "post_request"):
    globals()[name] = note(name)
# The configuration counts parameters.
on_starting = lambda server: note("on_starting")(server)
when_ready = lambda server: note("when_ready")(server)
pre_fork = lambda server, worker: (note("pre_fork")(server, worker), server.log.info("before the fork"))
post_fork = lambda server, worker: note("post_fork")(server, worker)
post_worker_init = lambda worker: note("post_worker_init")(worker)
worker_int = lambda worker: note("worker_int")(worker)
worker_exit = lambda server, worker: note("worker_exit")(server, worker)
child_exit = lambda server, worker: note("child_exit")(server, worker)
pre_request = lambda worker, req: note("pre_request")(worker, req)
post_request = lambda worker, req, environ, resp: note("post_request")(worker, req)
"""


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


@pytest.fixture
def start(stack):
    def make(*, env=None, target="site_wsgi:app", cwd=APPS, **fields) -> HostedWorker:
        return stack.enter_context(HostedWorker(job("gunicorn", target=target, cwd=cwd, **fields), env=env))

    return make


@pytest.fixture
def command(start):
    """Return a function that hosts a command line of gunicorn."""

    def make(*argv: str, cwd=APPS, **fields) -> HostedWorker:
        return start(source="command", argv=list(argv), target="", cwd=cwd, **fields)

    return make


@pytest.fixture
def public():
    with listener() as made:
        yield made


def failure(worker) -> dict:
    message = worker.wait("failed")
    assert worker.exit_code() == 3
    return message


def over_tls(public) -> ssl.SSLSocket:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context.wrap_socket(socket.create_connection(public.getsockname(), timeout=DEADLINE))


def hooks_in(worker) -> list[str]:
    return [line.split()[1] for line in worker.output().splitlines() if line.startswith("hook ")]


# -- apps ----------------------------------------------------------------------------------------------------------


def test_a_wsgi_app_gets_gthread_with_four_threads(start, public):
    """The default of an app process; `started` says what it became."""
    worker = start()
    started = worker.started()
    assert (started["interface"], started["worker_class"]) == ("wsgi", "gthread")
    worker.accept("web:0", public)
    answer = worker.request("/environ", to=public).body
    assert "'wsgi.multithread': 'True'" in answer
    assert "'SERVER_SOFTWARE': 'gunicorn" in answer


def test_an_asgi_app_gets_gunicorns_own_asgi_worker(start):
    """Found by looking at the app."""
    started = start(target="site_asgi:app").started()
    assert (started["interface"], started["worker_class"]) == ("asgi", "asgi")
    assert started["loop"] in {"asyncio", "uvloop"}


@pytest.mark.parametrize("worker_class", ["uvicorn_worker.UvicornH11Worker", "uvicorn.workers.UvicornWorker"])
def test_uvicorns_workers_in_all_their_forms(start, public, worker_class):
    """Both packages, and the variants."""
    worker = start(target="site_asgi:app", options={"worker_class": worker_class})
    worker.started()
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        client.get("/")
        worker.drain()
        assert client.get("/").closes
    assert worker.exit_code() == 0


def test_a_django_project(command, public):
    """As `gunicorn pages:application` runs it."""
    worker = command("pages:application", "--threads", "3", cwd=WEB_APPS)
    assert worker.started()["worker_class"] == "gthread"
    worker.accept("web:0", public)
    host = f"127.0.0.1:{public.getsockname()[1]}"
    assert str(worker.pid) in worker.request("/health", to=public, Host=host).body
    assert worker.request("/boom", to=public, Host=host).status == 500
    assert "the kettle has boiled over" in worker.output()


def test_a_flask_app_with_its_configuration_file(command, public):
    """`-c`, raw_env before the app is imported, the access log as configured."""
    worker = command("-c", "gunicorn_settings.py", "flasky:app", cwd=WEB_APPS, env={"PORT": "1"})
    worker.started()
    worker.accept("web:0", public)
    assert '"config":"gunicorn_settings"' in worker.request("/health", to=public).body.replace(" ", "")
    wait_until(lambda: '"GET /health HTTP/1.1" 200' in worker.output(), "the access log")


def test_an_expression_names_the_app(command):
    """gunicorn's targets are a language of their own: a call with arguments."""
    worker = command("site_wsgi:create_app('good day', loud=True)")
    worker.started()
    assert worker.request("/").body == "GOOD DAY"


def test_a_module_alone_means_application(command):
    worker = command("site_wsgi")
    worker.started()
    assert worker.request("/x").body == "hello /x"


def test_the_environment_adds_arguments(command):
    """GUNICORN_CMD_ARGS is read as gunicorn reads it."""
    worker = command("site_wsgi", env={"GUNICORN_CMD_ARGS": "--worker-class gthread --env GREETING=hello"})
    assert worker.started()["worker_class"] == "gthread"
    assert worker.request("/os-environ?GREETING").body == "'hello'"


def test_directory_and_search_path(command, tmp_path):
    """--chdir and --pythonpath hold before the app is imported."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "greeting.py").write_text("TEXT = b'from elsewhere'\n")
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "moved.py").write_text(
        "import greeting\ndef app(environ, start):\n    start('200 OK', [])\n    return [greeting.TEXT]\n"
    )
    worker = command(
        "--chdir", str(tmp_path / "inside"), "--pythonpath", str(tmp_path / "elsewhere"), "moved:app", cwd=tmp_path
    )
    worker.started()
    assert worker.request("/").body == "from elsewhere"


def test_a_configuration_file_is_found_for_an_app_process_too(start, tmp_path):
    """./gunicorn.conf.py holds, the options of the oxfile over it."""
    (tmp_path / "gunicorn.conf.py").write_text("threads = 7\nworker_class = 'gthread'\nraw_env = ['A=1']\n")
    (tmp_path / "site_wsgi.py").write_text((APPS / "site_wsgi.py").read_text())
    worker = start(cwd=tmp_path, options={"threads": 2})
    worker.started()
    assert worker.request("/os-environ?A").body == "'1'"


# -- hooks ---------------------------------------------------------------------------------------------------------


def test_hooks_are_called_in_their_order(start, public, tmp_path):
    config = tmp_path / "hooks.py"
    config.write_text(HOOKS)
    worker = start(options={"config": str(config)})
    worker.started()
    worker.accept("web:0", public)
    assert worker.request("/", to=public).status == 200
    worker.drain()
    assert worker.exit_code() == 0
    assert hooks_in(worker) == [
        "on_starting",
        "when_ready",
        "pre_fork",
        "post_fork",
        "post_worker_init",
        "pre_request",
        "post_request",
        "worker_exit",
        "child_exit",
    ]
    assert "before the fork" in worker.output()


def test_a_zygote_calls_on_starting_once(stack, tmp_path):
    """Once a generation; the rest in each worker."""
    config = tmp_path / "hooks.py"
    config.write_text(HOOKS)
    spec = job("gunicorn", target="site_wsgi:app", cwd=APPS, options={"config": str(config)})
    zygote = stack.enter_context(HostedZygote(spec))
    assert zygote.ready()["forkable"]
    workers = [zygote.fork(0), zygote.fork(1)]
    for worker in workers:
        worker.started()
        assert worker.request("/pid").body == str(worker.pid)
        assert "post_fork" in hooks_in(worker)
        assert "on_starting" not in hooks_in(worker)
    assert zygote.output().count("hook on_starting") == 1


def test_worker_int_is_called_on_a_quick_stop(start, tmp_path):
    config = tmp_path / "hooks.py"
    config.write_text(HOOKS)
    worker = start(options={"config": str(config)})
    worker.started()
    worker.signal(signal.SIGINT)
    assert worker.exit_code() == 0
    assert hooks_in(worker)[-3:] == ["worker_int", "worker_exit", "child_exit"]


def test_a_hook_that_fails_is_told_of(start, tmp_path):
    """when_ready of two workers may want the same port: no reason not to serve."""
    config = tmp_path / "hooks.py"
    config.write_text("def when_ready(server):\n    raise OSError('address in use')\n")
    worker = start(options={"config": str(config)})
    worker.started()
    assert "the hook when_ready failed" in worker.output()
    assert "address in use" in worker.output()


def test_post_worker_init_that_fails_is_a_failed_start(start, tmp_path):
    config = tmp_path / "hooks.py"
    config.write_text("def post_worker_init(worker):\n    raise OSError('no cache')\n")
    message = failure(start(options={"config": str(config)}))
    assert message["stage"] == "startup"
    assert "no cache" in message["text"]
    assert "hooks.py" in message["traceback"]


# -- what is measured ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worker_class", ["gthread", "sync", "gevent", "asgi", "uvicorn_worker.UvicornWorker"])
def test_it_ticks_when_idle_and_counts(start, public, worker_class):
    target = "site_asgi:app" if worker_class in {"asgi", "uvicorn_worker.UvicornWorker"} else "site_wsgi:app"
    worker = start(target=target, options={"worker_class": worker_class})
    worker.started()
    worker.accept("web:0", public)
    for _ in range(3):
        assert worker.request("/", to=public).status == 200
    worker.request("/")  # a probe is not counted
    ticks = worker.read_meters().ticks
    reading = worker.wait_meters(lambda reading: reading.ticks >= ticks + 5, "ticks")
    assert (reading.requests, reading.classes[1], reading.in_flight) == (3, 3, 0)


def test_threads_that_are_all_blocked_stop_the_tick(start, public, tmp_path):
    """The poller turns; the worker does not tick, takes no connection, and does both again when a thread is free."""
    worker = start(options={"threads": 2})
    worker.started()
    worker.accept("web:0", public)
    with worker.connect(public) as one, worker.connect(public) as two, worker.connect(public) as three:
        one.send(f"/gate?{tmp_path}/one")
        wait_until(lambda: worker.output().count("in the gate") == 1, "one thread in use")
        ticks = worker.read_meters().ticks
        worker.wait_meters(lambda reading: reading.ticks >= ticks + 3, "ticks with a free thread")
        two.send(f"/gate?{tmp_path}/two")
        wait_until(lambda: worker.output().count("in the gate") == 2, "both threads in use")
        wait_until(lambda: time.monotonic() - worker.read_meters().ticked_at > 1.0, "the tick's absence")
        three.send("/pid")
        with listener() as other:
            # The loop itself is there: it takes a listener, though nobody is accepted on it.
            worker.accept("web:1", other)
        (tmp_path / "one").touch()
        assert one.answer().body == "through the gate"
        assert three.answer().body == str(worker.pid)
        ticks = worker.read_meters().ticks
        worker.wait_meters(lambda reading: reading.ticks >= ticks + 3, "ticks again")
        (tmp_path / "two").touch()
        assert two.answer().status == 200


def test_a_worker_of_sync_that_is_busy_does_not_tick(start, public, tmp_path):
    worker = start(options={"worker_class": "sync"})
    worker.started()
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        client.send(f"/gate?{tmp_path}/gate")
        wait_until(lambda: "in the gate" in worker.output(), "the request")
        wait_until(lambda: time.monotonic() - worker.read_meters().ticked_at > 1.0, "the tick's absence")
        assert worker.report()["in_flight"][0]["path"] == "/gate"
        (tmp_path / "gate").touch()
        assert client.answer().status == 200


def test_statsd(start, public):
    """Each request is counted to the configured address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as statsd:
        statsd.bind(("127.0.0.1", 0))
        statsd.settimeout(DEADLINE)
        worker = start(options={"statsd_host": f"127.0.0.1:{statsd.getsockname()[1]}", "statsd_prefix": "shop"})
        worker.started()
        worker.accept("web:0", public)
        worker.request("/", to=public)
        seen = ""
        while "shop.gunicorn.request.status.200:1|c" not in seen:
            seen += statsd.recv(1000).decode() + "\n"
    assert "shop.gunicorn.request.duration" in seen


def test_the_access_log_is_the_one_of_all_engines(start, public):
    worker = start(access_log="json")
    worker.started()
    worker.accept("web:0", public)
    worker.request("/seen?a=1", to=public)
    wait_until(lambda: '"path": "/seen?a=1", "status": 200' in worker.output(), "the line")


def test_max_requests_asks_for_a_replacement(command, public):
    """gunicorn would let the worker go first; here it serves on until it is told."""
    worker = command("site_wsgi", "--max-requests", "2", "--worker-class", "gthread")
    worker.started()
    worker.accept("web:0", public)
    for _ in range(3):
        assert worker.request("/", to=public).status == 200
    assert worker.wait("recycle")["reason"] == "max_requests"
    assert worker.request("/", to=public).status == 200


# -- TLS -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worker_class", ["gthread", "sync", "gevent", "asgi", "uvicorn_worker.UvicornWorker"])
def test_tls_for_clients_and_none_for_probes(start, public, worker_class):
    """The app sees https either way, so that it does not send a probe elsewhere."""
    asgi = worker_class in {"asgi", "uvicorn_worker.UvicornWorker"}
    worker = start(
        target="site_asgi:app" if asgi else "site_wsgi:app",
        options={"worker_class": worker_class},
        ssl_certfile=str(CERTIFICATE),
        ssl_keyfile=str(CERTIFICATE),
    )
    worker.started()
    worker.accept("web:0", public)
    expected = "'scheme': 'https'" if asgi else "'wsgi.url_scheme': 'https'"
    with over_tls(public) as client:
        client.sendall(b"GET /environ HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        with client.makefile("rb") as answer:
            assert expected in answer.read().decode()
    assert expected in worker.request("/environ").body


def test_tls_that_is_kept_is_told_to_go(start, public):
    worker = start(ssl_certfile=str(CERTIFICATE), ssl_keyfile=str(CERTIFICATE), keepalive=60, linger=60)
    worker.started()
    worker.accept("web:0", public)
    with over_tls(public) as client:
        for closes in (False, True):
            client.sendall(b"GET /pid HTTP/1.1\r\nHost: test\r\n\r\n")
            answer = client.recv(65536)
            while not answer.endswith(str(worker.pid).encode()):
                answer += client.recv(65536)
            assert (b"connection: close" in answer.lower()) is closes
            if not closes:
                worker.drain()
    assert worker.exit_code() == 0


def test_a_certificate_that_is_not_there(start):
    message = failure(start(ssl_certfile="/nowhere.pem", ssl_keyfile="/nowhere.pem"))
    assert (message["stage"], message["text"]) == ("options", 'certfile "/nowhere.pem" does not exist')


# -- listeners -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("worker_class", ["gthread", "sync", "gevent", "asgi", "uvicorn_worker.UvicornWorker"])
def test_listeners_come_and_go(start, public, worker_class):
    """Also one that is bound and not listening yet; what is given up is closed and its connections stay."""
    target = "site_asgi:app" if worker_class in {"asgi", "uvicorn_worker.UvicornWorker"} else "site_wsgi:app"
    worker = start(target=target, options={"worker_class": worker_class}, keepalive=60)
    worker.started()
    with listener(listening=False) as fresh, listener("::1") as six:
        for key, one in (("web:0", public), ("web:1", fresh), ("web:2", six)):
            worker.accept(key, one)
            assert worker.request("/pid", to=one).body == str(worker.pid)
        with worker.connect(public) as kept:
            if worker_class != "sync":
                kept.get("/")
                worker.release("web:0")
                assert kept.get("/pid").body == str(worker.pid)
            else:
                kept.close()
                worker.release("web:0")
        inodes = {os.stat(path).st_ino for path in Path(f"/proc/{worker.pid}/fd").iterdir() if path.exists()}
        assert os.fstat(public.fileno()).st_ino not in inodes
        worker.release("web:0")
        worker.accept("web:0", public)
        assert worker.request("/pid", to=public).body == str(worker.pid)


@pytest.mark.parametrize("worker_class", ["gthread", "sync", "gevent", "asgi", "uvicorn_worker.UvicornWorker"])
def test_nothing_is_lost_while_a_listener_is_handed_about(start, public, worker_class):
    """Two workers take turns at one listener; each request is answered, whoever has it."""
    target = "site_asgi:app" if worker_class in {"asgi", "uvicorn_worker.UvicornWorker"} else "site_wsgi:app"
    workers = [start(target=target, options={"worker_class": worker_class}) for _ in range(2)]
    for worker in workers:
        worker.started()
    workers[0].accept("web:0", public)
    seen = set()
    for turn in range(10):
        giving, taking = workers[turn % 2], workers[1 - turn % 2]
        with contextlib.ExitStack() as asked:
            clients = []
            for half in range(2):
                for _ in range(3):
                    clients.append(asked.enter_context(Client(public.getsockname())))
                    clients[-1].send("/pid")
                if not half:
                    taking.accept("web:0", public)
                    giving.release("web:0")
            seen |= {int(client.answer().body) for client in clients}
    assert seen == {worker.pid for worker in workers}


def test_a_leaving_worker_refuses_a_listener(start, public):
    worker = start(keepalive=60, linger=60, graceful_timeout=60)
    worker.started()
    worker.accept("web:0", public)
    with worker.connect(public) as client, listener() as late:
        client.get("/")
        worker.drain()
        worker.tell("accept", [late.fileno()], key="web:1")
        assert "leaving" in worker.wait("refused", key="web:1")["text"]


@pytest.mark.parametrize("worker_class", ["SelectWorker", "LoopWorker"])
def test_a_class_nobody_knows_takes_listeners_too(start, public, worker_class):
    """Put under its feet, whether it selects or has an event loop; it ticks, and leaves with 0."""
    worker = start(options={"worker_class": f"own_workers.{worker_class}"})
    worker.started()
    assert worker.request("/").body == "ok"
    for _ in range(2):
        worker.accept("web:0", public)
        assert worker.request("/", to=public).body == "ok"
        worker.release("web:0")
    ticks = worker.read_meters().ticks
    worker.wait_meters(lambda reading: reading.ticks >= ticks + 5, "ticks")
    with listener() as other:
        worker.accept("web:1", other)
        worker.accept("web:0", public)
        assert worker.request("/", to=other).body == "ok"
        worker.drain()
        with worker.connect(public) as late:
            late.send("/")
            successor = start(options={"worker_class": f"own_workers.{worker_class}"})
            successor.started()
            successor.accept("web:0", public)
            assert late.answer().body == "ok"
    assert worker.exit_code() == 0


def test_a_class_nobody_knows_keeps_what_is_connected_for_the_linger(start, public):
    worker = start(options={"worker_class": "own_workers.LoopWorker"}, linger=60, graceful_timeout=60)
    worker.started()
    worker.accept("web:0", public)
    with worker.connect(public) as client:
        client.get("/")
        worker.drain()
        assert client.get("/").status == 200
    assert worker.exit_code() == 0


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"thread": 3}, "has no option 'thread'; did you mean threads?"),
        ({"workers": 3}, "server_options.workers is Oxherd's to set; use the key workers"),
        ({"threads": "many"}, "server_options.threads = 'many': "),
        ({"worker_class": "nowhere.Worker"}, "the worker class 'nowhere.Worker' cannot be used"),
        ({"config": "nowhere.py"}, "'nowhere.py' doesn't exist"),
    ],
)
def test_options_that_are_wrong(start, options, text):
    message = failure(start(options=options))
    assert message["stage"] == "options"
    assert text in message["text"]


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--no-such-option", "site_wsgi"], "unrecognized arguments: --no-such-option"),
        ([], "No application module specified."),
        (["--version"], "gunicorn --version prints something and serves nothing"),
        (["--check-config", "site_wsgi"], "--check-config checks and serves nothing; run it yourself"),
        (["--graceful-timeout", "soon", "site_wsgi"], "argument --graceful-timeout: invalid"),
    ],
)
def test_command_lines_that_are_wrong(command, argv, text):
    """The text is gunicorn's own."""
    message = failure(command(*argv))
    assert message["stage"] == "options"
    assert text in message["text"]


def test_a_configuration_file_that_fails(command, tmp_path):
    (tmp_path / "broken.py").write_text("import os\nbind = os.environ['NOT_THERE']\n")
    message = failure(command("-c", str(tmp_path / "broken.py"), "site_wsgi"))
    assert "Failed to read config file" in message["text"]
    assert "broken.py" in message["text"]
    assert "KeyError: 'NOT_THERE'" in message["text"]


def test_an_asgi_app_under_a_wsgi_worker(command):
    message = failure(command("site_asgi:app"))
    assert message["text"] == (
        "site_asgi:app is an ASGI app, and the worker class sync serves WSGI;"
        " use worker_class asgi or uvicorn_worker.UvicornWorker"
    )


def test_a_startup_that_fails(start):
    """The app's own words, from its lifespan."""
    message = failure(start(target="site_asgi:app", env={"FAIL_LIFESPAN": "1"}))
    assert message["stage"] == "startup"
    assert message["text"] == "the app's startup failed: OSError: no database"


def test_gevent_is_not_forked_and_patched_before_the_app(stack, start, tmp_path):
    """As under gunicorn: the app's first import finds the standard library patched."""
    (tmp_path / "early.py").write_text(
        "from gevent.monkey import is_module_patched\nPATCHED = is_module_patched('socket')\n"
        "def app(environ, start):\n    start('200 OK', [])\n    return [repr(PATCHED).encode()]\n"
    )
    fields = {"target": "early:app", "cwd": tmp_path, "options": {"worker_class": "gevent"}}
    zygote = stack.enter_context(HostedZygote(job("gunicorn", **fields)))
    ready = zygote.ready()
    assert not ready["forkable"]
    assert any("gevent" in hazard["what"] for hazard in ready["hazards"])
    worker = start(**fields)
    worker.started()
    assert worker.request("/").body == "True"


def test_usr1_reopens_the_log_files(command, public, tmp_path):
    log = tmp_path / "access.log"
    worker = command("site_wsgi", "--access-logfile", str(log), "--worker-class", "gthread")
    worker.started()
    worker.accept("web:0", public)
    worker.request("/first", to=public)
    wait_until(lambda: "/first" in log.read_text(), "the line")
    log.rename(tmp_path / "access.log.1")
    worker.signal(signal.SIGUSR1)
    wait_until(log.exists, "the new file")
    worker.request("/second", to=public)
    wait_until(lambda: "/second" in log.read_text(), "the line")


def test_abort_calls_its_hook(start, tmp_path):
    config = tmp_path / "hooks.py"
    config.write_text("def worker_abort(worker):\n    print('aborted', flush=True)\n")
    worker = start(options={"config": str(config)})
    worker.started()
    worker.signal(signal.SIGABRT)
    assert worker.exit_code() == 1
    assert "aborted" in worker.output()
