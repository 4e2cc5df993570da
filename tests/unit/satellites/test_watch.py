"""Which changes the file watcher tells of, and how it finds the folders it has to watch."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from oxherd.satellites import watch
from oxherd.satellites.watch import Group, Output, Rule


def rule(**data) -> Rule:
    return Rule.of({"roots": ["/srv/app"], **data})


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/srv/app/main.py", True),
        ("/srv/app/pkg/deep/er/views.py", True),
        ("/srv/app/templates/index.html", True),
        ("/srv/app/.env", True),
        ("/srv/application/main.py", False),
        ("/srv/other/main.py", False),
        ("/srv/app/.git/index", False),
        ("/srv/app/pkg/__pycache__/views.cpython-311.pyc", False),
        ("/srv/app/pkg/views.pyc", False),
        ("/srv/app/.venv/lib/python3.11/site.py", False),
        ("/srv/app/web/node_modules/x/index.js", False),
        ("/srv/app/.main.py.swp", False),
        ("/srv/app/main.py~", False),
        ("/srv/app/4913", False),
        ("/srv/app/app.log", False),
        ("/srv/app/db.sqlite3", False),
        ("/srv/app/db.sqlite3-journal", False),
        ("/srv/app/celerybeat-schedule.db", False),
    ],
)
def test_without_settings_all_but_caches_environments_and_data_counts(path, wanted):
    assert rule().wants(path) is wanted


def test_a_project_below_a_folder_with_such_a_name_is_watched_all_the_same():
    assert Rule.of({"roots": ["/home/venv/app"]}).wants("/home/venv/app/main.py")


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/srv/app/main.py", True),
        ("/srv/app/main.PY", False),
        ("/srv/app/index.html", False),
        ("/srv/app/data.db", True),
        ("/srv/app/__pycache__/x.py", False),
    ],
)
def test_extensions_say_what_counts_even_of_data(path, wanted):
    assert rule(extensions=[".py", ".db"]).wants(path) is wanted


@pytest.mark.parametrize(
    ("glob", "ignored", "kept"),
    [
        ("*.md", "docs/a.md", "docs/a.py"),
        ("static", "static/css/a.css", "statics/a.css"),
        ("static/", "web/static/a.css", "web/a.css"),
        ("static/**", "static/a/b.css", "a/b.css"),
        ("**/gen", "x/gen/a.py", "x/general/a.py"),
        ("**/gen", "gen/a.py", "generated.py"),
        ("./uploads/*", "uploads/a/b.png", "other/a.png"),
        ("web/*.js", "web/a.js", "app/a.js"),
        ("/srv/app/tmp*", "tmpfile", "my_tmp"),
        ("test_?.py", "tests/test_1.py", "tests/test_10.py"),
    ],
)
def test_globs_match_names_folders_and_paths(glob, ignored, kept):
    one = rule(ignore=[glob])
    assert not one.wants(f"/srv/app/{ignored}")
    assert one.wants(f"/srv/app/{kept}")


@pytest.mark.parametrize(
    ("regex", "ignored", "kept"),
    [
        (r"^logs/", "logs/a.txt", "app/logs/a.txt"),
        (r"\.(css|js)$", "a/b.css", "a/b.py"),
        (r"^/srv/app/gen", "gen/x.py", "x/gen.py"),
    ],
)
def test_regular_expressions_are_searched_below_the_root_and_in_the_whole_path(regex, ignored, kept):
    one = rule(ignore_regex=[regex])
    assert not one.wants(f"/srv/app/{ignored}")
    assert one.wants(f"/srv/app/{kept}")


def test_a_file_that_is_named_itself_counts_whatever_it_is_called(tmp_path):
    named = tmp_path / "settings.log"
    named.write_text("")
    one = Rule.of({"roots": [str(named)], "extensions": [".py"]})
    assert one.wants(str(named))
    assert not one.wants(str(tmp_path / "other.log"))


def plans(*roots) -> tuple[set[str], set[str]]:
    rules = [Rule.of({"roots": [str(root) for root in roots]})]
    deep, flat = (set(Group(rules, flat=flat, output=Output(1)).plan()) for flat in (False, True))
    return deep, flat


def test_folders_are_watched_with_all_below_them_and_files_by_their_folder(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "file.py").write_text("")
    assert plans(tmp_path / "app", tmp_path / "file.py") == ({str(tmp_path / "app")}, {str(tmp_path)})


def test_what_is_not_there_is_waited_for_at_the_nearest_folder(tmp_path):
    assert plans(tmp_path / "a" / "b" / "c") == (set(), {str(tmp_path)})


def test_a_folder_that_was_replaced_is_another_one(tmp_path):
    app = tmp_path / "app"
    app.mkdir()
    group = Group([Rule.of({"roots": [str(app)]})], flat=False, output=Output(1))
    before = group.plan()
    app.rename(tmp_path / "old")
    app.mkdir()
    assert group.plan() != before


def test_a_folder_that_was_moved_here_is_all_the_files_in_it(tmp_path):
    (tmp_path / "pkg" / "__pycache__").mkdir(parents=True)
    (tmp_path / "pkg" / "a.py").write_text("")
    (tmp_path / "pkg" / "__pycache__" / "a.pyc").write_text("")
    assert list(watch._files_of(1, str(tmp_path / "pkg"))) == [str(tmp_path / "pkg" / "a.py")]
    assert list(watch._files_of(2, str(tmp_path / "pkg"))) == []
    assert list(watch._files_of(3, str(tmp_path / "gone"))) == [str(tmp_path / "gone")]


class Watching:
    """The program itself, and what it says."""

    def __init__(self, *rules: dict[str, list[str]], env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-I", watch.__file__, json.dumps(rules)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env={"PATH": os.environ["PATH"], **(env or {})},
        )

    def read(self) -> dict[str, object]:
        return json.loads(self.process.stdout.readline())

    def __enter__(self):
        assert self.read() == {"ready": True}
        return self

    def __exit__(self, *_exc):
        self.process.stdout.close()
        assert self.process.wait(20) == 0


@pytest.mark.parametrize("env", [{}, {"WATCHFILES_FORCE_POLLING": "1"}], ids=["told", "polling"])
def test_it_tells_each_rule_of_its_changes_and_ends_with_its_reader(tmp_path, env):
    for name in ("web", "worker"):
        (tmp_path / name).mkdir()
    rules = [{"roots": [str(tmp_path / name)], "extensions": [".py"]} for name in ("web", "worker")]
    with Watching(*rules, env=env) as watching:
        (tmp_path / "worker" / "tasks.txt").write_text("x")
        (tmp_path / "worker" / "tasks.py").write_text("x")
        assert watching.read() == {"rule": 1, "paths": [str(tmp_path / "worker" / "tasks.py")], "count": 1}


def test_a_file_that_editors_replace_is_followed(tmp_path):
    named = tmp_path / "settings.toml"
    named.write_text("1")
    with Watching({"roots": [str(named)]}) as watching:
        for number in range(2):
            (tmp_path / "new").write_text(str(number))
            (tmp_path / "new").rename(named)
            assert watching.read() == {"rule": 0, "paths": [str(named)], "count": 1}


def test_a_folder_that_comes_later_is_watched_then(tmp_path):
    with Watching({"roots": [str(tmp_path / "late" / "app")]}) as watching:
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "app").mkdir()
        (tmp_path / "late" / "app" / "main.py").write_text("1")
        assert watching.read()["paths"] == [str(tmp_path / "late" / "app" / "main.py")]
