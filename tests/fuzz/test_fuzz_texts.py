"""Everything that reads a text a person or a program wrote: it is understood, or refused with one kind of error."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from oxherd.config.commandline import CommandLineError, read_command
from oxherd.config.dateformat import to_strftime
from oxherd.config.envfile import EnvFileError, parse_env_file
from oxherd.config.expand import BadReferenceError, Expander
from oxherd.config.positions import key_lines
from oxherd.control.protocol import LineBuffer, decode_line, error_of
from oxherd.control.request import parse_request
from oxherd.core.endpoint import parse_address, parse_endpoint
from oxherd.core.schedule import check_cron, check_timezone, describe, next_run
from oxherd.errors import OxherdError, ProtocolError, UsageError
from oxherd.host.wire import decode
from oxherd.programs.recognise import recognise
from oxherd.programs.shellwords import program_of_shell
from oxherd.units import parse_bytes, parse_duration, parse_signal

# Text that comes near to what is meant more often than any text does.
NEAR = st.text(string.ascii_letters[:8] + string.digits + " \t\n.:,/-+*?=&%$#@!~'\"`\\{}[]()<>|;^_", max_size=60)
TEXT = st.one_of(st.text(max_size=60), NEAR)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
DEEP = b"[" * 50_000


@pytest.mark.parametrize(
    "read", [parse_duration, parse_bytes, parse_signal, parse_address, parse_endpoint, to_strftime]
)
@given(text=TEXT)
@example(text="9" * 400)
@example(text="1" + "0" * 400 + "h")
@example(text="-1s")
@example(text="1e999s")
@example(text="http://[::1")
@example(text="unix:" + "/x" * 200)
def test_a_value_is_read_or_refused(read, text):
    try:
        read(text)
    except ValueError as error:
        assert str(error)


CRON = st.lists(st.text(string.digits + "*/-,LW#?", min_size=1, max_size=6), min_size=1, max_size=7).map(" ".join)


@given(
    TEXT | CRON | st.sampled_from(["@daily", "@every 5m", "@reboot", "@"]),
    st.sampled_from([None, "UTC", "Europe/Berlin"]),
)
@example("0 0 30 2 *", None)
@example("* * * * * " * 50, None)
def test_a_cron_that_is_accepted_has_a_next_time(cron, timezone):
    try:
        check_cron(cron)
    except ValueError as error:
        assert str(error)
        return
    describe(cron)
    assert next_run(cron, timezone, 1_800_000_000.0) > 1_800_000_000.0


@given(TEXT)
@example("../../etc/passwd")
@example("\0")
@example("Europe")
def test_a_timezone_is_known_or_refused(text):
    try:
        check_timezone(text)
    except ValueError as error:
        assert str(error)


@given(TEXT)
def test_a_command_is_read_or_refused(text):
    try:
        command = read_command(text, lambda reference: reference)
    except (CommandLineError, BadReferenceError) as error:
        assert str(error)
        return
    assert command.argv
    recognise(command)
    program_of_shell(command.argv)


WORDS = st.sampled_from(
    ["uvicorn", "gunicorn", "hypercorn", "granian", "daphne", "celery", "python", "-m", "sh", "-c", "flask", "manage.py", "exec",
     "main:app", "--port", "--host", "-b", "--bind", "-w", "--workers", "--uds", "--fd", "-A", "worker", "beat", "env", "A=b",
     "poetry", "run", "uv", "bash", "-lc", "&&", "--", "-", "", "0", "-1", "::", "[", "unix:", "--timeout", "runserver"]
) | st.text(max_size=8)  # fmt: skip


@given(st.lists(WORDS, min_size=1, max_size=8))
def test_any_command_line_is_recognised_as_something(words):
    import shlex

    try:
        command = read_command(shlex.join(words), lambda reference: reference)
    except (CommandLineError, BadReferenceError):
        return
    program = recognise(command)
    assert program.name
    for bind in program.binds:
        assert bind.text()


ENV_LINES = st.lists(
    st.sampled_from(
        ["A=1", "export B='x y'", 'C="a\\nb', '"', "D=${A}", "# no", "=", "E", "F=$$", "G='", "\t", "\ufeff", "A B=1"]
    )
    | NEAR,
    max_size=8,
).map("\n".join)


@given(ENV_LINES | st.text(max_size=80))
def test_an_env_file_is_read_or_its_line_is_named(text):
    try:
        lines = parse_env_file(text)
    except EnvFileError as error:
        assert 1 <= error.line <= text.count("\n") + 1
        assert error.reason
        return
    for line in lines:
        assert 1 <= line.line <= text.count("\n") + 1
        assert "\0" not in line.name + line.value
        assert "=" not in line.name


@given(
    NEAR | st.lists(st.sampled_from(["${", "}", "$", ":-", "A", "B", "$$", "${A}", "${B:-"]), max_size=12).map("".join)
)
def test_references_are_replaced_or_refused(text):
    expander = Expander(
        environ={"A": "1"}, files={}, env={"B": "${C}", "C": "${B}"}, short=True, missing=lambda _name: ""
    )
    try:
        expander.text(text)
    except BadReferenceError as error:
        assert str(error)


@given(TEXT)
def test_positions_are_of_lines_that_are_there(text):
    for line in key_lines(text).values():
        assert 1 <= line <= text.count("\n") + 1


# -- machines talk ----------------------------------------------------------------------------------------------------


REQUEST = {"oxherd": 1, "version": "0", "id": 1, "verb": "stop", "args": {"names": ["web"]}}
LINE = json.dumps(REQUEST).encode()
MUTATED = st.builds(
    lambda at, cut, put: LINE[:at] + put + LINE[at + cut :],
    st.integers(0, 80),
    st.integers(0, 6),
    st.binary(max_size=6),
)


@given(st.lists(st.binary(max_size=40) | MUTATED | JSON.map(lambda value: json.dumps(value).encode()), max_size=6))
@example([DEEP])
@example([b'{"a":' * 20_000])
@example([b"\xff\xfe"])
@example([b"9" * 5000])
def test_a_stream_of_requests_raises_nothing_but_protocol_errors(lines):
    buffer = LineBuffer(limit=200_000)
    for line in lines:
        try:
            for whole in buffer.feed(line + b"\n"):
                request = parse_request(whole)
                assert isinstance(request.verb, str)
                assert isinstance(request.args, dict)
        except ProtocolError as error:
            assert error.message


@given(JSON)
def test_any_error_answer_is_an_error_of_ours(value):
    error = error_of(value)
    assert isinstance(error, OxherdError)
    assert error.render()
    for extra in (
        {"code": "OX100", "problems": value},
        {"code": "OX100", "problems": [value]},
        {"code": value, "message": value},
    ):
        assert isinstance(error_of(extra), OxherdError)


@given(st.dictionaries(st.sampled_from(["code", "message", "line", "file", "key", "found", "severity", "x"]), JSON))
def test_problems_from_elsewhere_can_be_shown(value):
    assert isinstance(error_of({"code": "OX101", "problems": [{"code": "OX1", "message": "x", **value}]}).render(), str)


@given(st.binary(max_size=80) | MUTATED)
@example(DEEP)
def test_a_packet_of_a_worker_is_a_message_or_none(data):
    try:
        message = decode(data)
    except (ValueError, RecursionError):  # the channel takes both for garbage
        return
    assert isinstance(message["kind"], str)


@given(st.binary(max_size=80))
def test_a_line_is_an_object_or_refused(data):
    try:
        assert isinstance(decode_line(data), dict)
    except ProtocolError as error:
        assert error.code == "OX501"


@given(
    st.lists(
        st.sampled_from(["--run", "--bootstrap", "--spec-fd", "--ready-fd", "--name", "--color", "1"])
        | st.text(max_size=6)
    )
)
def test_the_command_line_of_the_supervisor(words):
    from oxherd.daemon.options import parse_options

    try:
        parse_options(words)
    except UsageError as error:
        assert error.code == "OX230"
