"""``oxherd start``: what is sent, what is said, what is refused before anything happens."""

from __future__ import annotations

import json
import os

import pytest

from oxherd import errors
from oxherd.config.codec import decode
from oxherd.config.model import Oxfile

KNOWN = {"env": {"GREETING": "kept", "PATH": "/bin:/usr/bin"}, "profile": None}
NEW = {"env": None, "profile": None}
WITH_VARIABLE = '[processes.web]\ncommand = "echo ${GREETING}"\n'
TWO_PROFILES = (
    'version = 1\n[[apps]]\nname = "web"\ncommand = "sleep 1"\n'
    '[apps.profiles.prod]\ncommand = "sleep 2"\n[apps.profiles.test]\ncommand = "sleep 3"\n'
)


def result(*rows, failed=(), notes=()):
    return {"instances": list(rows), "failed": list(failed), "notes": list(notes)}


def starting(*items, answer):
    """Answer with progress items, then the result."""

    def script(_request, reply):
        for item in items:
            reply.progress(item)
        reply.result(answer)

    return script


def item(process="web", status="running", **more):
    return {"process": process, "label": process, "instance": 0, "status": status, "pid": 7, "detail": "", **more}


def sent_oxfile(supervisor):
    return decode(Oxfile, supervisor.asked("start")[-1]["oxfile"])


def test_the_compiled_stack_is_sent_with_names_and_environment(oxherd, supervise, shop, row, monkeypatch):
    monkeypatch.setenv("ONLY_HERE", "1")
    supervisor = supervise(environment=NEW, start=result(row()))
    assert oxherd("start", "web", "worker:0").code == 0
    (args,) = supervisor.asked("start")
    assert args["stack"] == shop
    assert args["names"] == ["web", "worker:0"]
    assert args["env"]["ONLY_HERE"] == "1"
    assert (args["update_env"], args["profile"]) == (False, None)
    oxfile = sent_oxfile(supervisor)
    assert (oxfile.path, oxfile.name) == (shop, "shop")
    assert [(process.name, process.instances) for process in oxfile.processes] == [("web", 2), ("worker", 1)]


def test_progress_is_plain_stable_lines_without_a_terminal(oxherd, supervise, shop, row):
    script = starting(
        item(status="starting"),
        item(status="starting"),
        item("worker", "starting"),
        item(),
        item("worker", "backoff", pid=None, detail="exited with 1, again in 0.2 s"),
        item("worker", "running", pid=9),
        answer=result(row(), row("worker")),
    )
    supervise(environment=NEW, start=script)
    done = oxherd("start")
    lines = [line.rsplit(" after ", 1)[0] for line in done.out.splitlines()]
    assert lines == [
        "web: starting",
        "worker: starting",
        "web: running (pid 7)",
        "worker: backoff: exited with 1, again in 0.2 s",
        "worker: running (pid 9)",
    ]
    assert (done.code, done.err) == (0, "")


def test_what_was_up_already_is_said(oxherd, supervise, shop, row):
    supervise(environment=KNOWN, start=result(row(), row("worker", pid=None, status="exited")))
    assert oxherd("start").out.splitlines() == ["web: running (pid 22140), as before", "worker: exited, as before"]


def test_a_failure_is_told_with_reason_and_last_lines_on_stderr(oxherd, supervise, shop, row):
    failure = {"name": "web", "label": "web:1", "instance": 1, "reason": "exited with 3; failed 3 times in a row"}
    lines = [f"line {number}" for number in range(9)]
    cards = [
        {"name": "web", "instance": 0, "last_lines": ["of another instance"]},
        {"name": "web", "instance": 1, "last_lines": lines},
        {"name": "web", "instance": 1, "last_lines": ["of an earlier end"]},
    ]
    supervisor = supervise(environment=NEW, start=result(row(), failed=[failure]), why={"cards": cards})
    done = oxherd("start")
    assert done.code == 1
    assert done.err.splitlines() == [
        "web:1: exited with 3; failed 3 times in a row",
        *(f"    | line {number}" for number in range(4, 9)),
        "    oxherd why web:1",
    ]
    assert supervisor.asked("why") == [{"stack": shop, "names": ["web"]}]


def test_a_failure_without_last_words_is_told_all_the_same(oxherd, supervise, shop):
    failure = {"name": "web", "instance": 0, "reason": "executing /x: No such file or directory"}
    supervise(environment=NEW, start=result(failed=[failure]), why=errors.OperationError("no"))
    done = oxherd("start")
    assert (done.code, done.err.splitlines()[0]) == (1, "web: executing /x: No such file or directory")


def test_with_json_there_is_one_document_and_no_progress(oxherd, supervise, shop, row):
    failure = {"name": "worker", "label": "worker", "instance": 0, "reason": "no"}
    script = starting(item(), answer=result(row(), failed=[failure], notes=["a note"]))
    supervise(environment=NEW, start=script)
    done = oxherd("start", "--json")
    document = json.loads(done.out)
    assert done.code == 1
    assert [instance["name"] for instance in document["instances"]] == ["web"]
    assert "next_run" not in document["instances"][0]
    assert (document["failed"], document["notes"]) == ([failure], ["a note"])


def test_quiet_says_nothing_but_failures(oxherd, supervise, shop, row):
    failure = {"name": "worker", "label": "worker", "instance": 0, "reason": "no"}
    supervise(environment=NEW, start=starting(item(), answer=result(row(), failed=[failure], notes=["n"])))
    done = oxherd("start", "-q")
    assert (done.out, done.err.splitlines()[0]) == ("", "worker: no")


def test_notes_are_on_stderr(oxherd, supervise, shop, row):
    supervise(environment=NEW, start=result(row(), notes=["web runs with older settings"]))
    assert oxherd("start").err == "note: web runs with older settings\n"


def test_an_invalid_oxfile_is_reported_whole_and_nothing_is_asked(oxherd, supervise, folder):
    (folder / "oxfile.toml").write_text(
        '[processes.web]\ncomand = "x"\n[processes.b]\ncommand = "y"\ninstances = -1\nrestart = "perhaps"\n'
    )
    supervisor = supervise(environment=NEW)
    done = oxherd("start")
    assert (done.code, done.out) == (2, "")
    assert all(f"oxfile.toml:{line}: " in done.err for line in (2, 5, 6))
    assert done.err.startswith("oxfile.toml:")
    assert supervisor.asked("start") == []


def test_one_invalid_oxfile_of_several_starts_none(oxherd, supervise, shop, folder):
    (folder / "bad").mkdir()
    (folder / "bad" / "oxfile.toml").write_text("nonsense = [")
    supervisor = supervise(environment=NEW)
    assert oxherd("start", "-c", shop, "-c", "bad").code == 2
    assert supervisor.asked("start") == []


def test_a_new_stack_expands_variables_from_the_callers_environment(oxherd, supervise, folder, monkeypatch):
    (folder / "oxfile.toml").write_text(WITH_VARIABLE)
    monkeypatch.setenv("GREETING", "mine")
    supervisor = supervise(environment=NEW, start=result())
    oxherd("start")
    assert sent_oxfile(supervisor).processes[0].command.argv == ("echo", "mine")


@pytest.mark.parametrize(("words", "greeting"), [([], "kept"), (["--update-env"], "mine")])
def test_a_known_stack_keeps_its_environment_unless_told_otherwise(oxherd, supervise, monkeypatch, words, greeting):
    with open("oxfile.toml", "w") as file:
        file.write(WITH_VARIABLE)
    monkeypatch.setenv("GREETING", "mine")
    supervisor = supervise(environment=KNOWN, start=result())
    oxherd("start", *words)
    assert sent_oxfile(supervisor).processes[0].command.argv == ("echo", greeting)
    assert supervisor.asked("start")[0]["update_env"] is bool(words)


@pytest.mark.parametrize(
    ("words", "kept", "command"),
    [
        ([], None, "sleep 1"),
        ([], "prod", "sleep 2"),
        (["--profile", "test"], "prod", "sleep 3"),
        (["--profile", ""], "prod", "sleep 1"),
    ],
)
def test_a_known_stack_keeps_its_profile_unless_told_otherwise(oxherd, supervise, words, kept, command):
    with open("oxfile.toml", "w") as file:
        file.write(TWO_PROFILES)
    supervisor = supervise(environment={"env": {}, "profile": kept}, start=result())
    oxherd("start", *words)
    assert sent_oxfile(supervisor).processes[0].command.text == command


def test_what_was_kept_is_found_without_a_supervisor_too(home, shop):
    from oxherd.cli.compiling import Kept, kept_of
    from oxherd.control.paths import stack_id

    assert kept_of(home, shop) == Kept()
    os.makedirs(home.stack(stack_id(shop)))
    path = os.path.join(home.stack(stack_id(shop)), "stack.json")
    with open(path, "w") as file:
        json.dump({"path": shop, "wanted": False, "env": {"A": "1"}, "profile": "prod"}, file)
    assert kept_of(home, shop) == Kept(env={"A": "1"}, profile="prod")
    with open(path, "w") as file:
        file.write("[")
    assert kept_of(home, shop) == Kept()


def test_dry_run_says_what_and_does_nothing(oxherd, supervise, shop):
    supervisor = supervise(environment=NEW)
    assert oxherd("start", "--dry-run").out == "Would start: web (x2), worker\n"
    assert oxherd("start", "--dry-run", "worker").out == "Would start: worker\n"
    assert json.loads(oxherd("start", "--dry-run", "--json").out)["would_start"][0] == {
        "stack": "shop",
        "name": "web",
        "instances": 2,
    }
    assert supervisor.asked("start") == []


def test_dry_run_needs_no_supervisor(oxherd, shop, home):
    assert oxherd("start", "--dry-run").code == 0
    assert os.listdir(home.runtime) == []


def test_a_name_that_is_not_in_the_oxfile_is_refused_before_anything(oxherd, supervise, shop):
    supervisor = supervise(environment=NEW)
    done = oxherd("start", "wrker")
    assert (done.code, 'did you mean "worker"?' in done.err) == (2, True)
    assert supervisor.asked("start") == []


def test_no_oxfile_says_where_to_get_one(oxherd, folder):
    done = oxherd("start")
    assert done.code == 2
    assert "there is no oxfile.toml in this directory" in done.err
    assert "oxherd init" in done.err


def test_the_users_own_oxfile_is_used_where_there_is_none(oxherd, supervise, folder):
    own = os.path.join(os.environ["XDG_CONFIG_HOME"], "oxherd", "oxfile.toml")
    os.makedirs(os.path.dirname(own))
    with open(own, "w") as file:
        file.write('[processes.own]\ncommand = "sleep 1"\n')
    supervisor = supervise(environment=NEW, start=result())
    assert oxherd("start").code == 0
    assert supervisor.asked("start")[0]["stack"] == own


def test_no_wait_returns_when_the_start_has_begun(oxherd, supervise, shop):
    """The supervisor never answers; its first word is enough."""
    supervise(environment=NEW, start=lambda _request, reply: reply.progress(item(status="starting")))
    done = oxherd("start", "--no-wait")
    assert done.code == 0
    assert "starting in the background" in done.out


def test_no_wait_hears_a_refusal(oxherd, supervise, shop):
    supervise(environment=NEW, start=errors.UsageError("user needs root", code="OX212"))
    done = oxherd("start", "--no-wait")
    assert (done.code, "user needs root" in done.err) == (2, True)


def test_the_wait_ends_at_the_timeout(oxherd, supervise, shop):
    supervise(environment=NEW, start=lambda _request, _reply: None)
    done = oxherd("start", "--timeout", "0.05")
    assert done.code == 1
    assert "start did not end within 0.05 s; it goes on in the background [OX440]" in done.err


def test_several_stacks_are_started_with_their_names_in_front(oxherd, supervise, folder, row):
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "oxfile.toml").write_text(
            f'[processes.web]\ncommand = "sleep 1"\n[processes.only{name}]\ncommand = "sleep 1"\n'
        )
    supervisor = supervise(environment=NEW, start=result(row()))
    done = oxherd("start", "-c", "a", "-c", "b/oxfile.toml", "web", "onlyb")
    assert [
        (os.path.basename(os.path.dirname(args["stack"])), args["names"]) for args in supervisor.asked("start")
    ] == [
        ("a", ["web"]),
        ("b", ["web", "onlyb"]),
    ]
    assert done.out.splitlines()[0].startswith("a/web: running")
    assert len(json.loads(oxherd("start", "--json", "-c", "a", "-c", "b").out)["instances"]) == 2


def test_a_command_is_added_to_the_users_own_stack(oxherd, supervise, folder, row):
    supervisor = supervise(environment=NEW, start=result(row("api")))
    done = oxherd("start", "--name", "api", "--", "uvicorn", "main:app", "--port", "8000")
    own = os.path.join(os.environ["XDG_CONFIG_HOME"], "oxherd", "oxfile.toml")
    assert done.code == 0
    assert done.out.splitlines()[0] == f"api: added to {own}"
    (args,) = supervisor.asked("start")
    assert (args["stack"], args["names"]) == (own, ["api"])
    (process,) = sent_oxfile(supervisor).processes
    assert process.command.text == "uvicorn main:app --port 8000"
    assert process.working_dir == str(folder)


@pytest.mark.parametrize("words", [["--name", "api"], ["--cwd", "/srv"]])
def test_name_and_command_go_together(oxherd, folder, words):
    assert oxherd("start", *words).code == 2


def test_a_dry_run_of_a_new_command_writes_nothing(oxherd, folder):
    assert oxherd("start", "--dry-run", "--name", "api", "--", "sleep", "1").code == 0
    assert not os.path.exists(os.environ["XDG_CONFIG_HOME"])


def test_a_stack_that_oxherd_run_has_is_started_there(oxherd, supervise, shop, row):
    background = supervise(environment=NEW, start=result())
    foreground = supervise(run_of=shop, environment=KNOWN, start=result(row()))
    assert oxherd("start").code == 0
    assert (len(foreground.asked("start")), background.requests) == (1, [])


def test_ctrl_c_ends_the_wait_and_says_that_the_start_goes_on(oxherd, supervise, shop, monkeypatch):
    from oxherd.control.client import Client

    real = Client.request

    def interrupted(client, verb, *words, **args):
        if verb == "start":
            raise KeyboardInterrupt
        return real(client, verb, *words, **args)

    monkeypatch.setattr(Client, "request", interrupted)
    supervise(environment=NEW)
    done = oxherd("start")
    assert done.code == 130
    assert "start interrupted; what has begun goes on, oxherd status shows it" in done.err
