"""What cannot be started is said: which step failed, at what, and why."""

from __future__ import annotations

import socket

import pytest

from support.harness import program


def write(folder, name: str, text: str, mode: int = 0o755) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)


def test_a_command_that_is_not_there(ox):
    """`start` fails with the program's name, `status` shows crashed, nothing is tried again and again."""
    ox.oxfile('[processes.web]\ncommand = "no-such-program --port 80"\n')
    result = ox.cli("start")
    assert result.code == 1
    assert "web: could not start: " in result.err
    assert "no-such-program" in result.err
    row = ox.row("web")
    assert (row["status"], row["restarts"]) == ("crashed", 0)
    assert "no-such-program" in ox.ok("why", "web").out


def test_a_working_dir_that_is_not_there(ox):
    """The stage, the path and the errno are in the text."""
    ox.oxfile('[processes.web]\ncommand = "sleep 1000"\nworking_dir = "/srv/app"\n')
    result = ox.cli("start")
    assert result.code == 1
    assert "web: could not start: changing directory to /srv/app: No such file or directory" in result.err
    assert ox.row("web")["status"] == "crashed"


def test_a_file_that_may_not_be_executed(ox):
    """A missing x bit is named, with the hint that mends it."""
    folder = ox.oxfile('[processes.web]\ncommand = "./app"\n')
    write(folder, "app", "#!/bin/sh\nexec sleep 1000\n", 0o644)
    result = ox.cli("start")
    assert result.code == 1
    assert "web: could not start: executing ./app: Permission denied (it is not executable)" in result.err
    assert "chmod +x" in ox.ok("why", "web").out


def test_an_interpreter_that_is_not_there(ox):
    """ENOENT of an existing script means its #! line, and that is what is said."""
    folder = ox.oxfile('[processes.web]\ncommand = "./app"\n')
    write(folder, "app", "#!/opt/gone/bin/python3\nprint(1)\n")
    result = ox.cli("start")
    assert result.code == 1
    assert "/opt/gone/bin/python3" in result.err + ox.ok("why", "web").out
    assert ox.row("web")["status"] == "crashed"


def test_a_script_without_an_interpreter(ox):
    """A text file without #! is no program for the kernel; it is said so."""
    folder = ox.oxfile('[processes.web]\ncommand = "./app"\n')
    write(folder, "app", "echo hello\n")
    result = ox.cli("start")
    assert result.code == 1
    assert "Exec format error" in result.err + ox.ok("why", "web").out


def test_a_directory_is_no_program(ox):
    """A directory in place of the program is refused as such."""
    folder = ox.oxfile('[processes.web]\ncommand = "./app"\n')
    (folder / "app").mkdir()
    assert ox.cli("start").code == 1
    assert ox.row("web")["status"] == "crashed"


def test_a_user_that_is_not_there(ox):
    """An unknown user is refused before anything is started."""
    ox.oxfile('[processes.web]\ncommand = "sleep 1000"\nuser = "no-such-user"\n')
    result = ox.cli("start")
    assert result.code != 0
    assert "no-such-user" in result.err
    assert ox.marked() == {}


def test_a_port_that_is_taken(ox):
    """A server that cannot bind: the error names the process that holds the port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    ox.oxfile(f'[processes.holder]\ncommand = "{program("binds", port)}"\n', folder="other")
    ox.ok("start")
    holder = ox.pid("holder")
    ox.wait_log("holder", b"ready")
    ox.oxfile(f'[processes.web]\ncommand = "{program("binds", port)}"\nmax_restarts = 1\n')
    result = ox.cli("start")
    assert result.code == 1
    assert f"port {port} is held by " in result.err
    assert f"(pid {holder})" in result.err
    assert f"(pid {holder})" in ox.ok("why", "web").out


def test_what_appears_later_is_started_then(ox):
    """A program that is there at the second try runs after a plain `start`."""
    folder = ox.oxfile('[processes.web]\ncommand = "./app"\n')
    assert ox.cli("start").code == 1
    write(folder, "app", "#!/bin/sh\nexec sleep 1000\n")
    ox.ok("start")
    assert ox.row("web")["status"] == "running"


def test_one_failure_does_not_keep_the_others_down(ox):
    """Of two processes one cannot be started: the other one runs, and the command says which failed."""
    ox.oxfile(f'[processes.good]\ncommand = "{program("sleeper")}"\n[processes.bad]\ncommand = "no-such-program"\n')
    result = ox.cli("start")
    assert result.code == 1
    assert "bad: could not start" in result.err
    assert ox.row("good")["status"] == "running"


def test_start_failures_leak_nothing(ox):
    """Twenty failed starts of each kind: the supervisor has the descriptors it had before."""
    folder = ox.oxfile(
        '[processes.gone]\ncommand = "no-such-program"\n[processes.nowhere]\ncommand = "sleep 1"\nworking_dir = "/no"\n'
    )
    assert ox.cli("start").code == 1
    before = ox.fds()
    for number in range(20):
        for name in ("gone", "nowhere"):
            ox.request("restart", stack=f"{folder}/oxfile.toml", names=[name])
        assert ox.wait("crashed", name="gone", count=number + 2)
    ox.wait_fds(before)


@pytest.mark.parametrize("verb", ["start", "apply", "validate"])
def test_five_mistakes_are_five_problems(ox, verb):
    """Every mistake of an oxfile is reported with its line, exit code 2, and nothing runs."""
    ox.oxfile(
        "[processes.web]\n"
        'comand = "sleep 1"\n'
        "[processes.one]\n"
        'command = "sleep 1"\n'
        "max_restarts = -1\n"
        "[processes.two]\n"
        'command = "sleep 1"\n'
        'stop_signal = "SIGNOPE"\n'
        "[processes.three]\n"
        'command = "sleep 1"\n'
        'depends_on = ["nobody"]\n'
        "[processes.four]\n"
        'command = "sleep 1"\n'
        'instances = "many"\n'
    )
    result = ox.cli(verb)
    assert result.code == 2
    for line in (2, 5, 8, 11, 14):
        assert f"oxfile.toml:{line}:" in result.err, result
    assert 'did you mean "command"' in result.err or "did you mean command" in result.err
    assert ox.marked() == {}
