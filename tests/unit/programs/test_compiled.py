"""An oxfile compiled: read, completed, and explained."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oxherd.errors import ConfigError, UsageError
from oxherd.programs.explanation import explanation

PROMISED = """\
[processes.web]
command = "/var/www/myapp/venv/bin/uvicorn main:app --host 0.0.0.0 --port 8000 --workers 4"
working_dir = "/var/www/myapp"
stop_timeout_ms = 30000
[processes.web.env]
DATABASE_URL = "postgresql+asyncpg://user:hunter2@localhost/myapp"
API_TOKEN = "hunter3"
[processes.worker]
command = "/var/www/myapp/venv/bin/celery -A tasks worker --loglevel=info --concurrency=4"
[processes.beat]
command = "/var/www/myapp/venv/bin/celery -A tasks beat --loglevel=info"
instances = 1
"""


def test_programs_are_recognised_and_complete_the_specs(compiled):
    result = compiled(PROMISED)
    web, worker, beat = result.oxfile.processes
    assert [process.program for process in (web, worker, beat)] == ["uvicorn", "celery-worker", "celery-beat"]
    assert (web.stop.timeout, worker.stop.timeout, beat.stop.timeout) == (30.0, 300.0, 10.0)
    assert beat.singleton
    assert result.origins["worker"]["stop_timeout"] == "default for Celery worker"
    assert result.origins["beat"]["singleton"] == "default for Celery beat"
    assert result.origins["web"]["stop_timeout"] == "oxfile.toml:4"
    assert result.programs["web"].bind.text() == "0.0.0.0:8000"


def test_two_beats_are_refused(compiled):
    with pytest.raises(ConfigError) as caught:
        compiled('[processes.beat]\ncommand = "celery -A t beat"\ninstances = 2\n')
    assert [(p.code, p.line) for p in caught.value.problems] == [("OX114", 3)]


def test_a_reader_who_insists_may_have_two(compiled):
    """singleton = false is said on purpose: beats with a lock of their own exist."""
    result = compiled('[processes.beat]\ncommand = "celery -A t beat"\ninstances = 2\nsingleton = false\n')
    assert result.oxfile.process("beat").instances == 2


def test_a_bare_name_is_found_in_the_environment_of_the_working_directory(compiled, script, tmp_path):
    path = script(tmp_path / ".venv/bin/uvicorn")
    result = compiled('[processes.web]\ncommand = "uvicorn main:app"\n', environ={"PATH": "/nowhere"})
    web = result.oxfile.process("web")
    assert web.command.argv == (path, "main:app")
    assert web.command.text == "uvicorn main:app"
    assert any(".venv of the working directory" in note for note in result.notes["web"])


def test_a_bare_name_that_path_finds_stays(compiled, script, tmp_path):
    script(tmp_path / "bin/uvicorn")
    environ = {"PATH": str(tmp_path / "bin")}
    assert compiled('[processes.web]\ncommand = "uvicorn a:b"\n', environ=environ).oxfile.process(
        "web"
    ).command.argv == (
        "uvicorn",
        "a:b",
    )


def test_warnings_stand_in_the_order_of_the_file(compiled):
    result = compiled(
        '[processes.a]\ncommand = "gunicorn x -D"\nworking_dir = "/nowhere"\n[processes.b]\ncommand = "a | b"\n'
    )
    assert [warning.line for warning in result.warnings] == [2, 3, 5]


def test_an_explanation_shows_every_setting_with_its_origin(compiled):
    shown = explanation(compiled(PROMISED), "worker")
    settings = {item.name: (item.value, item.origin) for item in shown.settings}
    assert settings["stop_timeout"] == ("5 min", "default for Celery worker")
    assert settings["restart"] == ("on-failure", "default")
    assert settings["command"][1] == "oxfile.toml:9"
    assert (shown.program, shown.title, shown.shell) == ("celery-worker", "Celery worker", False)
    assert shown.argv[0] == "/var/www/myapp/venv/bin/celery"
    assert "was not found" in shown.executable_reason
    assert shown.interpreter == sys.executable
    assert shown.notes


def test_an_explanation_never_shows_a_secret(compiled):
    shown = explanation(compiled(PROMISED), "web")
    assert "hunter" not in repr(shown)
    env = {item.name: item.value for item in shown.env}
    assert env == {"API_TOKEN": "***", "DATABASE_URL": "postgresql+asyncpg://user:***@localhost/myapp"}


def test_secrets_on_command_lines_are_not_shown_either(compiled):
    text = '[processes.a]\ncommand = "run --dsn redis://u:hunter2@h"\nhealth_check.endpoint = "http://u:hunter3@h/"\n'
    assert "hunter" not in repr(explanation(compiled(text), "a"))


def test_an_explanation_names_what_is_not_active_yet(compiled):
    text = '[processes.a]\ncommand = "x"\ngit_ref = "main"\n[processes.b]\ncommand = "x"\n'
    result = compiled(text)
    assert explanation(result, "a").inactive == ("git.ref",)
    assert explanation(result, "b").inactive == ()


def test_everything_that_can_be_set_is_shown(compiled):
    """Schedules, watches, health checks and apps have rows of their own."""
    text = (
        '[processes.job]\ncommand = "x"\nschedule = "@daily"\ntimeout = "5m"\n'
        '[processes.dev]\ncommand = "x"\nwatch = true\ncron_restart = "@daily"\nlimits = { cpu = "50%", memory = "1G" }\n'
        '[processes.dev.health_check]\ncommand = "ok"\n'
        '[processes.db]\ncommand = "x"\nhealth_check = { tcp = "h:1", readiness = "http://h/" }\numask = "022"\n'
        '[processes.db.logs]\ncombined = "/l"\n'
        '[processes.web]\ncommand = "x"\nmax_memory_mb = 1024\n'
    )
    result = compiled(text)

    def row(process: str, name: str):
        return next((item.value, item.origin) for item in explanation(result, process).settings if item.name == name)

    assert row("job", "schedule") == ("@daily", "oxfile.toml:3")
    assert row("job", "timeout") == ("5 min", "oxfile.toml:4")
    assert row("dev", "cron_restart")[0] == "@daily"
    assert row("dev", "limits.cpu")[0] == "50 %"
    assert row("dev", "health_check.command")[0] == "ok"
    assert row("dev", "watch_extensions") == ("all", "default")
    assert row("db", "health_check.tcp")[0] == "h:1"
    assert row("db", "umask")[0] == "022"
    assert row("db", "logs.file") == ("/l", "oxfile.toml:17")
    assert row("web", "limits.memory") == ("1.0 GB", "oxfile.toml:20")
    assert row("web", "health_check") == ("none", "default")


def test_an_unknown_process_is_refused(compiled):
    with pytest.raises(UsageError, match='no process "nope"'):
        explanation(compiled(PROMISED), "nope")


def test_recognising_needs_nothing_heavy():
    """The supervisor may import this; see the lean contract."""
    script = (
        "import sys; before = set(sys.modules)\n"
        "import oxherd.programs.recognise, oxherd.programs.program, oxherd.config.redact, oxherd.config.codec\n"
        "print(sorted((set(sys.modules) - before) & {'typing', 'shlex', 'tomllib', 'datetime', 'shutil', 'tempfile'}))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
