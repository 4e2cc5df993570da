"""What root relies on and somebody else may write is said, with the command that ends it."""

from __future__ import annotations

import grp
import os
import pwd

import pytest

from oxherd.cli.checks.finding import Examination
from oxherd.cli.checks.trust import check_trust, weak_spot
from oxherd.control.paths import Home
from oxherd.programs.compiled import compile_stack
from oxherd.programs.probes import BLIND

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
pytestmark = needs_root

ROOT = frozenset({0})
NOBODY = pwd.getpwnam("nobody").pw_uid
THEIRS = "it belongs to nobody"
ALL = "everybody may write it"


@pytest.fixture
def tree(tmp_path):
    """A directory with a file in it, all root's."""
    (tmp_path / "app/bin").mkdir(parents=True)
    (tmp_path / "app/bin/run").write_text("")
    for path in (tmp_path, tmp_path / "app", tmp_path / "app/bin"):
        path.chmod(0o755)
    return tmp_path / "app"


def spot(path, trusted=ROOT):
    return weak_spot(str(path), trusted)


def test_what_is_roots_alone_is_safe(tree):
    assert spot(tree / "bin/run") is None
    assert spot("/") is None


def test_a_file_of_another_user_is_weak_unless_that_user_is_trusted(tree):
    os.chown(tree / "bin/run", NOBODY, 0)
    assert spot(tree / "bin/run") == (f"{tree}/bin/run", THEIRS)
    assert spot(tree / "bin/run", frozenset({0, NOBODY})) is None


@pytest.mark.parametrize("place", ["", "bin", "bin/run"])
def test_the_first_weak_place_on_the_way_is_named(tree, place):
    path = tree / place
    path.chmod(0o777)
    assert spot(tree / "bin/run") == (str(path), ALL)
    os.chown(path, NOBODY, 0)
    assert spot(tree / "bin/run") == (str(path), THEIRS)


def test_a_sticky_directory_is_as_safe_as_what_is_in_it(tree):
    tree.chmod(0o1777)
    assert spot(tree / "bin/run") is None
    os.chown(tree / "bin", NOBODY, 0)
    assert spot(tree / "bin/run") == (f"{tree}/bin", THEIRS)


def test_a_link_leads_to_where_it_leads(tree, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    (other / "run").write_text("")
    (tree / "link").symlink_to("../other/./run")
    (tree / "absolute").symlink_to(other)
    assert spot(tree / "link") is None
    other.chmod(0o777)
    assert spot(tree / "link") == (str(other), ALL)
    assert spot(tree / "absolute/run") == (str(other), ALL)


def test_a_link_of_another_user_in_a_sticky_directory(tree):
    tree.chmod(0o1777)
    (tree / "link").symlink_to("bin/run")
    os.chown(tree / "link", NOBODY, 0, follow_symlinks=False)
    assert spot(tree / "link") == (f"{tree}/link", THEIRS)


def test_links_without_an_end_and_missing_files_are_for_others_to_tell(tree):
    (tree / "a").symlink_to("b")
    (tree / "b").symlink_to("a")
    assert spot(tree / "a") is None
    assert spot(tree / "gone/and/more") is None


def test_a_group_counts_by_its_members(tree, monkeypatch):
    """A group that nobody is in, such as Debian's staff of /usr/local, opens nothing."""
    empty = next(group.gr_gid for group in grp.getgrall() if not group.gr_mem and group.gr_gid not in (0, *primary()))
    os.chown(tree, 0, empty)
    tree.chmod(0o775)
    assert spot(tree / "bin/run") is None
    os.chown(tree, 0, pwd.getpwuid(NOBODY).pw_gid)
    assert spot(tree / "bin/run") == (
        str(tree),
        f"group {grp.getgrgid(pwd.getpwuid(NOBODY).pw_gid).gr_name} may write it",
    )
    assert spot(tree / "bin/run", frozenset({0, NOBODY, *others(pwd.getpwuid(NOBODY).pw_gid)})) is None


def primary():
    return {entry.pw_gid for entry in pwd.getpwall()}


def others(gid):
    return {entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == gid}


# -- what is looked at ------------------------------------------------------------------------------------------------


def findings(tree, *lines, euid=0):
    path = tree / "oxfile.toml"
    if not path.exists():
        path.write_text("\n".join(["[processes.web]", f'command = "{tree}/bin/run"', *lines, ""]))
        path.chmod(0o600)
        (tree / "bin/run").chmod(0o755)
    compiled = compile_stack(str(path), environ={}, probes=BLIND)
    home = Home(runtime=str(tree / "home/run"), state=str(tree / "home/state"))
    return list(check_trust(Examination(home=home, environ={}, euid=euid, compiled=compiled)))


def test_all_is_roots(tree):
    assert findings(tree, 'env_file = ".env"', 'log_file = "/var/log/web.log"') == []


@pytest.mark.parametrize(
    ("place", "line", "use"),
    [
        ("oxfile.toml", "", "the oxfile"),
        ("bin/run", "", "the program of web"),
        ("work", 'working_dir = "work"', "the working_dir of web"),
        (".env", 'env_file = ".env"', "the env_file of web"),
        ("logs", 'log_file = "logs/web.log"', "the log_file of web"),
        ("logs", 'error_log_file = "logs/web.err"', "the log_file of web"),
        ("bin/hook", 'pre_start = "bin/hook"', "pre_start of web"),
        ("bin/hook", 'pre_reload = "bin/hook"', "pre_reload of web"),
        ("bin/hook", 'health_check = { command = "bin/hook" }', "the health check of web"),
        ("home/state", "", "the supervisor's own files"),
    ],
)
@pytest.mark.parametrize("user", [NOBODY, 0])
def test_each_thing_root_relies_on(tree, place, line, use, user):
    path = tree / place
    findings(tree, line)  # writes the oxfile
    if path.suffix == "" and place.partition("/")[0] in {"work", "logs", "home"}:
        path.mkdir(parents=True)
    else:
        path.touch()
    os.chown(path, user, 0)
    path.chmod(0o700 if user else 0o777)
    (finding,) = findings(tree)
    reason = THEIRS if user else ALL
    assert finding.where == str(path)
    assert finding.what == f"{reason}, and root relies on it for {use}: whoever may write there can do what root can"
    assert finding.advice.startswith(f"chown root:root {path} && chmod go-w {path}")
    assert findings(tree, euid=1000) == []


@pytest.mark.parametrize(
    ("place", "line", "said"),
    [
        ("bin/run", "", False),
        ("work", 'working_dir = "work"', False),
        (".env", 'env_file = ".env"', False),
        ("logs", 'log_file = "logs/web.log"', True),
        ("oxfile.toml", "", True),
    ],
)
def test_what_a_process_with_a_user_runs_may_be_that_users(tree, place, line, said):
    """Not the oxfile, which says who the user is, and not a directory that root appends to files in."""
    findings(tree, 'user = "nobody"', line)
    path = tree / place
    path.mkdir() if place in {"work", "logs"} else path.touch()
    os.chown(path, NOBODY, 0)
    assert bool(findings(tree)) is said


def test_one_place_is_told_once_for_everything(tree):
    findings(tree, 'env_file = ".env"', 'pre_start = "bin/run"')
    (tree / ".env").touch(0o600)
    os.chown(tree, NOBODY, 0)
    (finding,) = findings(tree)
    assert (
        "for the supervisor's own files, the oxfile, the working_dir of web, the env_file of web, the program of web and"
        in finding.what
    )
