"""events, why, validate, explain, daemon, completion, run: what is shown and what is handed on."""

from __future__ import annotations

import json
import os
import sys
import time

import pytest

from oxherd import __version__, errors
from oxherd.config.codec import decode
from oxherd.config.model import Oxfile
from oxherd.control.paths import program_words

UNKNOWN = errors.UsageError("the stack of x is not known to the supervisor", code="OX210")


def event(text, **more):
    return {"time": 1_700_000_000.5, "stack": "shop", "kind": "started", "text": text, **more}


def events(*items, end=True):
    def script(_request, reply):
        for one in items:
            reply.progress(one)
        if end:
            reply.result({})

    return script


def local(seconds):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def test_events_of_the_stack_here(oxherd, supervise, shop):
    supervisor = supervise(events=events(event("web: started"), event("web: ended")))
    stamp = local(1_700_000_000)
    assert oxherd("events", "-n", "5").out == f"{stamp}  web: started\n{stamp}  web: ended\n"
    assert supervisor.asked("events") == [{"stack": shop, "last": 5, "follow": False}]


@pytest.mark.parametrize("words", [["--all"], ["-a"]])
def test_events_of_all_stacks_name_their_stack(oxherd, supervise, shop, words):
    supervisor = supervise(events=events(event("web: started"), event("supervisor started", stack=None)))
    lines = oxherd("events", *words).out.splitlines()
    assert [text.split("  ", 1)[1] for text in lines] == ["shop: web: started", "supervisor started"]
    assert supervisor.asked("events")[0]["stack"] is None


def test_events_as_json_are_an_object_a_line(oxherd, supervise, shop):
    supervise(events=events(event("a"), event("b")))
    assert [json.loads(text)["text"] for text in oxherd("events", "--json").out.splitlines()] == ["a", "b"]


def test_following_events_ends_well_with_ctrl_c(oxherd, supervise, shop, monkeypatch):
    from oxherd.control.client import Client

    supervisor = supervise(events=events(event("a"), end=False))
    real = Client.request

    def interrupted(client, verb, on_progress=None, timeout=None, **args):
        def once(item):
            on_progress(item)
            raise KeyboardInterrupt

        return real(client, verb, once if verb == "events" else on_progress, timeout, **args)

    monkeypatch.setattr(Client, "request", interrupted)
    assert oxherd("events", "-f").code == 0
    assert supervisor.asked("events")[0]["follow"] is True


def card(**more):
    return {
        "stack": "shop",
        "name": "web",
        "instance": 0,
        "incarnation": 4,
        "time": time.time() - 130,
        "cause": "exited with 1 after 0.2 s",
        "exit": {"code": 1, "signal": None, "text": "exited with 1"},
        "last_lines": ["Traceback (most recent call last):", "ValueError: no"],
        "hints": ["set DATABASE_URL"],
        **more,
    }


def test_why_shows_the_latest_end_of_each_instance(oxherd, supervise, shop, row):
    rows = [row(status="backoff", pid=None, restarts=4, detail="again in 2 s")]
    supervisor = supervise(why={"cards": [card(), card(cause="an earlier end")], "rows": rows})
    done = oxherd("why", "web")
    when = local(supervisor.answers["why"]["cards"][0]["time"])
    assert done.out.splitlines() == [
        "web: exited with 1 after 0.2 s",
        f"  when:  {when} (2m 10s ago)",
        "  now:   backoff, 4 restarts, again in 2 s",
        "  last lines of its output:",
        "    | Traceback (most recent call last):",
        "    | ValueError: no",
        "  hint: set DATABASE_URL",
    ]
    assert supervisor.asked("why") == [{"stack": shop, "names": ["web"]}]


def test_why_tells_instances_apart_and_knows_history(oxherd, supervise, shop, row):
    rows = [row(instances=2), row(instance=1, instances=2)]
    supervise(why={"cards": [card(instance=1), card(instance=1, cause="before that")], "rows": rows})
    assert oxherd("why").out.startswith("web:1: exited with 1")
    assert "web:1: before that" in oxherd("why", "--history").out
    assert len(json.loads(oxherd("why", "--history", "--json").out)["cards"]) == 2


def test_why_without_a_reason_says_so(oxherd, supervise, shop, row):
    supervise(why={"cards": [], "rows": [row()]})
    done = oxherd("why")
    assert (done.code, done.out) == (0, "Nothing ended that was not asked to.\n")


def test_a_valid_oxfile_is_said_to_be(oxherd, shop):
    done = oxherd("validate")
    assert (done.code, done.out) == (0, "oxfile.toml is valid\n2 processes defined: web, worker\n")


def test_an_invalid_oxfile_exits_with_2_and_names_each_place(oxherd, folder):
    (folder / "oxfile.toml").write_text('[processes.web]\ncomand = "x"\n[processes.b]\ncommand = "y"\ninstances = 0\n')
    done = oxherd("validate")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("oxfile.toml:")
    document = json.loads(oxherd("validate", "--json").out)
    assert document["valid"] is False
    assert {problem["line"] for problem in document["problems"]} >= {2, 5}


def test_warnings_are_on_stderr_and_the_file_is_valid(oxherd, folder):
    (folder / "oxfile.toml").write_text('[processes.web]\ncommand = "sleep 1"\nworking_dir = "/not/there"\n')
    done = oxherd("validate")
    assert done.code == 0
    assert done.err.startswith("warning: oxfile.toml:3: ")
    document = json.loads(oxherd("validate", "--json").out)
    assert (document["valid"], document["processes"]) == (True, ["web"])
    assert document["problems"][0]["severity"] == "warning"


def test_several_files_are_validated_and_one_bad_one_counts(oxherd, shop, folder):
    (folder / "bad.toml").write_text("[")
    done = oxherd("validate", "oxfile.toml", "bad.toml")
    assert done.code == 2
    assert "oxfile.toml is valid" in done.out
    documents = json.loads(oxherd("validate", "--json", "oxfile.toml", "-c", "bad.toml").out)
    assert [document["valid"] for document in documents] == [True, False]


def test_a_file_that_is_not_there_is_named(oxherd, folder):
    done = oxherd("validate", "nowhere.toml")
    assert (done.code, "nowhere.toml" in done.err) == (2, True)


def test_explain_shows_settings_with_their_places_and_no_secret(oxherd, folder):
    (folder / "oxfile.toml").write_text(
        '[processes.web]\ncommand = "/bin/sleep 1"\nmax_restarts = 3\n[processes.web.env]\nAPI_TOKEN = "hush"\n'
    )
    done = oxherd("explain", "web")
    assert done.code == 0
    assert "runs     /bin/sleep 1" in done.out
    settings = [text.split() for text in done.out.splitlines()]
    assert ["max_restarts", "3", "oxfile.toml:3"] in settings
    assert "hush" not in done.out
    assert "restart_delay = " in done.out
    assert "hush" not in oxherd("explain", "--json").out


def test_explain_as_json_is_one_document(oxherd, shop):
    document = json.loads(oxherd("explain", "--json").out)
    assert (document["stack"], document["path"]) == ("shop", shop)
    assert [process["process"] for process in document["processes"]] == ["web", "worker"]
    assert json.loads(oxherd("explain", "worker", "--json").out)["processes"][0]["process"] == "worker"


@pytest.fixture
def python(folder):
    """An interpreter that says it has two engines."""
    path = folder / "bin/python"
    path.parent.mkdir()
    answer = '{"python": [3, 12, 0], "packages": {"uvicorn": "0.54.0", "gunicorn": "27.0.1"}}'
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.usefixtures("python")
def test_explain_shows_how_an_app_is_served(oxherd, folder):
    (folder / "oxfile.toml").write_text(
        '[processes.web]\napp = "main:app"\npython = "bin/python"\nworkers = 2\nhealth_check = { endpoint = "/health" }\n'
    )
    out = oxherd("explain").out
    assert "  serves   main:app\n" in out
    assert "  engine   uvicorn 0.54.0 if it is ASGI, gunicorn 27.0.1 if it is WSGI, in Oxherd's own workers\n" in out
    assert "  workers  2\n" in out
    assert "  listens  127.0.0.1:8000 (held by the supervisor)\n" in out
    assert "  preload  imported once, and workers are forked of it, unless" in out
    assert "finishes requests within 8 s; one that is blocked for 30 s is replaced\n" in out
    assert "  asks     each worker by itself, over a listener of its own: health\n" in out
    (process,) = json.loads(oxherd("explain", "--json").out)["processes"]
    assert process["hosting"]["way"] == "hosted"
    assert (process["hosting"]["workers"], process["hosting"]["health"], process["untouched"]) == (2, "private", "")


@pytest.mark.usefixtures("python")
def test_explain_shows_what_a_command_is_hosted_as(oxherd, folder):
    (folder / "oxfile.toml").write_text(
        '[processes.web]\ncommand = "bin/python -m uvicorn main:app --workers 3"\nbalance = "shared"\n'
    )
    out = oxherd("explain").out
    assert "  serves   main:app --workers 3\n" in out
    assert "  engine   uvicorn 0.54.0, in Oxherd's own workers\n" in out
    assert "  workers  3 (--workers 3)\n" in out
    assert "(held by the supervisor, one listener for all workers)" in out
    assert ["balance", "shared", "oxfile.toml:3"] in [line.split() for line in out.splitlines()]


def test_explain_says_why_a_command_is_run_as_it_is(oxherd, folder):
    (folder / "oxfile.toml").write_text('[processes.web]\ncommand = "uvicorn main:app"\nadopt = false\n')
    done = oxherd("explain")
    assert "  runs     uvicorn main:app\n" in done.out
    assert "  as it is run untouched: adopt = false\n" in done.out


def test_explain_shows_what_a_program_is_passed(oxherd, folder):
    (folder / "oxfile.toml").write_text(
        '[processes.web]\ncommand = "daphne main:app"\nhealth_check = { tcp = "localhost:8000" }\n'
        '[processes.one]\ncommand = "node s.js"\nsocket = "127.0.0.1:9"\nsingleton = true\n'
    )
    out = oxherd("explain").out
    assert "  runs     daphne --fd '{fd:0}' -u '{private_path}' main:app\n" in out
    assert "  listens  127.0.0.1:8000 (held by the supervisor, passed as descriptors)\n" in out
    assert "  asks     each instance by itself, over a listener of its own\n" in out
    assert "  reload   the new one is ready before the old one goes\n" in out
    assert "  reload   stops, then starts\n" in out


def test_validate_as_json_says_how_each_process_would_run(oxherd, folder):
    (folder / "oxfile.toml").write_text(
        '[processes.web]\ncommand = "/nowhere/bin/uvicorn main:app --workers 2"\n'
        '[processes.dev]\ncommand = "uvicorn main:app --reload"\n'
    )
    web, dev = json.loads(oxherd("validate", "--json").out)["hosting"]
    assert web == {
        "process": "web",
        "program": "uvicorn",
        "way": "hosted",
        "engine": "uvicorn",
        "instances": 2,
        "bind": ["127.0.0.1:8000"],
        "untouched": None,
    }
    assert (dev["way"], dev["engine"], dev["untouched"].startswith("--reload")) == ("untouched", None, True)


def test_validate_runs_no_configuration_of_a_server(oxherd, folder, python):
    """It reads files; a gunicorn.conf.py is a program."""
    (folder / "oxfile.toml").write_text(f'[processes.web]\ncommand = "{python} -m gunicorn -c conf.py main:app"\n')
    (folder / "bin/python").write_text(
        f'#!/bin/sh\necho "$@" >> {folder}/asked\necho \'{{"python": [3, 12, 0], "packages": {{}}}}\'\n'
    )
    assert oxherd("validate").code == 0
    assert "describe" not in (folder / "asked").read_text()


def test_keys_that_are_not_active_yet_are_named(oxherd, folder):
    (folder / "oxfile.toml").write_text('[processes.web]\ncommand = "true"\ngit_ref = "main"\n')
    assert "not active yet in this version: " in oxherd("explain").out
    assert "not active yet in this version: web." in oxherd("validate").out


def test_explain_uses_the_environment_the_stack_was_started_with(oxherd, supervise, folder):
    (folder / "oxfile.toml").write_text('[processes.web]\ncommand = "echo ${GREETING}"\n')
    supervise(environment={"env": {"GREETING": "kept"}, "profile": None})
    assert "echo kept" in oxherd("explain").out


def test_explain_of_what_is_not_there_is_a_usage_error(oxherd, shop):
    assert oxherd("explain", "wbe").code == 2


FACTS = {"pid": 7, "version": "0.1.0", "uptime_seconds": 90.0, "memory_bytes": 13 * 1024 * 1024, "stacks": 2, "x": 1}


def test_daemon_status_as_json_has_exactly_these_keys(oxherd, supervise, folder):
    supervise(ping=FACTS)
    document = json.loads(oxherd("daemon", "status", "--json").out)
    assert list(document) == ["pid", "version", "uptime_seconds", "memory_bytes", "stacks"]
    assert "1m 30s" in oxherd("daemon", "status").out


def test_daemon_status_without_a_supervisor_is_3(oxherd, folder):
    assert oxherd("daemon", "status").code == 3
    assert oxherd("daemon", "stop").code == 3


def test_daemon_status_says_that_events_cannot_be_kept(oxherd, supervise, folder):
    supervise(ping={**FACTS, "events_error": "No space left on device"})
    assert "No space left on device" in oxherd("daemon", "status").err


def test_daemon_stop_shows_what_stops(oxherd, supervise, folder):
    supervisor = supervise(shutdown=events({"process": "web", "label": "web", "status": "stopping"}))
    done = oxherd("daemon", "stop")
    assert (done.code, done.out) == (0, "web: stopping\nThe supervisor has stopped.\n")
    assert supervisor.asked("shutdown") == [{"stop_processes": True}]


class Became(BaseException):
    """Raised in place of the exec."""


@pytest.fixture
def exec_seen(monkeypatch):
    """What would have been exec'd."""

    def become(path, argv):
        raise Became(path, argv)

    monkeypatch.setattr(os, "execv", become)
    # The test run itself is to stay as it is.
    monkeypatch.setattr("oxherd.system.subreaper.become_subreaper", lambda: True)


def test_daemon_run_becomes_the_supervisor(oxherd, exec_seen, folder):
    with pytest.raises(Became) as caught:
        oxherd("daemon", "run")
    assert caught.value.args == (sys.executable, [sys.executable, "-P", *program_words()])


def became(oxherd, *words):
    with pytest.raises(Became) as caught:
        oxherd(*words)
    argv = caught.value.args[1]
    fd = int(argv[argv.index("--spec-fd") + 1])
    assert os.get_inheritable(fd)
    with os.fdopen(fd, "rb") as file:
        return argv, json.loads(file.read())


def test_run_becomes_the_supervisor_of_the_stack(oxherd, exec_seen, shop, monkeypatch):
    monkeypatch.setenv("ONLY_HERE", "1")
    argv, job = became(oxherd, "run")
    expected = ["-P", *program_words(), "--run", shop]
    assert argv[1 : 1 + len(expected)] == expected
    assert "--color" not in argv
    assert job["env"]["ONLY_HERE"] == "1"
    assert [process.name for process in decode(Oxfile, job["oxfile"]).processes] == ["web", "worker"]


def test_run_hands_on_names_and_colour(oxherd, exec_seen, shop):
    argv, _ = became(oxherd, "run", "--no-color", "worker", "web")
    assert argv[-6:] == ["--name", "worker", "--name", "web", "--color", "never"]


def test_run_of_a_huge_stack_needs_no_pipe(oxherd, exec_seen, folder):
    (folder / "oxfile.toml").write_text(
        "".join(f'[processes.p{number}]\ncommand = "echo {"x" * 400}"\n' for number in range(400))
    )
    _, job = became(oxherd, "run")
    assert len(job["oxfile"]["processes"]) == 400


@pytest.mark.parametrize("words", [["wrker"], ["--config", "nowhere"]])
def test_run_refuses_what_is_not_there(oxherd, exec_seen, shop, words):
    assert oxherd("run", *words).code == 2


def test_run_refuses_a_stack_that_runs_in_the_background(oxherd, exec_seen, supervise, shop, row):
    supervise(status={"rows": [row()]})
    done = oxherd("run")
    assert (done.code, f"{shop} runs already in the background [OX431]" in done.err) == (1, True)


def test_run_refuses_a_second_run(oxherd, exec_seen, supervise, shop):
    supervise(run_of=shop, status={"rows": []})
    assert "runs already under another `oxherd run`" in oxherd("run").err


@pytest.mark.parametrize("status", [UNKNOWN, {"rows": []}])
def test_run_does_not_mind_a_supervisor_of_other_stacks(oxherd, exec_seen, supervise, shop, status):
    supervise(status=status)
    became(oxherd, "run")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(oxherd, folder, shell):
    done = oxherd("completion", shell)
    assert (done.code, done.err) == (0, "")
    assert "_OXHERD_COMPLETE" in done.out
    assert "_OXMGR_COMPLETE" in oxherd("completion", shell, "--program", "oxmgr").out


def test_completion_knows_the_processes_of_the_oxfile(folder):
    from oxherd.cli.completing import process_names

    assert process_names() == []
    (folder / "oxfile.toml").write_text('[processes.web]\n[processes.worker]\n[[apps]]\nname = "cron"\n[[apps]]\n')
    assert process_names() == ["web", "worker", "cron"]
    (folder / "oxfile.toml").write_text("nonsense [")
    assert process_names() == []


def test_the_shell_gets_verbs_and_names(oxherd, shop, monkeypatch):
    monkeypatch.setenv("_OXHERD_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "oxherd stop w")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert oxherd().out == "plain,web\nplain,worker\n"
    monkeypatch.setenv("COMP_WORDS", "oxherd star")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert oxherd().out == "plain,start\n"


def test_the_version_is_shown(oxherd, folder):
    assert oxherd("--version").out == f"oxherd {__version__}\n"


@pytest.mark.parametrize(("word", "near"), [("strt", "start"), ("relod", "reload"), ("qqqq", "")])
def test_a_verb_that_does_not_exist_is_answered_with_the_nearest(oxherd, folder, word, near):
    done = oxherd(word)
    assert done.code == 2
    assert f'there is no command "{word}"' in done.err
    assert (f'did you mean "{near}"?' in done.err) is bool(near)


def test_each_verb_imports_only_what_it_needs():
    """The help of a verb is what every call of it pays for at least: neither rich nor the reader of oxfiles."""
    import subprocess

    code = (
        "import sys; from oxherd.cli.main import main; main(['stop', '--help']); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded = set(done.stderr.split())
    assert "oxherd.cli.verbs.stop" in loaded
    assert not loaded & {"rich", "tomllib", "msgspec", "oxherd.config.oxfile", "oxherd.cli.verbs.start", "asyncio"}
