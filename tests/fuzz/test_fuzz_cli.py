"""Any command line ends with one of the documented exit codes and no traceback."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.cli.main import VERBS, main

# These begin something, or write: `run` and `daemon run` replace the process by exec.
BEGINNERS = {"run", "start", "daemon", "service", "init", "completion", "apply", "restart", "reload"}
WORDS = st.sampled_from(
    ["--json", "--config", "-c", "oxfile.toml", "--last", "--since", "-n", "--follow", "--level", "--quiet", "--profile", "-h", "--help",
     "--version", "web", "web:0", "web=2", "web+1", "web:", ":", "TERM", "15", "--", "-", "", "--no-color", "--history", "-q", "--stdout",
     "--stderr", "10m", "2026-01-31T12:00", "-1", "99999999999999999999", "/nowhere", "."]
) | st.text(max_size=8).filter(lambda text: "\0" not in text)  # fmt: skip


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A home without a supervisor, and a folder with an oxfile in it."""
    monkeypatch.setenv("OXHERD_HOME", str(tmp_path / "h"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "c"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "oxfile.toml").write_text('[processes.web]\ncommand = "sleep 1"\n')
    return tmp_path


@given(verb=st.sampled_from([*sorted(set(VERBS) - BEGINNERS), "nothing", "-x"]), words=st.lists(WORDS, max_size=4))
def test_any_words(alone, capsys, verb, words):
    if "-f" in words or "--follow" in words:
        return  # which would wait for lines to come
    code = main([verb, *words])
    said = capsys.readouterr()
    assert code in {0, 1, 2, 3}, (code, said)
    assert "Traceback" not in said.err
    assert code == 0 or said.err or said.out
    assert not os.path.exists(alone / "h"), "looking makes no home"
