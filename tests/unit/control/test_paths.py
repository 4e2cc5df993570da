"""Where a supervisor keeps its socket and its state."""

from __future__ import annotations

import os
import stat

import pytest

from oxherd.control.paths import Home, find_home, stack_id
from oxherd.errors import SystemFault


def test_oxherd_home_holds_everything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_home({"OXHERD_HOME": "here"}) == Home(runtime=f"{tmp_path}/here/run", state=f"{tmp_path}/here/state")


@pytest.mark.parametrize(
    ("uid", "environ", "runtime", "state"),
    [
        (0, {"XDG_RUNTIME_DIR": "/x", "XDG_STATE_HOME": "/y"}, "/run/oxherd", "/var/lib/oxherd"),
        (7, {"XDG_RUNTIME_DIR": "/x", "XDG_STATE_HOME": "/y"}, "/x/oxherd", "/y/oxherd"),
        (7, {}, "/tmp/oxherd-7/oxherd", "/home/seven/.local/state/oxherd"),
    ],
)
def test_without_it_the_user_decides(monkeypatch, uid, environ, runtime, state):
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    monkeypatch.setenv("HOME", "/home/seven")
    assert find_home(environ) == Home(runtime=runtime, state=state)


def test_a_home_is_a_value():
    home = Home(runtime="/r", state="/s")
    assert {home, Home(runtime="/r", state="/s")} == {home}
    assert home != Home(runtime="/r", state="/other")
    assert home != "/r"
    assert repr(home) == "Home(runtime='/r', state='/s')"


def test_each_file_has_its_place():
    home = Home(runtime="/r", state="/s")
    assert (home.socket, home.lock, home.log) == ("/r/control.sock", "/s/supervisor.lock", "/s/supervisor.log")
    assert home.run_socket("abc") == "/r/run-abc.sock"
    assert home.logs("abc") == "/s/stacks/abc/logs"


def test_directories_are_made_for_their_owner_only(tmp_path):
    home = Home(runtime=str(tmp_path / "a" / "run"), state=str(tmp_path / "a" / "state"))
    (tmp_path / "a" / "state").mkdir(parents=True, mode=0o755)
    home.prepare()
    home.prepare()
    assert [stat.S_IMODE(os.stat(path).st_mode) for path in (home.runtime, home.state)] == [0o700, 0o700]


def test_a_path_too_long_for_a_socket_is_refused_before_anything_is_made(tmp_path):
    home = Home(runtime=str(tmp_path / ("x" * 120)), state=str(tmp_path / "state"))
    with pytest.raises(SystemFault, match="too long for a unix socket") as caught:
        home.prepare()
    assert caught.value.code == "OX601"
    assert os.listdir(tmp_path) == []


def test_what_is_no_directory_of_ours_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to("real")
    with pytest.raises(SystemFault, match="is not a directory of uid") as caught:
        Home(runtime=str(tmp_path / "run"), state=str(tmp_path / "state")).prepare()
    assert caught.value.code == "OX603"


def test_what_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemFault, match="cannot make the directory") as caught:
        Home(runtime=str(tmp_path / "file" / "run"), state=str(tmp_path)).prepare()
    assert caught.value.code == "OX602"


def test_a_stack_is_its_path():
    assert stack_id("/srv/shop/oxfile.toml") == stack_id("/srv/shop/oxfile.toml")
    assert stack_id("/srv/shop/oxfile.toml") != stack_id("/srv/blog/oxfile.toml")
    assert len(stack_id("/srv/\udcff")) == 12
