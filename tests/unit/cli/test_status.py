"""``oxherd status``: what it shows, of what, and what it costs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from oxherd import errors

UNKNOWN = errors.UsageError("the stack of x is not known to the supervisor", code="OX210")

KEYS = [
    "stack",
    "name",
    "instance",
    "pid",
    "status",
    "ready",
    "health",
    "cpu_percent",
    "memory_bytes",
    "restarts",
    "uptime_seconds",
    "generation",
    "exit",
]


@pytest.mark.parametrize("verb", ["status", "ls"])
def test_the_table_has_the_promised_columns(oxherd, supervise, shop, row, verb):
    supervisor = supervise(status={"rows": [row(), row("worker", pid=22150, cpu_percent=0.0)]})
    result = oxherd(verb)
    assert result.out.splitlines() == [
        "NAME      PID  STATUS    CPU     MEM  RESTARTS  UPTIME",
        "web     22140  running  3.2%  210 MB         0  2d 6h",
        "worker  22150  running  0.0%  210 MB         0  2d 6h",
    ]
    assert (result.code, result.err) == (0, "")
    assert supervisor.asked("status") == [{"stack": shop}]


def test_instances_are_told_apart_and_what_is_not_there_is_a_dash(oxherd, supervise, shop, row):
    down = {"pid": None, "cpu_percent": None, "memory_bytes": None, "uptime_seconds": None, "status": "stopped"}
    supervise(status={"rows": [row(instances=2), row(instance=1, instances=2, **down)]})
    assert oxherd("status").out.splitlines()[1:] == [
        "web:0  22140  running  3.2%  210 MB         0  2d 6h",
        "web:1      -  stopped     -       -         0  -",
    ]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"status": "crashed", "exit": {"code": 1, "signal": None, "text": "exited with 1"}},
            "  web crashed: exited with 1 (oxherd why web)",
        ),
        (
            {"status": "backoff", "detail": "exited with 1, again in 2 s"},
            "  web backoff: exited with 1, again in 2 s (oxherd why web)",
        ),
        (
            {"status": "unhealthy", "detail": "GET /health: 503", "instance": 1},
            "  web:1 unhealthy: GET /health: 503 (oxherd why web:1)",
        ),
        ({"status": "crashed"}, "  web crashed (oxherd why web)"),
        ({"status": "stopped", "next_run": "2026-11-22 03:00"}, "  web runs next at 2026-11-22 03:00"),
    ],
)
def test_what_needs_somebody_has_a_line_below_the_table(oxherd, supervise, row, changes, line):
    supervise(status={"rows": [row(**changes)]})
    assert oxherd("status").out.splitlines()[2:] == [line]


def test_json_is_an_array_of_exactly_these_keys(oxherd, supervise, shop, row):
    supervise(status={"rows": [row(), row("worker")]})
    rows = json.loads(oxherd("status", "--json").out)
    assert [list(item) for item in rows] == [KEYS, KEYS]
    assert rows[0]["uptime_seconds"] == 2 * 86400 + 6 * 3600 + 61.0


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["worker"], ["worker"]),
        (["web:1"], ["web"]),
        (["worker", "web"], ["web", "web", "worker"]),
    ],
)
def test_names_choose_processes_and_instances(oxherd, supervise, row, words, names):
    supervise(status={"rows": [row(instances=2), row(instance=1, instances=2), row("worker")]})
    assert [item["name"] for item in json.loads(oxherd("ls", "--json", *words).out)] == names


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("wbe", 'oxherd: there is no process "wbe" [OX211]\n    hint: did you mean "web"?\n'),
        ("xyz", 'oxherd: there is no process "xyz" [OX211]\n    hint: there are: web, worker\n'),
        ("web:7", "oxherd: web has no instance 7 [OX211]\n    hint: oxherd status shows the instances\n"),
    ],
)
def test_a_name_that_is_not_there_is_a_usage_error(oxherd, supervise, row, word, message):
    supervise(status={"rows": [row(), row("worker")]})
    result = oxherd("status", word)
    assert (result.code, result.out) == (2, "")
    assert result.err == message


def test_without_a_supervisor_it_says_how_to_start_one(oxherd, shop):
    result = oxherd("status")
    assert (result.code, result.out) == (3, "")
    assert result.err == "oxherd: no supervisor is running [OX300]\n    hint: oxherd start\n"


def test_with_json_an_error_is_a_document_too(oxherd, shop):
    result = oxherd("status", "--json")
    assert result.code == 3
    assert json.loads(result.out)["error"]["code"] == "OX300"


def test_without_an_oxfile_all_stacks_are_shown(oxherd, supervise, folder, row):
    other = row(stack="blog", stack_path="/srv/blog/oxfile.toml")
    supervisor = supervise(status={"rows": [row(), other]})
    assert [line.split()[:2] for line in oxherd("status").out.splitlines()] == [
        ["STACK", "NAME"],
        ["shop", "web"],
        ["blog", "web"],
    ]
    assert supervisor.asked("status") == [{"stack": None}]


@pytest.mark.parametrize("flag", ["--all", "-a"])
def test_all_is_all_stacks_wherever_one_is(oxherd, supervise, shop, row, flag):
    supervisor = supervise(status={"rows": [row()]})
    oxherd("status", flag)
    assert supervisor.asked("status") == [{"stack": None}]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize("form", [["-c", "{}"], ["--config", "{}"], ["--config={}"]])
def test_config_names_the_stack_by_file_or_directory(oxherd, supervise, row, tmp_path, form):
    (tmp_path / "other").mkdir()
    supervisor = supervise(status={"rows": [row()]})
    oxherd("status", *(word.format("other") for word in form))
    oxherd("status", *(word.format("other/oxfile.toml") for word in form))
    assert supervisor.asked("status") == [{"stack": str(tmp_path / "other" / "oxfile.toml")}] * 1 + [
        {"stack": str(tmp_path / "other" / "oxfile.toml")}
    ]


def test_several_configs_are_shown_in_one_table(oxherd, supervise, folder, row):
    def answer(request, reply):
        name = os.path.basename(os.path.dirname(request.args["stack"]))
        reply.result({"rows": [row(stack=name, stack_path=request.args["stack"])]})

    supervise(status=answer)
    result = oxherd("status", "-c", "a/oxfile.toml", "-c", "b/oxfile.toml")
    assert [line.split()[0] for line in result.out.splitlines()] == ["STACK", "a", "b"]


def test_a_stack_that_was_never_started_is_shown_stopped(oxherd, supervise, shop):
    supervise(status=UNKNOWN)
    rows = json.loads(oxherd("status", "--json").out)
    assert [(item["name"], item["instance"], item["status"], item["pid"]) for item in rows] == [
        ("web", 0, "stopped", None),
        ("web", 1, "stopped", None),
        ("worker", 0, "stopped", None),
    ]


def test_a_supervisor_without_stacks_says_what_to_do(oxherd, supervise, folder):
    supervise(status={"rows": []})
    result = oxherd("status")
    assert (result.code, json.loads(oxherd("status", "--json").out)) == (0, [])
    assert "oxherd start" in result.out


def test_the_stack_of_an_oxherd_run_is_asked_of_that(oxherd, supervise, shop, row):
    background = supervise(status=UNKNOWN)
    supervise(run_of=shop, status={"rows": [row("from-run")]})
    assert "from-run" in oxherd("status").out
    assert background.requests == []


def test_all_shows_the_stacks_of_every_supervisor(oxherd, supervise, folder, row):
    supervise(status={"rows": [row("background")]})
    supervise(run_of="/srv/a/oxfile.toml", status={"rows": [row("foreground")]})
    names = [item["name"] for item in json.loads(oxherd("status", "--all", "--json").out)]
    assert sorted(names) == ["background", "foreground"]


def test_an_oxherd_run_alone_is_enough(oxherd, supervise, folder, row):
    supervise(run_of="/srv/a/oxfile.toml", status={"rows": [row("foreground")]})
    result = oxherd("status")
    assert result.code == 0
    assert "foreground" in result.out


def test_a_dead_oxherd_run_is_not_asked(oxherd, supervise, home, shop, row):
    from oxherd.control.paths import stack_id

    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(home.run_socket(stack_id(shop)))
    supervise(status={"rows": [row()]})
    assert oxherd("status").code == 0


@pytest.mark.parametrize("words", [["status", "--jsn"], ["status", "--config"], ["ls", "-x"]])
def test_what_the_quick_path_does_not_know_is_a_usage_error_of_click(oxherd, shop, words):
    result = oxherd(*words)
    assert result.code == 2
    assert "Error: " in result.err


def test_both_ways_say_the_same(oxherd, supervise, shop, row):
    """``--profile`` is unknown to the quick path, so click takes over."""
    supervise(status={"rows": [row(), row("worker")]})
    assert oxherd("status", "--profile", "x").out == oxherd("status").out


def test_help_is_clicks(oxherd, folder):
    result = oxherd("status", "--help")
    assert result.code == 0
    assert "NAME PID STATUS CPU MEM RESTARTS UPTIME" in result.out


def test_a_supervisor_of_another_version_is_noted_on_stderr(oxherd, supervise, shop, row):
    supervise(version="9.9.8", status={"rows": [row()]})
    result = oxherd("status", "--json")
    assert json.loads(result.out)
    assert "the supervisor is 9.9.8; `oxherd daemon upgrade`" in result.err


def test_status_as_a_whole_imports_next_to_nothing(supervise, shop, row):
    """The script of the console is run to its end, answer and table included; what it loaded is what it cost."""
    supervise(status={"rows": [row(status="crashed")]})
    wrapped = (
        "import os, sys\nbefore = set(sys.modules)\nsys.argv = ['oxherd', 'status']\n"
        "def report(code): sys.stderr.write('\\n'.join(set(sys.modules) - before)); sys.stderr.flush(); end(code)\n"
        "end, os._exit = os._exit, report\nfrom oxherd.cli.entry import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", wrapped], capture_output=True, text=True, check=False, timeout=60)
    loaded = set(done.stderr.split("\n"))
    assert "web" in done.stdout
    assert "oxherd.cli.quick" in loaded
    assert not loaded & {
        "click",
        "rich",
        "typing",
        "dataclasses",
        "enum",
        "functools",
        "inspect",
        "json",
        "re",
        "socket",
        "signal",
        "selectors",
        "argparse",
    }
    assert {name for name in loaded if name.startswith("oxherd.")} == {
        "oxherd.cli",
        "oxherd.cli.entry",
        "oxherd.cli.quick",
        "oxherd.cli.table",
        "oxherd.cli.where",
        "oxherd.control",
        "oxherd.control.client",
        "oxherd.control.ownership",
        "oxherd.control.paths",
        "oxherd.control.protocol",
        "oxherd.jsons",
        "oxherd.units",
    }


def test_a_reader_that_has_seen_enough_ends_it_quietly(supervise, shop, row):
    supervise(status={"rows": [row(f"p{number}") for number in range(5000)]})
    line = f'{sys.executable} -c \'import sys; sys.argv=["oxherd", "status"]; from oxherd.cli.entry import main; sys.exit(main())\''
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line} | head -n 1"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.startswith("NAME")
    assert (done.returncode, done.stderr) == (0, "")


def test_quiet_says_by_its_exit_code_whether_somebody_answers(oxherd, supervise, shop, row):
    assert (oxherd("status", "-q").code, oxherd("status", "-q").out) == (3, "")
    supervise(status={"rows": [row()]})
    done = oxherd("status", "-q")
    assert (done.code, done.out, done.err) == (0, "", "")
