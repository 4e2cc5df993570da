"""``oxherd logs``: which logs, which lines, and how they are shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import datetime

import pytest

from oxherd import errors
from oxherd.cli import logsources
from oxherd.cli.logsources import choose, read_chosen
from oxherd.system.logs.reader import LogLine, LogSource

UNKNOWN = errors.UsageError("the stack of x is not known to the supervisor", code="OX210")


def line(text, process="web", instance=0, stream="output", when=1.0):
    return LogLine(time=when, process=process, instance=instance, stream=stream, text=text, raw=text.encode())


def source(process="web", path="/x.log", **more):
    return LogSource(process=process, path=str(path), index=f"{path}.idx", **more)


class Reader:
    """Stands in for the reader of logs: history, then what is written while it is followed."""

    def __init__(self, history, added=()):
        self.history = list(history)
        self.added = list(added)
        self.calls = []

    def __call__(self, sources, **options):
        self.calls.append((sources, options))
        last = options.get("last")
        chosen = self.history if last is None else self.history[-last:] if last else []
        return iter([*chosen, *(self.added if options.get("follow") else [])])


@pytest.fixture
def reader(monkeypatch):
    def use(*history, added=()):
        made = Reader(history, added)
        monkeypatch.setattr(logsources, "read_logs", made)
        return made

    return use


def logfiles(*files):
    return {
        "files": [
            {"process": name, "path": str(path), "index": f"{path}.idx", "error_path": None, "error_index": None}
            | {"instances": instances}
            for name, path, instances in files
        ]
    }


def test_the_supervisor_says_where_the_logs_are(oxherd, supervise, shop, reader):
    supervisor = supervise(logfiles=logfiles(("web", "/l/web.log", 2), ("worker", "/l/worker.log", 1)))
    seen = reader(line("one", instance=1), line("two", process="worker"))
    done = oxherd("logs", "web", "worker")
    assert done.out == "web:1    | one\nworker:0 | two\n"
    assert supervisor.asked("logfiles") == [{"stack": shop, "names": ["web", "worker"]}]
    ((sources, options),) = seen.calls
    assert [(item.process, item.path, item.instances) for item in sources] == [
        ("web", "/l/web.log", 2),
        ("worker", "/l/worker.log", 1),
    ]
    assert options == {"last": 50, "since": None, "level": None, "follow": False}


def own_log(home, shop, name):
    from oxherd.control.paths import stack_id

    os.makedirs(home.logs(stack_id(shop)), exist_ok=True)
    return os.path.join(home.logs(stack_id(shop)), f"{name}.log")


@pytest.mark.parametrize("known", [False, None], ids=["unknown stack", "no supervisor"])
def test_without_the_supervisors_word_the_oxfile_says_where(oxherd, supervise, home, shop, known):
    if known is False:
        supervise(logfiles=UNKNOWN)
    with open(own_log(home, shop, "worker"), "w") as file:
        file.write("from the worker\n")
    done = oxherd("logs", "worker")
    assert (done.code, done.out, done.err) == (0, "worker   | from the worker\n", "")


def test_what_the_oxfile_says_of_files_holds(home, folder):
    (folder / "oxfile.toml").write_text(
        '[processes.web]\ncommand = "sleep 1"\nlog_file = "/l/web-{instance}.log"\nerror_log_file = "/l/web.err"\ninstances = 3\n'
    )
    (found,) = logsources.find_sources(home, None, [])
    folder_of_indexes = os.path.dirname(own_log(home, str(folder / "oxfile.toml"), "web"))
    assert found == LogSource(
        process="web",
        path="/l/web-{instance}.log",
        index=f"{folder_of_indexes}/web.idx",
        error_path="/l/web.err",
        error_index=f"{folder_of_indexes}/web.err.idx",
        instances=3,
    )


def test_a_name_that_is_not_in_the_oxfile_is_refused(oxherd, shop):
    assert oxherd("logs", "wrker").code == 2


def test_any_bytes_are_shown_as_they_were_written(oxherd, supervise, shop, reader, capfdbinary):
    supervise(logfiles=logfiles(("web", "/l/web.log", 1)))
    odd = LogLine(time=1.0, process="web", instance=0, stream="output", text="\ufffd", raw=b"\xff\x00\x1b[31mred")
    reader(odd)
    from oxherd.cli.main import main

    assert main(["logs"]) == 0
    assert capfdbinary.readouterr().out == b"web:0 | \xff\x00\x1b[31mred\n"


def test_json_is_an_object_a_line(oxherd, supervise, shop, reader):
    supervise(logfiles=logfiles(("web", "/l/web.log", 1)))
    reader(line("one", when=1.5), line("two", instance=None, stream=None))
    assert [json.loads(text) for text in oxherd("logs", "--json").out.splitlines()] == [
        {"time": 1.5, "process": "web", "instance": 0, "stream": "output", "text": "one"},
        {"time": 1.0, "process": "web", "instance": None, "stream": None, "text": "two"},
    ]


@pytest.mark.usefixtures("shop")
@pytest.mark.parametrize(
    ("words", "last"),
    [([], 50), (["-n", "7"], 7), (["--since", "10m"], None), (["-n", "3", "--since", "1h"], 3), (["-n", "0"], 0)],
)
def test_the_last_fifty_are_shown_unless_said_otherwise(oxherd, supervise, reader, words, last):
    supervise(logfiles=logfiles(("web", "/l/web.log", 1)))
    seen = reader()
    oxherd("logs", *words)
    assert seen.calls[0][1]["last"] == last


@pytest.mark.parametrize("text", ["2026-01-31T12:00", "2026-01-31 12:00:00", "2026-01-31T12:00:00+02:00"])
def test_since_takes_a_moment(oxherd, supervise, shop, reader, text):
    supervise(logfiles=logfiles(("web", "/l/web.log", 1)))
    seen = reader()
    oxherd("logs", "--since", text)
    assert seen.calls[0][1]["since"] == datetime.fromisoformat(text).timestamp()


def test_since_takes_an_age(oxherd, supervise, shop, reader):
    supervise(logfiles=logfiles(("web", "/l/web.log", 1)))
    seen = reader()
    before = time.time()
    oxherd("logs", "--since", "10m")
    assert before - 600 <= seen.calls[0][1]["since"] <= time.time() - 600


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--since", "yesterday"], '"yesterday" is no time'),
        (["--level", "loud"], "expected one of debug, info, warning, error, critical"),
        (["--stdout", "--stderr"], "exclude each other"),
        (["-n", "-1"], "-1"),
    ],
)
def test_options_that_mean_nothing_are_usage_errors(oxherd, supervise, shop, words, text):
    supervise(logfiles=logfiles(("web", "/l/web.log", 1)))
    done = oxherd("logs", *words)
    assert (done.code, text in done.err) == (2, True)


def test_following_shows_what_comes(oxherd, supervise, shop, reader):
    supervise(logfiles=logfiles(("web", "/l/web.log", 1)))
    seen = reader(line("old"), added=[line("new")])
    assert oxherd("logs", "-f").out == "web:0 | old\nweb:0 | new\n"
    assert seen.calls[0][1]["follow"] is True


def test_following_ends_well_with_ctrl_c(oxherd, supervise, shop, monkeypatch):
    supervise(logfiles=logfiles(("web", "/l/web.log", 1)))

    def until_interrupted(_sources, **_options):
        yield line("one")
        raise KeyboardInterrupt

    monkeypatch.setattr(logsources, "read_logs", until_interrupted)
    done = oxherd("logs", "-f")
    assert (done.code, done.out) == (0, "web:0 | one\n")
    assert oxherd("logs").code == 130


@pytest.mark.parametrize(
    ("names", "stream", "texts"),
    [
        ([], "", ["a0", "a1", "b0", "a-err", "unknown"]),
        (["web:1"], "", ["a1", "b0", "unknown"]),
        (["web:1", "web:0"], "", ["a0", "a1", "b0", "a-err", "unknown"]),
        (["web:1", "web"], "", ["a0", "a1", "b0", "a-err", "unknown"]),
        ([], "stderr", ["a-err", "unknown"]),
        (["web:1"], "stderr", ["unknown"]),
    ],
)
def test_names_and_streams_choose_lines(names, stream, texts):
    lines = [
        line("a0", stream="stdout"),
        line("a1", instance=1, stream="stdout"),
        line("b0", process="worker", stream="stdout"),
        line("a-err", stream="stderr"),
        line("unknown", instance=None, stream=None),
    ]
    assert [item.text for item in lines if choose(names, stream)(item)] == texts


def test_a_reader_that_has_seen_enough_ends_it_quietly(home, shop):
    with open(own_log(home, shop, "worker"), "w") as file:
        file.writelines(f"line {number} {'x' * 200}\n" for number in range(20_000))
    main = f"{sys.executable} -c 'import sys; from oxherd.cli.main import main; sys.exit(main())' logs worker -n 20000"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {main} | head -n 1"], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.startswith("worker   | line 0 ")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("last", [1, 3, 10, 500])
def test_the_last_n_are_counted_after_the_choice(reader, last, follow):
    history = [line(str(number), instance=number % 7) for number in range(400)]
    seen = reader(*history, added=[line("new 1", instance=1), line("new 3", instance=3)])
    found = read_chosen([source()], choose(["web:3"], ""), last=last, since=None, level=None, follow=follow)
    chosen = [str(number) for number in range(400) if number % 7 == 3][-last:]
    assert [item.text for item in found] == chosen + (["new 3"] if follow else [])
    assert max(options["last"] for _, options in seen.calls) <= max(4 * 7 * last, last)


def test_a_terminal_gets_tags_in_colour(row):
    from oxherd.cli.verbs.logs import _Tagged

    show = _Tagged([source(instances=12), source("w")], color=True)
    assert show(line("x", instance=3)) == b"\x1b[36mweb:3  | \x1b[0mx\n"
    assert show(line("x", process="w")) == b"\x1b[33mw:0    | \x1b[0mx\n"
