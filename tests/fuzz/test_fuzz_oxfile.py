"""Any oxfile is read or refused: with `ConfigError` alone, and every problem in a line that is there."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oxherd.config import keys
from oxherd.config.codec import decode, encode
from oxherd.config.model import Oxfile
from oxherd.config.redact import redact_text
from oxherd.errors import ConfigError, Severity
from oxherd.programs.compiled import compile_stack
from oxherd.programs.explanation import explanation
from oxherd.programs.probes import BLIND

VALID = """name = "shop"

[processes.web]
command = "uvicorn main:app --port ${PORT:-8000} --workers 2"
working_dir = "."
restart_on_exit = true
stop_timeout = "45s"
depends_on = { db = "started" }
env_file = ".env"
watch = ["src"]
[processes.web.env]
TOKEN = "a$$b"
MULTI = \"\"\"
two
lines\"\"\"
[processes.web.health_check]
endpoint = "http://localhost:8000/health"
interval_secs = 30
[processes.web.limits]
memory = "512M"

[processes.db]
command = 'sh -c "echo {instance}; exec db"'
instances = 2
[processes.api]
app = "main:app"
bind = ["127.0.0.1:8001", "unix:/tmp/x.sock"]
workers = "auto"
[processes.job]
command = "true"
schedule = "*/5 * * * *"
timezone = "UTC"
"""
APPS = """version = 1
[defaults]
restart_policy = "on_failure"
[[apps]]
name = "api"
command = "node server.js"
cwd = "."
instances = 2
health_cmd = "true"
[apps.env]
KEY = "$HOME"
[apps.profiles.prod]
instances = 4
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The folder of the oxfiles; the network is never asked, and no interpreter."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("A=1\n")
    return tmp_path


def check(here, data, profile=None):
    path = here / "oxfile.toml"
    path.write_bytes(data)
    lines = data.count(b"\n") + 1
    try:
        compiled = compile_stack("oxfile.toml", profile=profile, environ={"HOME": "/", "PATH": "/bin"}, probes=BLIND)
    except ConfigError as error:
        assert any(problem.severity == Severity.ERROR for problem in error.problems)
        for problem in error.problems:
            assert problem.message
            assert problem.file
            if problem.file == "oxfile.toml":
                assert 0 <= problem.line <= lines, problem
        assert error.render()
        return None
    assert all(0 <= problem.line <= lines for problem in compiled.warnings if problem.file == "oxfile.toml")
    # What is sent to the supervisor is what was read, and JSON takes it.
    assert decode(Oxfile, json.loads(json.dumps(encode(compiled.oxfile)))) == compiled.oxfile
    for process in compiled.oxfile.processes:
        explanation(compiled, process.name, {})
    return compiled


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
@example(b"\xef\xbb\xbf")
@example(b"[" * 5000)
@example(b"a = " + b"[" * 5000)
@example(b"a = " + b"9" * 5000)
@example(b"a = {" * 3000)
@example(b"[a." + b"b." * 2000 + b"c]")
def test_any_bytes(here, data):
    check(here, data)


@given(
    st.sampled_from([VALID, APPS]),
    st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 30), st.text(max_size=6)), max_size=4),
)
def test_a_valid_file_that_was_damaged(here, text, cuts):
    """Characters taken out and put in anywhere."""
    for at, cut, put in cuts:
        text = text[:at] + put + text[at + cut :]
    check(here, text.encode(errors="surrogatepass"))


@given(st.sampled_from([VALID, APPS]), st.randoms(use_true_random=False), st.integers(1, 6))
def test_a_valid_file_whose_lines_were_moved(here, text, random, count):
    lines = text.splitlines(keepends=True)
    for _ in range(count):
        at, to = random.randrange(len(lines)), random.randrange(len(lines))
        match random.randrange(3):
            case 0:
                lines[at], lines[to] = lines[to], lines[at]
            case 1:
                lines.insert(to, lines[at])
            case _:
                del lines[at]
                if not lines:
                    return
    check(here, "".join(lines).encode())


SECTIONS = {
    "": keys.PROCESS,
    "health_check": keys.HEALTH,
    "limits": keys.LIMITS,
    "logs": keys.LOGS,
    "webhook": keys.WEBHOOK,
}
STRINGS = st.text(max_size=12) | st.sampled_from(
    ["5s", "1h30m", "512M", "200%", "TERM", "http://h:1/x", "unix:/x", "127.0.0.1:8000", "* * * * *", "UTC", "main:app", "a\0b", "${X}",
     "${X:-1}", "$$", "{instance}", "/dev/null", "~", "auto", "max", "shared", "always", "root", "0", "-1", "\u2028", "x" * 300, "027"]
)  # fmt: skip
VALUES = st.recursive(
    STRINGS | st.integers(-(10**20), 10**20) | st.booleans() | st.floats(allow_nan=True),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc.-_ ", min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


def toml(value):
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            # TOML's basic strings are JSON's but for DEL and lone surrogates.
            return json.dumps(value).replace("\x7f", "\\u007f")
        case float():
            return repr(value)
        case int():
            return str(value)
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            return f"{{{', '.join(f'{json.dumps(key)} = {toml(item)}' for key, item in value.items())}}}"
        case _:
            raise AssertionError(value)


PAIRS = st.sampled_from([(section, name) for section, known in SECTIONS.items() for name in known.keys])


@given(
    st.dictionaries(PAIRS, VALUES, max_size=6),
    st.dictionaries(st.text("AB_-. $=", max_size=4), VALUES, max_size=3),
    st.booleans(),
)
@example({("", "env_file"): "a\0b"}, {}, False)
@example({("", "working_dir"): "a\0b"}, {}, False)
@example({("", "python"): "a\0b"}, {}, True)
@example({("", "command"): "x\0y"}, {}, False)
@example({("", "log_file"): "a\0b"}, {}, False)
@example({("", "env_file"): "."}, {}, False)
@example({("", "user"): "a\0b"}, {}, False)
@example({("", "ssl_certfile"): "a\0b", ("", "ssl_keyfile"): "a\0b"}, {}, True)
@example({}, {"": "x"}, False)
@example({}, {"A=B": "x", "A": "b\0c"}, False)
def test_any_value_of_any_key(here, pairs, env, app):
    """The file is TOML, the keys are known, and the values are anything."""
    tables = {section: {} for section in SECTIONS}
    for (section, name), value in pairs.items():
        tables[section][name] = value
    first = tables.pop("")
    first.setdefault("app" if app else "command", "main:app" if app else "run it")
    lines = ["[processes.p]", *(f"{name} = {toml(value)}" for name, value in first.items())]
    if env and "env" not in first:
        lines += ["[processes.p.env]", *(f"{json.dumps(name)} = {toml(value)}" for name, value in env.items())]
    for section, values in tables.items():
        if values and section not in first:
            lines += [f"[processes.p.{section}]", *(f"{name} = {toml(value)}" for name, value in values.items())]
    check(here, "\n".join(lines).encode())


@given(st.binary(max_size=120))
@example(b"A=b\0c\n")
@example(b"\0")
def test_any_env_file(here, data):
    (here / ".env").write_bytes(data)
    compiled = check(here, b'[processes.p]\ncommand = "x"\nenv_file = ".env"\n')
    if compiled is not None:
        for name, value in compiled.oxfile.processes[0].env:
            assert "\0" not in name + value


@given(st.text(max_size=200))
def test_what_is_redacted_stays_redacted(text):
    assert redact_text(redact_text(text)) == redact_text(text)


def test_the_valid_files_are_valid(here):
    """Otherwise the mutations would start from nothing."""
    assert check(here, VALID.encode()) is not None
    assert check(here, APPS.encode(), profile="prod") is not None
    assert os.getcwd() == str(here)
