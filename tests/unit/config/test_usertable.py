"""A process is added to an oxfile without touching the rest of it."""

from __future__ import annotations

import os
import stat
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.config.oxfile import load
from oxherd.config.usertable import append_process
from oxherd.errors import ConfigError, UsageError


def test_a_new_file_is_made_for_its_owner_only(tmp_path):
    path = os.fspath(tmp_path / "config/oxherd/oxfile.toml")
    append_process(path, "api", ["uvicorn", "main:app", "--port", "8000"], "/srv/api")
    spec = load(path, environ={}).oxfile.process("api")
    assert spec.command.argv == ("uvicorn", "main:app", "--port", "8000")
    assert spec.working_dir == "/srv/api"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(os.path.dirname(path)) == ["oxfile.toml"], "no temporary file is left"


@pytest.mark.parametrize(
    "existing", ["# mine\r\n[processes.a] # keep\r\ncommand='x'\r\n", "[processes.a]\ncommand = 'x'"]
)
def test_the_rest_stays_as_it_is(tmp_path, existing):
    path = tmp_path / "oxfile.toml"
    path.write_bytes(existing.encode())
    append_process(os.fspath(path), "b", ["run"], "/")
    assert path.read_bytes().startswith(existing.encode())
    assert list(tomllib.loads(path.read_text())["processes"]) == ["a", "b"]


def test_a_taken_name_is_refused_and_nothing_is_written(tmp_path):
    path = tmp_path / "oxfile.toml"
    path.write_text("[processes.a]\ncommand = 'x'\n")
    with pytest.raises(UsageError, match='already a process "a"'):
        append_process(os.fspath(path), "a", ["run"], "/")
    assert path.read_text() == "[processes.a]\ncommand = 'x'\n"


@pytest.mark.parametrize("argv", [[], [""]])
def test_an_empty_command_is_refused(tmp_path, argv):
    with pytest.raises(UsageError, match="no command"):
        append_process(os.fspath(tmp_path / "oxfile.toml"), "a", argv, "/")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("existing", ["[[apps]]\nname = 'a'\n", "nonsense", "processes = 1\n"])
def test_a_file_that_cannot_take_it_is_refused(tmp_path, existing):
    path = tmp_path / "oxfile.toml"
    path.write_text(existing)
    with pytest.raises(ConfigError):
        append_process(os.fspath(path), "b", ["run"], "/")
    assert path.read_text() == existing


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="1 problem"):
        append_process(os.fspath(tmp_path / "file/oxfile.toml"), "a", ["run"], "/")


def test_a_link_stays_a_link(tmp_path):
    """People keep their configuration elsewhere and link to it."""
    real = tmp_path / "real.toml"
    real.write_text("")
    link = tmp_path / "oxfile.toml"
    link.symlink_to(real)
    append_process(os.fspath(link), "a", ["run"], "/")
    assert link.is_symlink()
    assert "a" in tomllib.loads(real.read_text())["processes"]


WORD = st.text(st.characters(codec="utf-8", exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@given(st.lists(WORD, max_size=4), WORD.filter(str.strip))
def test_any_words_come_back_as_they_were_given(tmp_path_factory, words, folder):
    """Quotes, dollar signs and line breaks of the caller's shell arrive at the program unchanged."""
    path = os.fspath(tmp_path_factory.mktemp("user") / "oxfile.toml")
    argv = ["./run", *words]
    append_process(path, "a", argv, f"/{folder}")
    spec = load(path, environ={}).oxfile.process("a")
    assert spec.command.argv == tuple(argv)
    assert spec.working_dir == os.path.normpath(f"/{folder}")
