"""The systemd unit: what it says, that systemd reads it, and that every word survives the quoting."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from oxherd.config.model import DependencyCondition, Oxfile, ProcessSpec, StopSpec
from oxherd.export.systemd import ServiceUnit, render_unit, stop_seconds

PROGRAM = ("/opt/oxherd/bin/oxherd",)


def process(name, timeout, *needs):
    return ProcessSpec(
        name=name,
        working_dir="/srv",
        stop=StopSpec(timeout=timeout),
        depends_on=tuple((other, DependencyCondition.READY) for other in needs),
    )


def stack(*processes):
    return Oxfile(path="/srv/oxfile.toml", name="srv", processes=processes)


def test_the_unit_of_the_machine():
    """The whole text, since every line of it decides what happens at a stop, a crash or a boot."""
    unit = ServiceUnit(program=PROGRAM, home="/srv/ox", stop_timeout=400)
    assert render_unit(unit) == (
        "# Written by `oxherd service install`, which replaces it; `oxherd service uninstall` removes it.\n"
        "[Unit]\n"
        "Description=Oxherd process manager\n"
        "Wants=network-online.target\n"
        "After=network-online.target\n"
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "Type=notify\n"
        "NotifyAccess=main\n"
        "ExecStart=/opt/oxherd/bin/oxherd daemon run\n"
        "ExecReload=/opt/oxherd/bin/oxherd daemon upgrade\n"
        "ExecStopPost=-/opt/oxherd/bin/oxherd daemon sweep --after-stop\n"
        "Environment=OXHERD_HOME=/srv/ox\n"
        "KillMode=process\n"
        "TimeoutStartSec=infinity\n"
        "TimeoutStopSec=400\n"
        "WatchdogSec=30\n"
        "TimeoutAbortSec=10\n"
        "Restart=on-failure\n"
        "RestartSec=100ms\n"
        "Delegate=yes\n"
        "OOMPolicy=continue\n"
        "TasksMax=infinity\n"
        "\n"
        "[Install]\n"
        "WantedBy=multi-user.target\n"
    )


def test_the_unit_of_a_user_waits_for_nothing_its_systemd_does_not_know():
    text = render_unit(ServiceUnit(program=PROGRAM, user=True))
    assert "network-online" not in text
    assert "OXHERD_HOME" not in text
    assert "WantedBy=default.target" in text


@pytest.mark.parametrize(("version", "there"), [(0, False), (252, False), (253, False), (254, True), (257, True)])
def test_a_new_supervisor_finds_a_cgroup_it_may_be_put_into(version, there):
    """Beside cgroups with limits there may be no process; an older systemd would complain of what it does not know."""
    text = render_unit(ServiceUnit(program=PROGRAM, systemd=version))
    assert ("DelegateSubgroup=supervisor\n" in text) is there


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/opt/my apps/oxherd", '"/opt/my apps/oxherd"'),
        ("/opt/100%/oxherd", '"/opt/100%%/oxherd"'),
        ("/opt/$HOME/oxherd", '"/opt/$$HOME/oxherd"'),
        ('/opt/"x"/oxherd', '"/opt/\\"x\\"/oxherd"'),
        ("/opt/a\\b/oxherd", '"/opt/a\\\\b/oxherd"'),
        ("/opt/plain/oxherd", "/opt/plain/oxherd"),
    ],
)
def test_systemd_reads_every_path_back_as_it_was(word, written):
    assert f"ExecStart={written} daemon run\n" in render_unit(ServiceUnit(program=(word,)))


def test_a_dollar_is_no_variable_in_an_environment():
    """Environment= expands no variables, so a doubled dollar would stay doubled."""
    text = render_unit(ServiceUnit(program=PROGRAM, home="/srv/$x y"))
    assert 'Environment="OXHERD_HOME=/srv/$x y"\n' in text


@pytest.mark.parametrize(
    ("stacks", "seconds"),
    [
        ([], 330),
        ([stack(process("web", 10))], 330),
        ([stack(process("worker", 600))], 630),
        ([stack(process("a", 300), process("b", 300, "a"), process("c", 100, "b"))], 730),
        ([stack(process("a", 300), process("b", 300))], 330),
        ([stack(process("a", 600)), stack(process("a", 900))], 930),
        ([stack(process("a", 400, "not-here"))], 430),
    ],
)
def test_the_stop_timeout_covers_the_longest_chain_of_dependencies(stacks, seconds):
    """What stops one after the other adds up; what stops together does not."""
    assert stop_seconds(stacks) == seconds


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("user", [False, True])
def test_systemd_finds_nothing_to_say_about_it(user, tmp_path):
    """systemd-analyze exits with 0 for unknown keys and bad values too, so it has to be silent."""
    unit = ServiceUnit(program=("/bin/sh", "-c", "exec sleep 1"), user=user, home=str(tmp_path / "a home"))
    path = tmp_path / "oxherd.service"
    path.write_text(render_unit(unit))
    done = subprocess.run(
        ["systemd-analyze", "verify", *(["--user"] if user else ["--system"]), "--man=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if "oxherd" in line]
    assert (done.returncode, said) == (0, [])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_the_check_above_would_see_a_mistake(tmp_path):
    """A mistake in the unit is told with the unit's name in the line."""
    path = tmp_path / "oxherd.service"
    path.write_text(render_unit(ServiceUnit(program=("/bin/true",))).replace("KillMode=process", "KillMode=mixd"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)], capture_output=True, text=True, check=False
    )
    assert any("oxherd" in line and "mixd" in line for line in (done.stdout + done.stderr).splitlines())
