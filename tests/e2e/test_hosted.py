"""Apps served by Oxherd's own workers: forked from a zygote, replaced one by one, never all gone at once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from support.harness import descendants
from support.hosted_stack import OXFILE, Hosted
from support.waiting import DEADLINE, wait_gone, wait_until
from support.web import Asking, ask, left_of, listening_inodes, server_pids, try_ask


@pytest.fixture
def hosted(ox):
    return Hosted(ox)


def test_workers_are_forked_from_one_zygote_and_known_by_their_slot(hosted):
    hosted.start()
    ox = hosted.ox
    rows = ox.rows()
    assert [(row["name"], row["instance"], row["status"], row["health"]) for row in rows] == [
        ("web", 0, "running", "healthy"),
        ("web", 1, "running", "healthy"),
    ]
    assert server_pids(hosted.port, 2) == hosted.pids()
    zygote = hosted.zygote()
    assert set(descendants(zygote)) == hosted.pids()
    answer = hosted.ask()
    assert answer["worker"] == answer["instance"] == next(str(r["instance"]) for r in rows if r["pid"] == answer["pid"])
    title = Path(f"/proc/{answer['pid']}/cmdline").read_bytes().rstrip(b"\0 ").decode()
    assert title == f"oxherd: stack web:{answer['worker']} generation 1"
    ox.ok("stop")
    assert left_of([zygote, *(row["pid"] for row in rows)]) == []
    assert listening_inodes(hosted.port) == set()


def test_a_killed_worker_comes_back_from_the_same_zygote(hosted):
    hosted.start()
    zygote = hosted.zygote()
    for restarts in (1, 2):
        victim = hosted.ox.pid("web:0")
        os.kill(victim, signal.SIGKILL)
        hosted.ox.wait_row("web:0", status="running", restarts=restarts)
    assert server_pids(hosted.port, 2) == hosted.pids()
    assert hosted.zygote() == zygote
    card = hosted.ox.ok("why", "web:0", "--json").json["cards"][0]
    assert "killed by SIGKILL" in card["cause"]


def test_workers_outlive_their_zygote_and_the_next_one_forks_on(hosted):
    hosted.start()
    ox, zygote, before = hosted.ox, hosted.zygote(), hosted.pids()
    os.kill(zygote, signal.SIGKILL)
    ox.wait("zygote-died", name="web")
    assert server_pids(hosted.port, 2) == before
    ox.ok("scale", "web=3")
    assert server_pids(hosted.port, 3) == hosted.pids() > before
    os.kill(ox.pid("web:0"), signal.SIGKILL)
    ox.wait_row("web:0", status="running", restarts=1)
    assert "killed by SIGKILL" in ox.ok("why", "web:0", "--json").json["cards"][0]["cause"]


def test_without_preload_each_worker_imports_the_app_itself(ox):
    hosted = Hosted(ox, more="preload = false").start()
    assert server_pids(hosted.port, 2) == hosted.pids()
    assert hosted.zygote() == ox.supervisor
    os.kill(ox.pid("web:1"), signal.SIGKILL)
    ox.wait_row("web:1", status="running", restarts=1)


def test_an_app_a_fork_would_break_is_imported_by_each_worker(hosted):
    """The audit finds the thread that the import has started, says so, and the workers are exec'd."""
    hosted.write(
        "VERSION = 1\nimport threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n"
    )
    hosted.start()
    assert hosted.zygote() == hosted.ox.supervisor
    assert "thread" in hosted.ox.wait("not-preloaded", name="web")["text"]
    (running,) = [item["running"] for item in hosted.ox.ok("explain", "--json").json["processes"]]
    assert (running["preloaded"], running["engine"], running["interface"]) == (False, "uvicorn", "asgi")
    assert [hazard["fatal"] for hazard in running["hazards"]] == [True]
    assert "not forked because of" in hosted.ox.ok("explain", "web").out


def test_a_reload_brings_the_new_code_and_nothing_of_the_old_stays(hosted):
    hosted.start()
    old, zygote = hosted.pids(), hosted.zygote()
    hosted.write("VERSION = 2\n")
    done = hosted.ox.ok("reload", "web", "--json").json
    assert hosted.versions() == {2}
    assert left_of([*old, zygote]) == []
    (fact,) = done["reloads"]
    assert (fact["result"], fact["generation"], fact["workers"], fact["failed_requests"]) == ("done", 2, 2, 0)
    assert {row["generation"] for row in hosted.ox.rows()} == {2}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise ValueError('the kettle has boiled over')", "the kettle has boiled over"),
        ("import no_such_module_at_all", "no_such_module_at_all"),
        ("VERSION = 2\nimport hosted_lifespan_fails", "hosted_lifespan_fails"),
        ("VERSION = 2\nimport os\nos._exit(7)", "7"),
    ],
)
def test_code_that_does_not_work_never_replaces_code_that_does(hosted, code, said):
    hosted.start()
    before = hosted.pids()
    hosted.write(f"{code}\n")
    result = hosted.ox.cli("reload")
    assert result.code == 1
    assert said in result.err
    assert "nothing was changed" in result.err
    assert hosted.pids() == before
    assert hosted.versions() == {1}
    hosted.write("VERSION = 3\n")
    hosted.ox.ok("reload")
    assert hosted.versions() == {3}


def test_a_traceback_is_on_the_screen(hosted):
    hosted.start()
    hosted.write("def brew():\n    raise ValueError('boiled over')\nbrew()\n")
    result = hosted.ox.cli("reload")
    assert "Traceback (most recent call last):" in result.err
    assert "ValueError: boiled over" in result.err
    assert "release.py" in result.err


def test_code_that_is_sick_is_found_before_anything_old_goes(hosted):
    """The canary answers its own health check, or nothing happens."""
    folder = hosted.release.parent
    (folder / "oxfile.toml").write_text(
        (folder / "oxfile.toml").read_text() + "initial_delay_secs = 0\nunhealthy_threshold = 2\n"
    )
    hosted.start()
    before = hosted.pids()
    hosted.write("VERSION = 2\nimport pathlib, os\npathlib.Path(os.environ['GATES'], 'sick').touch()\n")
    reload = hosted.ox.popen("reload")
    said, _ = reload.communicate(timeout=2 * DEADLINE)
    assert reload.returncode == 1
    assert "503" in said
    assert hosted.pids() == before


def test_code_that_falls_over_a_second_later_is_found_too(hosted):
    hosted.start()
    before = hosted.pids()
    hosted.write(
        "VERSION = 2\nimport os, threading\n"
        "os.register_at_fork(after_in_child=lambda: threading.Timer(1.0, os._exit, (3,)).start())\n"
    )
    result = hosted.ox.cli("reload")
    assert result.code == 1, result
    assert "exited with 3" in result.err
    assert hosted.pids() == before


def test_a_stop_during_a_reload_is_obeyed_at_once(hosted):
    hosted.start()
    hosted.write("VERSION = 2\nimport time\ntime.sleep(600)\n")
    reload = hosted.ox.popen("reload")
    hosted.ox.wait("reloading", name="web")
    second = hosted.ox.cli("reload")
    assert second.code == 1
    assert "is being reloaded" in second.err
    hosted.ox.ok("stop")
    said, _ = reload.communicate(timeout=DEADLINE)
    assert reload.returncode == 1, said
    assert {row["status"] for row in hosted.ox.rows()} == {"stopped"}
    assert descendants(hosted.ox.supervisor) == []


def test_requests_in_flight_are_answered_by_the_worker_that_leaves(hosted):
    hosted.start()
    asking = Asking(hosted.port, "/hold")
    holder = hosted.gates.wait_begun("hold")
    hosted.write("VERSION = 2\n")
    reload = hosted.ox.popen("reload")
    wait_until(lambda: hosted.versions() == {2}, "the new version everywhere")
    assert not asking.over
    hosted.gates.open("hold")
    answer = asking.answer()
    assert (answer.status, answer.json["pid"], answer.json["version"]) == (200, holder, 1)
    assert answer.headers["connection"] == "close"
    said, _ = reload.communicate(timeout=DEADLINE)
    assert reload.returncode == 0, said


def test_scaling_up_and_down_again_and_the_slots_that_are_left_serve_all(hosted):
    hosted.start()
    hosted.ox.ok("scale", "web=4")
    assert len(server_pids(hosted.port, 4)) == 4
    hosted.ox.ok("scale", "web=1")
    one = hosted.ox.pid("web:0")
    # Connections are spread over the listeners of all four slots, which are one worker's now.
    assert {hosted.ask()["pid"] for _ in range(40)} == {one}
    hosted.ox.ok("scale", "web+1")
    assert len(server_pids(hosted.port, 2)) == 2


def test_an_edit_of_the_number_of_workers_touches_only_new_and_removed(hosted):
    """`apply` after 2 to 4 to 1: those that stay keep their pids, as with `scale`."""
    hosted.start()
    two = hosted.ox.pids()
    for workers, label in ((4, "web:3"), (1, "web:0")):
        hosted.ox.oxfile(OXFILE.format(port=hosted.port, workers=workers, more=""))
        assert hosted.ox.ok("apply", "--json").json["changed"] == ["web"]
        pids = hosted.ox.pids()
        assert len(pids) == workers
        assert label in pids
        assert {name: pid for name, pid in pids.items() if name in two} == {
            name: pid for name, pid in two.items() if name in pids
        }


def test_a_blocked_worker_is_seen_through_shown_and_replaced(ox):
    hosted = Hosted(ox, more='timeout = "2s"').start()
    asking = Asking(hosted.port, "/block")
    blocked = hosted.gates.wait_begun("block")
    slot = next(row["instance"] for row in ox.rows() if row["pid"] == blocked)
    assert "GET /block" in ox.wait("slow", name="web")["text"]
    # Its listener is lent: whoever connects now is answered by the other one.
    assert {ask(hosted.port, "/").json["pid"] for _ in range(20)} == hosted.pids() - {blocked}
    ox.wait("blocked", name="web")
    wait_gone(blocked)
    assert isinstance(asking.answer(), Exception)
    ox.wait_row(f"web:{slot}", status="running", restarts=1)
    (card, *_) = ox.ok("why", f"web:{slot}", "--json").json["cards"]
    assert "GET /block" in card["cause"]
    assert any("hosted.py" in line for line in card["traceback"])
    assert server_pids(hosted.port, 2) == hosted.pids()


def test_a_worker_that_is_not_ready_gets_no_connections_and_is_not_restarted(hosted):
    hosted.start()
    ox = hosted.ox
    before = hosted.pids()
    flag = hosted.gates.directory / "unready.0"
    flag.touch()
    ox.wait("not-ready", name="web", instance=0)
    wait_until(lambda: {hosted.ask()["worker"] for _ in range(20)} == {"1"}, "the other worker to answer alone")
    assert not ox.row("web:0")["ready"]
    flag.unlink()
    ox.wait("ready-again", name="web", instance=0)
    wait_until(lambda: {hosted.ask()["worker"] for _ in range(20)} == {"0", "1"}, "both workers to answer")
    assert hosted.pids() == before


def test_workers_are_recycled_their_successor_first(ox):
    hosted = Hosted(ox, more="max_requests = 20").start()
    before = hosted.pids()

    def all_replaced():
        assert try_ask(hosted.port, "/") is not None
        return not hosted.pids() & before and all(row["status"] == "running" for row in ox.rows())

    wait_until(all_replaced, "every worker to be replaced")
    assert "max_requests" in ox.wait("recycle", name="web")["text"]
    assert {row["restarts"] for row in ox.rows()} == {0}


def test_a_port_that_somebody_has_is_told_with_his_name(hosted):
    import socket

    with socket.create_server(("127.0.0.1", hosted.port)):
        result = hosted.ox.cli("start")
    assert result.code == 1
    assert f"127.0.0.1:{hosted.port}" in result.err
    assert f"pid {os.getpid()}" in result.err


def test_an_app_that_cannot_be_found_is_told_with_what_there_is(hosted):
    oxfile = hosted.release.parent / "oxfile.toml"
    oxfile.write_text(oxfile.read_text().replace("hosted:app", "hosted:appp"))
    result = hosted.ox.cli("start")
    assert result.code == 1
    assert "appp" in result.err
    assert "app" in result.err.replace("appp", "")
