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
    with pytest.raises(SystemFault, match="is not a directory") as caught:
        Home(runtime=str(tmp_path / "run"), state=str(tmp_path / "state")).prepare()
    assert caught.value.code == "OX604"


def test_what_belongs_to_somebody_else_is_refused(tmp_path, monkeypatch):
    home = Home(runtime=str(tmp_path / "run"), state=str(tmp_path / "state"))
    home.prepare()
    home.refuse_foreign()
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    for refuse in (home.prepare, home.refuse_foreign):
        with pytest.raises(SystemFault, match="what runs there is not yours to command") as caught:
            refuse()
        assert caught.value.code == "OX603"
        assert f"{home.runtime} belongs to " in caught.value.message
        assert "sudo" in caught.value.hint


def test_a_home_that_is_not_there_is_nobodys(tmp_path):
    Home(runtime=str(tmp_path / "run"), state=str(tmp_path / "state")).refuse_foreign()


class TestParents:
    """A directory of mode 0700 helps nobody whose neighbour can move it away: what holds it counts too."""

    @pytest.fixture
    def home(self, tmp_path, monkeypatch):
        self.status = os.stat(tmp_path)
        self.parent = str(tmp_path)
        real = os.stat

        def status_of(path, *args, **options):
            found = real(path, *args, **options)
            if path != self.parent:
                return found
            return os.stat_result((self.mode, 1, 1, 1, self.owner, 0, 0, 0, 0, 0))

        self.euid = os.geteuid()
        self.mode, self.owner = 0o40755, self.euid
        monkeypatch.setattr(os, "stat", status_of)
        return Home(runtime=str(tmp_path / "run"), state=str(tmp_path / "state"))

    def as_user(self, monkeypatch):
        """The home is made by a user that is not root, whoever runs the test."""
        real = os.lstat
        monkeypatch.setattr(os, "geteuid", lambda: 4711)

        def mine(path):
            return os.stat_result((real(path).st_mode, 1, 1, 1, 4711, 0, 0, 0, 0, 0))

        monkeypatch.setattr(os, "lstat", mine)

    @pytest.mark.parametrize(("mode", "owner"), [(0o40755, 0), (0o41777, 0), (0o40700, 4711), (0o40775, 4711)])
    def test_of_ours_of_roots_or_sticky_are_safe(self, home, monkeypatch, mode, owner):
        self.as_user(monkeypatch)
        self.mode, self.owner = mode, owner
        home.prepare()

    @pytest.mark.parametrize(
        ("mode", "owner", "said"),
        [(0o40755, 4712, "belongs to uid 4712"), (0o40777, 4711, "is writable by all"), (0o40777, 0, "by all")],
    )
    def test_of_others_or_writable_by_all_are_not(self, home, monkeypatch, mode, owner, said):
        self.as_user(monkeypatch)
        self.mode, self.owner = mode, owner
        with pytest.raises(SystemFault, match="may replace it") as caught:
            home.prepare()
        assert caught.value.code == "OX605"
        assert said in caught.value.message

    def test_root_is_not_refused(self, home, monkeypatch):
        """The volume of a container may belong to whoever on the host; `oxherd doctor` warns."""
        self.as_user(monkeypatch)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(os, "lstat", lambda _path: os.stat_result((0o40700, 1, 1, 1, 0, 0, 0, 0, 0, 0)))
        self.mode, self.owner = 0o40777, 4712
        home.prepare()


def test_what_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemFault, match="cannot make the directory") as caught:
        Home(runtime=str(tmp_path / "file" / "run"), state=str(tmp_path)).prepare()
    assert caught.value.code == "OX602"


def test_a_stack_is_its_path():
    assert stack_id("/srv/shop/oxfile.toml") == stack_id("/srv/shop/oxfile.toml")
    assert stack_id("/srv/shop/oxfile.toml") != stack_id("/srv/blog/oxfile.toml")
    assert len(stack_id("/srv/\udcff")) == 12
