"""Where the variables of a process come from, and when they are taken anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from support.harness import program
from support.waiting import wait_until

if TYPE_CHECKING:
    from support.harness import Supervised


def environments(ox: Supervised, count: int, name: str = "web") -> list[dict[str, str]]:
    """Return the environments of the runs so far, as soon as there are ``count``."""

    def lines() -> list[bytes]:
        return [line for line in ox.log(name).splitlines() if line.startswith(b"{")]

    wait_until(lambda: len(lines()) >= count, lambda: f"{count} runs in {ox.log(name)!r}")
    return [json.loads(line)["env"] for line in lines()]


def test_the_oxfile_wins_over_env_files_and_those_over_the_caller(ox):
    """env wins over env_file wins over the environment of whoever started the stack; of two env_files the later wins."""
    ox.oxfile(
        f'[processes.web]\ncommand = "{program("shows_env")}"\nenv_file = ["one.env", "two.env"]\n'
        'env = { A = "oxfile", URL = "http://${HOST_OF_CALLER}/" }\n'
    )
    (ox.folder / "one.env").write_text("A=one\nB=one\nC=one\n")
    (ox.folder / "two.env").write_text('B="two"\n')
    caller = {"A": "caller", "B": "caller", "C": "caller", "D": "caller", "HOST_OF_CALLER": "db1"}
    ox.ok("start", env=caller)
    (env,) = environments(ox, 1)
    assert [env[key] for key in "ABCD"] == ["oxfile", "two", "one", "caller"]
    assert env["URL"] == "http://db1/"


def test_the_caller_s_environment_is_kept_until_it_is_taken_anew(ox):
    """A restart from another shell changes nothing of the environment; --update-env takes that shell's."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("shows_env")}"\nenv = {{ PORT = "${{PORT:-8000}}" }}\n')
    ox.ok("start", env={"PORT": "8001", "TOKEN": "first"})
    ox.ok("restart", env={"PORT": "8002", "TOKEN": "second"})
    ox.ok("restart", "--update-env", env={"PORT": "8002", "TOKEN": "second"})
    seen = [(env["PORT"], env["TOKEN"]) for env in environments(ox, 3)]
    assert seen == [("8001", "first"), ("8001", "first"), ("8002", "second")]


def test_oxfile_and_env_file_are_read_anew_at_a_restart(ox):
    """What was edited since the start reaches the next incarnation without --update-env."""
    ox.oxfile(f'[processes.web]\ncommand = "{program("shows_env")}"\nenv_file = "web.env"\n')
    (ox.folder / "web.env").write_text("MODE=old\n")
    ox.ok("start")
    (ox.folder / "web.env").write_text("MODE=new\n")
    ox.ok("restart")
    assert [env["MODE"] for env in environments(ox, 2)] == ["old", "new"]


def test_the_supervisor_s_own_environment_reaches_nobody(ox):
    """A stack started from a second shell sees that shell's variables, not those of the one that began the supervisor."""
    ox.oxfile(f'[processes.first]\ncommand = "{program("shows_env")}"\n')
    ox.ok("start", env={"ONLY_FIRST": "1"})
    second = ox.base / "second"
    second.mkdir()
    (second / "oxfile.toml").write_text(f'[processes.second]\ncommand = "{program("shows_env")}"\n')
    ox.ok("start", cwd=second, env={"ONLY_SECOND": "1"})
    log = ox.state_of_stack(second) / "logs" / "second.log"
    wait_until(lambda: log.exists() and log.read_bytes().endswith(b"}\n"), "the second environment")
    env = json.loads(log.read_bytes())["env"]
    assert "ONLY_FIRST" not in env
    assert env["ONLY_SECOND"] == "1"
    assert environments(ox, 1, "first")[0]["ONLY_FIRST"] == "1"
