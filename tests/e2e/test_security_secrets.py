"""Secrets are never shown: an oxfile full of them goes through every verb and every state, and then everything that was
said, and every file of the home, is looked through.

Where a secret may stand, and nowhere else: in the record of its stack (mode 0600, in a directory of 0700) and in the log
of the program that printed it itself.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from support.harness import program
from support.services import unused_port
from support.waiting import DEADLINE, wait_until

# Every place of an oxfile that can hold one has a canary of its own, so that a leak names where it came from.
CANARY = re.compile(rb"canary-[a-z0-9-]+")

OXFILE = """
[processes.web]
command = "{sleeper} --password canary-arg-word --api-token=canary-arg-eq http://u:canary-arg-url@h/?token=canary-arg-query ${{CALLER_TOKEN}}"
env_file = ".env"
pre_start = "sh -c 'test ! -e hook-fails || {{ echo $API_TOKEN; exit 3; }}' -- --secret canary-hook-arg"
pre_reload = "sh -c 'exit 0' -- --secret canary-reload-arg"
[processes.web.env]
API_TOKEN = "canary-env-token"
DATABASE_URL = "postgresql://user:canary-env-url@localhost/x"
PRIVATE_KEY = "-----BEGIN KEY-----\\ncanary-pem-line-of-a-key\\n-----END KEY-----"
FROM_CALLER = "x-${{CALLER_TOKEN}}-y"
[processes.web.health_check]
command = "sh -c 'test ! -e sick || {{ echo failing with $API_TOKEN and $DATABASE_URL; exit 1; }}' -- --secret canary-health-arg"
interval_secs = 1
initial_delay_secs = 0
unhealthy_threshold = 1
[processes.web.webhook]
enabled = true
secret = "canary-webhook"

[processes.crash]
command = "sh -c 'API_KEY=canary-shell-assign; echo $API_KEY $API_TOKEN $DATABASE_URL $FILE_SECRET; echo $PRIVATE_KEY; exit 7'"
env_file = ".env"
max_restarts = 1
restart_delay_ms = 100
[processes.crash.env]
API_TOKEN = "canary-env-token"
DATABASE_URL = "postgresql://user:canary-env-url@localhost/x"
PRIVATE_KEY = "canary-pem-line-of-a-key"

[processes.app]
app = "site_app:app"
bind = "127.0.0.1:{port}"
[processes.app.env]
API_TOKEN = "canary-env-token"
[processes.app.server_options]
ssl_keyfile_password = "canary-option"
[processes.app.health_check]
endpoint = "http://u:canary-endpoint@127.0.0.1:{port}/health?token=canary-endpoint-query"
readiness = "http://127.0.0.1:{port}/ready?token=canary-ready-query"
interval_secs = 1
initial_delay_secs = 0

[processes.job]
command = "sh -c 'echo $API_TOKEN; exit 1'"
type = "oneshot"
restart = "never"
[processes.job.env]
API_TOKEN = "canary-env-token"

[processes.gone]
command = "/nowhere/program --password canary-gone-word"
[processes.gone.env]
API_TOKEN = "canary-env-token"
"""

BROKEN = """
[processes.web]
command = ["run", "--password", "canary-list-word", "--token=canary-list-eq", "redis://:canary-list-url@h"]
password = "canary-unknown-key"
stop_signal = "http://u:canary-signal-url@h"
restart_delay_ms = "--token=canary-delay"
[processes.web.env]
API_TOKEN = ["canary-env-list"]
DB = 5
"bad name" = "canary-bad-name"
REF = "${canary-reference"
[processes.web.health_check]
endpoint = "htp://u:canary-bad-endpoint@h/?token=canary-bad-query"
[processes.web.webhook]
secret = ["canary-webhook-list"]
[processes.app]
app = "canary app"
[processes.app.server_options]
ssl_keyfile_password = ["canary-option-list"]
"""

SYNTAX = [
    "[processes.web.env]\nAPI_TOKEN = canary-unquoted\n",
    '[processes.web.env]\nAPI_TOKEN = "canary-unterminated\n',
    '[processes.web.env]\nAPI_TOKEN = "canary-first"\nAPI_TOKEN = "canary-twice"\n',
    '[processes.web.env]\nAPI_TOKEN = "canary-escape\\q"\n',
    '[processes.web.env]\nAPI_TOKEN: "canary-colon"\n',
]

GOOD_APP = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})
"""
BAD_APP = """
import os
token, url = os.environ["API_TOKEN"], "redis://u:canary-code-url@h"
raise RuntimeError(f"cannot log in with {token} at {url}")
"""

CALLER = {"CALLER_TOKEN": "canary-caller-token", "UNUSED_SECRET": "canary-caller-unused"}
VERBS = [
    ("status",),
    ("status", "--json"),
    ("ls",),
    ("events", "--last", "500"),
    ("events", "--last", "500", "--json"),
    ("why",),
    ("why", "--json"),
    ("why", "--history"),
]
# What says the same in every state, or costs a start.
ONCE = [
    ("start", "--dry-run"), ("service", "install", "--dry-run"), ("scale", "web=2"), ("scale", "web=1"),
    ("signal", "WINCH", "web"), ("completion", "bash"), ("validate",), ("validate", "--json"), ("explain",),
    ("explain", "--json"), ("doctor",), ("doctor", "--json"), ("daemon", "status"), ("daemon", "status", "--json"),
]  # fmt: skip


def leaks(data):
    if isinstance(data, str):
        data = data.encode(errors="backslashreplace")
    return sorted(set(CANARY.findall(data)))


def look_at_everything(ox, verbs=()):
    for verb in (*VERBS, *verbs):
        result = ox.cli(*verb, env=CALLER)
        assert "Traceback (most recent call last)" not in result.err, result


def assert_nothing_was_said(ox):
    told = {str(result): leaks(f"{result.out}{result.err}") for result in ox.commands}
    leaking = {text: found for text, found in told.items() if found}
    places = [line for text in leaking for line in text.splitlines() if leaks(line)]
    assert list(dict.fromkeys(places)) == []


def files_with_canaries(ox):
    """Return the files of the home that hold a canary, by their path in it, with their mode."""
    home = ox.base / "ox"
    found = {}
    for path in sorted(home.rglob("*")):
        if path.is_file() and not path.is_symlink() and leaks(path.read_bytes()):
            found[str(path.relative_to(home))] = stat.S_IMODE(path.stat().st_mode)
    return found


@pytest.fixture
def secrets(ox):
    ox.oxfile(OXFILE.format(sleeper=program("sleeper"), port=unused_port()))
    (ox.folder / "oxfile.toml").chmod(0o600)
    (ox.folder / ".env").write_text("FILE_SECRET=canary-file-secret\n")
    (ox.folder / ".env").chmod(0o600)
    (ox.folder / "site_app.py").write_text(GOOD_APP)
    # What the sleeper is called with is its own output; it does not matter here.
    return ox


def test_secrets_are_shown_in_no_state(secrets):
    ox = secrets
    identity = ox.state_of_stack().name
    # Healthy, crashed, ended with a failure, never started: all at once.
    started = ox.cli("start", env=CALLER)
    assert started.code == 1, started
    ox.wait_row("web", status="running")
    ox.wait_row("app", status="running")
    ox.wait_row("crash", status="crashed")
    look_at_everything(ox, ONCE)
    # An unhealthy process whose check says what it knows.
    (ox.folder / "sick").touch()
    ox.wait("condemned", "unhealthy", name="web")
    look_at_everything(ox)
    (ox.folder / "sick").unlink()
    ox.wait_row("web", status="running", health="healthy")
    # A hook that fails.
    (ox.folder / "hook-fails").touch()
    for verb in ("restart", "reload"):
        assert ox.cli(verb, "web", env=CALLER).code == 1
    look_at_everything(ox)
    (ox.folder / "hook-fails").unlink()
    # A reload that is aborted, with the traceback of an app that speaks of what it knows.
    (ox.folder / "site_app.py").write_text(BAD_APP)
    for arguments in (("reload", "app"), ("reload", "app", "--json")):
        aborted = ox.cli(*arguments, env=CALLER)
        assert aborted.code == 1, aborted
        assert "cannot log in with *** at redis://u:***@h" in f"{aborted.out}{aborted.err}", aborted
    look_at_everything(ox)
    # A crash of a hosted worker whose app cannot be imported any more.
    ox.cli("restart", "app", env=CALLER)
    look_at_everything(ox)
    # An oxfile that is refused, by every verb that reads it.
    good = (ox.folder / "oxfile.toml").read_text()
    for text in (BROKEN, *SYNTAX):
        (ox.folder / "oxfile.toml").write_text(text)
        for verb in (
            ("validate",),
            ("validate", "--json"),
            ("start",),
            ("reload",),
            ("apply",),
            ("doctor",),
            ("explain",),
        ):
            assert ox.cli(*verb, env=CALLER).code != 0, verb
    (ox.folder / "oxfile.toml").write_text(good)
    ox.ok("stop")
    look_at_everything(ox)
    said = ox.cli("logs", env=CALLER)
    ox.commands.remove(said)
    assert b"canary-env-token" in leaks(said.out), "the log of a program is its own, byte for byte"

    assert_nothing_was_said(ox)
    for pid in [ox.supervisor]:
        assert leaks(Path(f"/proc/{pid}/cmdline").read_bytes()) == []
    logs = f"state/stacks/{identity}/logs"
    allowed = {f"state/stacks/{identity}/stack.json"} | {
        f"{logs}/{name}.log" for name in ("web", "crash", "app", "job")
    }
    # Lines on their way to those logs.
    spool = {"run/spool/area"}
    found = files_with_canaries(ox)
    assert set(found) - allowed - spool == set()
    assert {found[path] for path in spool & set(found)} <= {0o600}
    assert found[f"state/stacks/{identity}/stack.json"] == 0o600
    assert stat.S_IMODE(os.stat(ox.home.state).st_mode) == 0o700


def test_a_run_shows_the_words_of_its_programs_and_no_others(secrets):
    """What `oxherd run` says of itself holds no secret; the lines of the programs are theirs."""
    ox = secrets
    running = ox.popen("run", "web", "crash", env=CALLER, stderr=-1)
    wait_until(lambda: files_with_canaries(ox), "the stack to be written down")
    running.terminate()
    out, err = running.communicate(timeout=DEADLINE)
    own = [line for line in f"{out}{err}".splitlines() if line.startswith("oxherd")]
    assert leaks("\n".join(own)) == []
    assert leaks(err) == []
