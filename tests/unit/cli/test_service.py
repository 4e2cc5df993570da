"""`oxherd service`: the unit is installed whole or not at all, and every refusal says why."""

from __future__ import annotations

import json
import os

import pytest
from click.testing import CliRunner

from oxherd.cli.service import service
from oxherd.cli.systemctl import find_manager, lingers
from oxherd.config.codec import encode
from oxherd.config.model import Oxfile, ProcessSpec, StopSpec
from oxherd.errors import OperationError, SystemFault

# A systemctl that writes down its calls, answers `show`, and fails at the call that FAIL_AT names.
SYSTEMCTL = """#!/bin/sh
echo "$*" >> "$CALLS"
case "$*" in
    *"$FAIL_AT"*) echo "$FAIL_WITH" >&2; exit 1 ;;
esac
case "$*" in
    *--version*) printf 'systemd 255 (255.4-1ubuntu8)\\n+PAM\\n' ;;
    *show*) printf 'UnitFileState=enabled\\nActiveState=active\\nMainPID=4242\\n' ;;
esac
"""


class Fake:
    def __init__(self, folder):
        self.folder = folder
        self.units = folder / "config/systemd/user"
        self.unit = self.units / "oxherd.service"
        self.calls_file = folder / "calls"
        (folder / "bin").mkdir()
        program = folder / "bin/systemctl"
        program.write_text(SYSTEMCTL)
        program.chmod(0o755)
        self.env = {
            "PATH": f"{folder / 'bin'}:/usr/bin:/bin",
            "XDG_CONFIG_HOME": str(folder / "config"),
            "OXHERD_HOME": str(folder / "home"),
            "CALLS": str(self.calls_file),
            "FAIL_AT": "nothing fails",
            "FAIL_WITH": "",
        }

    def fail(self, at, said="Job failed."):
        self.env |= {"FAIL_AT": at, "FAIL_WITH": said}

    def manager(self):
        return find_manager(user=True, environ=self.env)

    def calls(self):
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def run(self, *arguments, monkeypatch):
        for name, value in self.env.items():
            monkeypatch.setenv(name, value)
        return CliRunner().invoke(service, [*arguments, "--user"], standalone_mode=False)


@pytest.fixture
def fake(tmp_path):
    return Fake(tmp_path)


def test_installing_writes_enables_and_starts(fake):
    fake.manager().install("text\n")
    assert fake.unit.read_text() == "text\n"
    assert fake.calls() == [
        "--user daemon-reload",
        "--user daemon-reload",
        "--user enable oxherd.service",
        "--user start oxherd.service",
    ]
    assert os.listdir(fake.units) == ["oxherd.service"]


@pytest.mark.parametrize("step", ["enable oxherd", "start oxherd"])
def test_a_failed_installation_leaves_nothing(fake, step):
    """A unit that cannot be enabled or started is taken away again."""
    fake.fail(step)
    with pytest.raises(OperationError, match=r"Job failed\.") as caught:
        fake.manager().install("text\n")
    assert caught.value.code == "OX470"
    assert os.listdir(fake.units) == []
    assert fake.calls()[-2:] == ["--user disable --now oxherd.service", "--user daemon-reload"]


def test_a_failed_replacement_brings_the_old_unit_back(fake):
    fake.units.mkdir(parents=True)
    fake.unit.write_text("old\n")
    fake.fail("enable oxherd")
    with pytest.raises(OperationError):
        fake.manager().install("new\n")
    assert fake.unit.read_text() == "old\n"
    assert fake.calls()[-1] == "--user restart oxherd.service"


def test_without_systemd_nothing_is_written(fake):
    fake.fail("daemon-reload", "System has not been booted with systemd as init system (PID 1). Can't operate.")
    with pytest.raises(SystemFault, match="systemd does not run here for this user") as caught:
        fake.manager().install("text\n")
    assert caught.value.code == "OX651"
    assert not fake.units.exists()


def test_without_systemctl_the_error_says_what_else_can_be_done(fake):
    (fake.folder / "bin/systemctl").unlink()
    fake.env["PATH"] = str(fake.folder / "bin")
    with pytest.raises(SystemFault, match="no systemctl") as caught:
        fake.manager().install("text\n")
    assert (caught.value.code, "oxherd daemon run" in caught.value.hint) == ("OX650", True)


def test_a_directory_that_cannot_be_written_is_named(fake):
    (fake.folder / "config").write_text("a file where a folder should be")
    with pytest.raises(SystemFault, match=r"cannot write .*oxherd\.service") as caught:
        fake.manager().install("text\n")
    assert caught.value.code == "OX652"


def test_uninstalling_stops_disables_and_removes(fake):
    fake.manager().install("text\n")
    fake.calls_file.unlink()
    assert fake.manager().uninstall() is True
    assert os.listdir(fake.units) == []
    assert fake.calls() == ["--user daemon-reload", "--user disable --now oxherd.service", "--user daemon-reload"]
    assert fake.manager().uninstall() is False


def test_a_unit_that_cannot_be_stopped_stays(fake):
    """A running service without its unit could not be found again."""
    fake.manager().install("text\n")
    fake.fail("disable --now")
    with pytest.raises(OperationError):
        fake.manager().uninstall()
    assert fake.unit.exists()


def test_the_command_installs_and_reports(fake, monkeypatch):
    result = fake.run("install", monkeypatch=monkeypatch)
    assert (result.exception, result.return_value) == (None, 0)
    assert f"wrote {fake.unit}" in result.output
    assert f"Environment=OXHERD_HOME={fake.folder / 'home'}" in fake.unit.read_text()


def test_the_stop_timeout_of_the_unit_knows_the_stacks(fake, monkeypatch):
    """A stack with a drain of half an hour must not be killed by systemd after five minutes."""
    spec = ProcessSpec(name="worker", working_dir="/", stop=StopSpec(timeout=1800))
    oxfile = Oxfile(path="/srv/oxfile.toml", name="srv", processes=(spec,))
    folder = fake.folder / "home/state/stacks/0123456789ab"
    folder.mkdir(parents=True)
    (folder / "stack.json").write_text(json.dumps({"oxfile": encode(oxfile)}))
    (folder.parent / "broken").mkdir()
    (folder.parent / "broken/stack.json").write_text("{")
    result = fake.run("install", "--dry-run", monkeypatch=monkeypatch)
    assert "TimeoutStopSec=1830\n" in result.output
    assert not fake.unit.exists()
    assert fake.calls() == ["--user --version"]


@pytest.mark.parametrize(("installed", "code"), [(True, 0), (False, 1)])
def test_status_tells_by_its_exit_code(fake, monkeypatch, installed, code):
    if installed:
        fake.manager().install("text\n")
    result = fake.run("status", "--json", monkeypatch=monkeypatch)
    assert result.return_value == code
    document = json.loads(result.output)
    assert (document["installed"], document["active"], document["pid"]) == (installed, "active", 4242)


def test_lingering_is_read_from_the_directory_of_logind(tmp_path):
    (tmp_path / "ann").touch()
    assert lingers("ann", str(tmp_path))
    assert not lingers("bob", str(tmp_path))


def test_the_unit_is_written_for_the_systemd_there_is(fake):
    assert fake.manager().version() == 255
    fake.fail("--version")
    assert fake.manager().version() == 0
    fake.env["PATH"] = str(fake.folder)
    assert fake.manager().version() == 0
