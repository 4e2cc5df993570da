"""A zygote over the wire: what it finds, what it forks, and what becomes of its children when it dies."""

from __future__ import annotations

import os
import resource
import signal

import pytest

from support.hosting import HostedWorker
from support.waiting import wait_until


def test_it_is_ready_once_the_app_is_imported(zygote):
    one = zygote()
    ready = one.ready()
    assert (ready["hazards"], ready["forkable"]) == ([], True)
    assert (ready["interface"], ready["engine"]) == ("asgi", "uvicorn")
    assert ready["seconds"] > 0
    assert ready["python"].startswith("3.")
    assert "imported" in one.output()


def test_its_workers_never_import_again(zygote, public):
    one = zygote()
    one.ready()
    workers = [one.fork(slot) for slot in range(3)]
    listener = public()
    for slot, worker in enumerate(workers):
        worker.started()
        worker.accept(f"web:{slot}", listener)
        # Born in the zygote, leader of a session of its own.
        assert worker.request("/born").body == f"{one.pid} True"
        assert worker.request("/pid").body == str(worker.pid)
        assert "imported" not in worker.output()
        worker.release(f"web:{slot}")
    assert one.output().count("imported") == 1


def test_a_fork_brings_environment_log_and_title(zygote):
    one = zygote(env={"GONE": "1", "KEPT": "2"})
    one.ready()
    worker = one.fork(3, env={"OXHERD_MARK": "web:3 grün", "GONE": None})
    worker.started()
    assert worker.request("/env?OXHERD_MARK").body == repr("web:3 grün")
    assert worker.request("/env?GONE").body == "None"
    assert worker.request("/env?KEPT").body == "'2'"
    assert "startup done" in worker.output()
    assert "startup done" not in one.output()
    with open(f"/proc/{worker.pid}/cmdline", encoding="utf-8") as file:
        assert file.read().rstrip("\0") == "oxherd: test web:3"
    with open(f"/proc/{one.pid}/cmdline", encoding="utf-8") as file:
        assert file.read().rstrip("\0") == "oxherd: test web zygote"
    assert os.readlink(f"/proc/{worker.pid}/fd/0") == os.devnull


def test_nothing_of_the_zygote_is_open_in_a_worker(zygote):
    one = zygote()
    one.ready()
    first = one.fork(0)
    first.started()
    second = one.fork(1)
    second.started()

    def held(pid: int) -> set[str]:
        fds = f"/proc/{pid}/fd"
        return {os.readlink(f"{fds}/{fd}") for fd in os.listdir(fds)}

    zygotes = {what for what in held(one.pid) if what.startswith(("socket:", "anon_inode:[pidfd"))}
    assert zygotes
    assert held(second.pid) & zygotes == set()
    assert "True" not in second.request("/fds").body


def test_two_workers_draw_different_random_numbers(zygote):
    one = zygote(env={"PYTHONPATH": ""})
    one.ready()
    drawn = set()
    for slot in range(2):
        worker = one.fork(slot)
        worker.started()
        drawn |= set(worker.request("/random").body.split())
    assert len(drawn) == 4


def test_numpy_at_import_gives_each_worker_its_own_numbers(zygote, tmp_path):
    (tmp_path / "main.py").write_text(
        "import random, numpy\nrandom.seed(1)\nnumpy.random.seed(1)\nfrom full import app\n"
    )
    one = zygote("main:app", cwd=tmp_path, env={"PYTHONPATH": os.path.join(os.path.dirname(__file__), "apps")})
    assert one.ready()["forkable"]
    drawn = []
    for slot in range(2):
        worker = one.fork(slot)
        worker.started()
        drawn += worker.request("/random").body.split()
    assert len(set(drawn)) == 4


def test_workers_share_the_memory_of_the_zygote(zygote):
    """The app holds 32 MiB; of a worker hardly any of it may be its own."""
    one = zygote()
    one.ready()
    worker = one.fork()
    worker.started()
    worker.request("/")
    private = 0
    with open(f"/proc/{worker.pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Private_Dirty:"):
                private = int(line.split()[1])
    assert 0 < private < 20_000


def test_the_end_of_a_worker_is_told_with_its_status(zygote):
    one = zygote()
    one.ready()
    killed, drained, stopped = one.fork(0), one.fork(1), one.fork(2)
    for worker in (killed, drained, stopped):
        worker.started()
    killed.signal(signal.SIGKILL)
    assert killed.exit_code() == -signal.SIGKILL
    drained.drain()
    assert drained.exit_code() == 0
    stopped.signal(signal.SIGSEGV)
    assert stopped.exit_code() == -signal.SIGSEGV
    # None is left unreaped.
    with open(f"/proc/{one.pid}/task/{one.pid}/children", encoding="ascii") as file:
        assert file.read().split() == []


def test_it_forks_again_after_any_number_of_deaths(zygote):
    one = zygote()
    one.ready()
    open_then = []
    for incarnation in range(1, 6):
        worker = one.fork(0, incarnation)
        worker.started()
        worker.signal(signal.SIGKILL)
        worker.exit_code()
        open_then.append(len(os.listdir(f"/proc/{one.pid}/fd")))
    assert len(set(open_then)) == 1


def test_a_storm_of_forks_is_answered_one_by_one(zygote):
    one = zygote()
    one.ready()
    asked = [one.ask_fork(slot, 1) for slot in range(12)]
    forked = [one.wait("forked", slot=slot) for slot in range(12)]
    workers = [
        HostedWorker({}, _born=(one, fds, message["pid"], message["fds"].pop()))
        for fds, message in zip(asked, forked, strict=True)
    ]
    one.workers += workers
    for worker in workers:
        worker.started()
    for worker in workers:
        worker.signal(signal.SIGTERM)
    assert [worker.exit_code() for worker in workers] == [0] * 12


def test_workers_serve_on_when_the_zygote_is_killed(zygote, public):
    one = zygote()
    one.ready()
    worker = one.fork()
    worker.started()
    listener = public()
    worker.accept("web:0", listener)
    one.process.kill()
    one.process.wait()
    assert worker.request("/", to=listener).status == 200
    worker.release("web:0")
    worker.drain()
    worker.wait("drained")


def test_sigterm_ends_the_zygote_alone(zygote):
    one = zygote()
    one.ready()
    worker = one.fork()
    worker.started()
    one.process.terminate()
    assert one.exit_code() == 0
    assert worker.request("/").status == 200


def test_it_goes_when_it_is_no_longer_needed(zygote):
    one = zygote()
    one.ready()
    worker = one.fork()
    worker.started()
    one.tell("end")
    assert one.exit_code() == 0
    assert worker.request("/").status == 200


def test_what_the_app_does_at_exit_is_the_workers_to_do(zygote, tmp_path):
    (tmp_path / "main.py").write_text(
        "import atexit, os\natexit.register(lambda: print('at exit of', os.getpid(), flush=True))\nfrom full import app\n"
    )
    one = zygote("main:app", cwd=tmp_path, env={"PYTHONPATH": os.path.join(os.path.dirname(__file__), "apps")})
    one.ready()
    worker = one.fork()
    worker.started()
    one.tell("end")
    assert one.exit_code() == 0
    assert "at exit" not in one.output()
    worker.drain()
    wait_until(lambda: f"at exit of {worker.pid}" in worker.output(), worker.story)


@pytest.mark.parametrize("room", [6, 3])
def test_a_fork_that_fails_is_told(zygote, room):
    """No descriptor is left, for the child's pidfd or for what came with the message. (No limit of processes binds root.)"""
    one = zygote()
    one.ready()
    soft, hard = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
    used = {int(fd) for fd in os.listdir(f"/proc/{one.pid}/fd")}
    free = [fd for fd in range(1000) if fd not in used]
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (free[room], hard))
    fds = one.ask_fork(0, 1)
    failed = one.wait("fork-failed", slot=0, incarnation=1)
    assert failed["errno"] == 24
    assert failed["text"]
    resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (soft, hard))
    fds.close()
    worker = one.fork(0, 2)
    worker.started()
    with open(f"/proc/{one.pid}/task/{one.pid}/children", encoding="ascii") as file:
        assert file.read().split() == [str(worker.pid)]


def test_an_import_that_fails_is_told_and_printed(zygote, tmp_path):
    (tmp_path / "main.py").write_text("raise ValueError('no such setting')\n")
    one = zygote("main:app", cwd=tmp_path)
    failed = one.wait("failed")
    assert failed["stage"] == "import"
    assert "no such setting" in failed["text"]
    assert one.exit_code() == 3
    assert failed["traceback"] in one.output()


def test_a_startup_that_fails_is_the_workers(zygote):
    one = zygote(env={"FAIL_LIFESPAN": "1"})
    one.ready()
    worker = one.fork()
    assert worker.wait("failed")["stage"] == "startup"
    assert worker.exit_code() == 3
    assert one.process.poll() is None


@pytest.mark.parametrize(
    ("kind", "what", "fatal"),
    [
        ("thread", "a thread is running: poller", True),
        ("socket", "a connection to 127.0.0.1:", True),
        ("loop", "an event loop is open: asyncio.unix_events._UnixSelectorEventLoop", True),
        ("uvloop", "an event loop is open: uvloop.Loop", True),
        ("epoll", "an epoll descriptor is open", True),
        ("temporary", "a temporary directory is open: ", True),
        ("child", "child processes are running: ", False),
        ("listening", "a socket listens on 127.0.0.1:", False),
    ],
)
def test_hazards_are_found_after_the_import(zygote, kind, what, fatal):
    ready = zygote("hazards:app", env={"HAZARD": kind}).ready()
    found = [hazard for hazard in ready["hazards"] if hazard["what"].startswith(what)]
    assert found, ready["hazards"]
    assert all(hazard["fatal"] is fatal and hazard["where"] and hazard["advice"] for hazard in found)
    assert ready["forkable"] is not fatal


def test_what_is_harmless_is_no_hazard(zygote, tmp_path):
    """numpy's parked threads, a database in a file, a log file, UDP, an event loop that is closed."""
    one = zygote("hazards:app", env={"HAZARD": "harmless", "FOLDER": str(tmp_path)})
    ready = one.ready()
    assert (ready["hazards"], ready["forkable"]) == ([], True)
    worker = one.fork()
    worker.started()
    assert worker.request("/").body == "ok"


def test_the_zygote_has_no_thread_and_no_event_loop(zygote):
    one = zygote()
    one.ready()
    assert len(os.listdir(f"/proc/{one.pid}/task")) == 1
