"""Which oxfile applies is looked up in one order, and the answer says why."""

from __future__ import annotations

import os

import pytest

from oxherd.config.discovery import Discovered, discover, user_oxfile
from oxherd.errors import ConfigError


@pytest.fixture
def home(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    return tmp_path


def at(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return os.fspath(path)


def look(home, explicit=None, **environ):
    return discover(explicit, os.fspath(home / "work"), {"HOME": os.fspath(home / "home"), **environ})


def test_the_current_folder_comes_before_the_users_own(home):
    at(home / "work/oxfile.toml")
    at(home / "home/.config/oxherd/oxfile.toml")
    assert look(home) == Discovered(path="oxfile.toml", reason="in the current folder")


def test_the_users_own_comes_before_the_older_name(home):
    own = at(home / "home/.config/oxherd/oxfile.toml")
    at(home / "home/.config/oxmgr/oxfile.toml")
    assert look(home) == Discovered(path=own, reason="the user's own")


def test_the_older_name_is_found_last(home):
    older = at(home / "home/.config/oxmgr/oxfile.toml")
    assert look(home) == Discovered(path=older, reason="the user's own, under the older name")


def test_the_configuration_folder_may_be_elsewhere(home):
    own = at(home / "xdg/oxherd/oxfile.toml")
    environ = {"XDG_CONFIG_HOME": os.fspath(home / "xdg")}
    assert look(home, **environ).path == own
    assert user_oxfile(environ) == own


def test_an_explicit_file_is_the_only_candidate(home):
    at(home / "work/oxfile.toml")
    at(home / "work/green.toml")
    assert look(home, "green.toml") == Discovered(path="green.toml", reason="named with --config")
    with pytest.raises(ConfigError) as caught:
        look(home, "blue.toml")
    (problem,) = caught.value.problems
    assert (problem.code, problem.file) == ("OX111", "blue.toml")


def test_an_explicit_folder_means_the_oxfile_in_it(home):
    at(home / "work/site/oxfile.toml")
    assert look(home, "site").path == "site/oxfile.toml"


def test_where_there_is_none_every_place_is_named_with_its_reason(home):
    (home / "work/oxfile.toml").mkdir()
    with pytest.raises(ConfigError) as caught:
        look(home)
    told = [(problem.file, problem.message.partition(": ")[2]) for problem in caught.value.problems]
    assert told == [
        (os.fspath(home / "work/oxfile.toml"), "it is a folder"),
        (os.fspath(home / "home/.config/oxherd/oxfile.toml"), "no such file"),
        (os.fspath(home / "home/.config/oxmgr/oxfile.toml"), "no such file"),
    ]
    assert caught.value.exit_code == 2
