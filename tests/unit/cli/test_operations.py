"""stop, restart, reload, apply, scale, delete, signal: what is asked of the supervisor and what is said of it."""

from __future__ import annotations

import json

import pytest

from oxherd import errors

KNOWN = {"env": {"PATH": "/bin:/usr/bin"}, "profile": None}
DONE = {"instances": [], "failed": [], "notes": []}


def stacks(**processes):
    return {
        "stacks": [
            {"stack": f"/srv/{name}/oxfile.toml", "name": name, "id": name, "wanted": True, "processes": names}
            for name, names in processes.items()
        ]
    }


@pytest.mark.parametrize("verb", ["stop", "delete"])
def test_the_stack_here_is_meant(oxherd, supervise, shop, verb):
    supervisor = supervise(**{verb: DONE})
    assert oxherd(verb, "web", "worker:0").code == 0
    assert supervisor.asked(verb) == [{"stack": shop, "names": ["web", "worker:0"]}]


@pytest.mark.parametrize("verb", ["stop", "restart", "reload", "delete", "signal", "scale", "logs", "why"])
def test_without_a_supervisor_the_exit_code_is_3(oxherd, folder, verb):
    words = {"signal": ["HUP", "web"], "scale": ["web=2"]}.get(verb, ["web"])
    done = oxherd(verb, *words)
    assert (done.code, done.err) == (3, "oxherd: no supervisor is running [OX300]\n    hint: oxherd start\n")


@pytest.mark.parametrize("verb", ["stop", "restart", "reload", "delete", "signal"])
def test_without_a_supervisor_it_is_3_where_there_is_an_oxfile_too(oxherd, shop, verb):
    assert oxherd(verb, *(["HUP"] if verb == "signal" else [])).code == 3


def test_a_name_is_looked_up_where_there_is_no_oxfile(oxherd, supervise, folder):
    supervisor = supervise(stacks=stacks(shop=["web", "worker"], blog=["web", "cron"]), stop=DONE)
    assert oxherd("stop", "worker:0", "cron").code == 0
    assert supervisor.asked("stop") == [
        {"stack": "/srv/shop/oxfile.toml", "names": ["worker:0"]},
        {"stack": "/srv/blog/oxfile.toml", "names": ["cron"]},
    ]


def test_a_name_of_two_stacks_lists_both(oxherd, supervise, folder):
    supervisor = supervise(stacks=stacks(shop=["web"], blog=["web"]))
    done = oxherd("stop", "web")
    assert done.code == 2
    assert done.err == (
        'oxherd: "web" is in 2 stacks: /srv/shop/oxfile.toml, /srv/blog/oxfile.toml [OX241]\n'
        "    hint: say which: --config /srv/shop/oxfile.toml\n"
    )
    assert supervisor.asked("stop") == []


def test_a_name_of_no_stack_says_what_may_be_meant(oxherd, supervise, folder):
    supervise(stacks=stacks(shop=["web"]))
    assert 'did you mean "web"?' in oxherd("stop", "wb").err


def test_several_configs_share_the_names(oxherd, supervise, folder):
    (folder / "blog").mkdir()
    supervisor = supervise(stop=DONE, stacks=stacks(shop=["web", "worker"], other=["worker"]))
    assert oxherd("stop", "-c", "/srv/shop/oxfile.toml", "-c", "/srv/other/oxfile.toml", "web").code == 0
    assert supervisor.asked("stop") == [{"stack": "/srv/shop/oxfile.toml", "names": ["web"]}]


def test_nothing_meant_is_a_usage_error(oxherd, supervise, folder):
    supervise()
    assert oxherd("stop").code == 2


def test_stopping_is_shown_and_a_failure_counts(oxherd, supervise, shop):
    def script(_request, reply):
        for status in ("stopping", "stopped"):
            reply.progress({"process": "web", "label": "web:0", "instance": 0, "status": status, "pid": None})
        reply.result(
            {**DONE, "failed": [{"name": "web", "label": "web:0", "instance": 0, "reason": "it was started again"}]}
        )

    supervise(stop=script, why={"cards": []})
    done = oxherd("stop")
    assert done.code == 1
    assert done.out.splitlines()[0] == "web:0: stopping"
    assert done.out.splitlines()[1].startswith("web:0: stopped after 0.")
    assert done.err.splitlines()[0] == "web:0: it was started again"


def test_an_error_of_the_supervisor_is_told_with_its_code(oxherd, supervise, shop):
    supervise(stop=errors.UsageError("stack shop has no process x", hint="its processes are: web", code="OX211"))
    done = oxherd("stop", "x")
    assert (done.code, done.err) == (
        2,
        "oxherd: stack shop has no process x [OX211]\n    hint: its processes are: web\n",
    )


@pytest.mark.parametrize("verb", ["restart", "reload"])
def test_a_restart_takes_the_oxfile_as_it_is_now(oxherd, supervise, shop, verb):
    supervisor = supervise(environment=KNOWN, **{verb: DONE})
    assert oxherd(verb, "web", "--update-env").code == 0
    (args,) = supervisor.asked(verb)
    assert (args["stack"], args["names"], args["update_env"]) == (shop, ["web"], True)
    assert args["oxfile"]["path"] == shop
    assert args["env"]["OXHERD_HOME"]


@pytest.mark.parametrize("verb", ["restart", "reload", "apply"])
def test_an_invalid_oxfile_touches_nothing(oxherd, supervise, folder, verb):
    (folder / "oxfile.toml").write_text('[processes.web]\ncomand = "x"\n')
    supervisor = supervise(environment=KNOWN)
    assert oxherd(verb).code == 2
    assert supervisor.asked(verb) == []


def test_apply_says_what_it_changed(oxherd, supervise, shop):
    answer = {**DONE, "added": ["cron"], "changed": ["web", "worker"], "removed": [], "unchanged": ["beat"]}
    supervisor = supervise(environment=KNOWN, apply=answer)
    done = oxherd("apply")
    assert (done.code, done.out) == (0, "added: cron\nchanged: web, worker\nunchanged: beat\n")
    (args,) = supervisor.asked("apply")
    assert (args["stack"], args["prune"], args["update_env"]) == (shop, True, False)
    assert json.loads(oxherd("apply", "--json", "--no-prune").out)["changed"] == ["web", "worker"]
    assert supervisor.asked("apply")[1]["prune"] is False


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["web=4"], [("web", "4")]),
        (["web+1"], [("web", "+1")]),
        (["web-1"], [("web", "-1")]),
        (["web", "4"], [("web", "4")]),
        (["web=0", "my-worker-2"], [("web", "0"), ("my-worker", "-2")]),
        (["web", "4", "worker", "1"], [("web", "4"), ("worker", "1")]),
    ],
)
def test_scale_takes_numbers_and_changes(oxherd, supervise, shop, words, asked):
    supervisor = supervise(scale=DONE)
    assert oxherd("scale", *words).code == 0
    assert [(args["name"], args["instances"]) for args in supervisor.asked("scale")] == asked


@pytest.mark.parametrize("words", [["web"], ["web="], ["=4"], ["web=x"], ["web", "x"], []])
def test_scale_refuses_what_says_no_number(oxherd, supervise, shop, words):
    supervisor = supervise(scale=DONE)
    assert oxherd("scale", *words).code == 2
    assert supervisor.asked("scale") == []


def test_delete_says_what_is_gone(oxherd, supervise, shop):
    supervise(delete={**DONE, "deleted": ["web", "worker"]})
    assert oxherd("delete").out == "deleted: web, worker\n"


@pytest.mark.parametrize("name", ["HUP", "SIGHUP", "hup", "1"])
def test_signal_sends_by_name_or_number(oxherd, supervise, shop, name):
    supervisor = supervise(signal={"sent": [{"name": "web", "label": "web:1", "instance": 1, "pid": 12}]})
    done = oxherd("signal", name, "web:1")
    assert (done.code, done.out) == (0, "web:1: sent SIGHUP to pid 12\n")
    assert supervisor.asked("signal") == [{"stack": shop, "names": ["web:1"], "signal": 1}]


def test_a_signal_that_reached_nobody_did_not_work(oxherd, supervise, shop):
    supervise(signal={"sent": []})
    done = oxherd("signal", "HUP")
    assert (done.code, done.err) == (1, "Nothing was sent: none of them runs\n")


def test_a_signal_that_does_not_exist_is_a_usage_error(oxherd, shop):
    done = oxherd("signal", "NOSUCH", "web")
    assert (done.code, "a signal such as SIGTERM" in done.err) == (2, True)
