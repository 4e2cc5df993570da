"""The language of the control socket, without sockets."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd import errors
from oxherd.control.protocol import (
    MAX_LINE,
    LineBuffer,
    decode_line,
    encode_line,
    error_answer,
    error_of,
    progress_answer,
    request_line,
    result_answer,
    version_note,
)
from oxherd.control.request import Request, parse_request

REQUEST = {"oxherd": 1, "version": "0.1.0", "id": 7, "verb": "stop", "args": {"names": ["web"]}}


def line(message: object) -> bytes:
    return json.dumps(message).encode()


@given(st.lists(st.binary().filter(lambda data: b"\n" not in data), max_size=8), st.data())
def test_lines_are_the_same_however_the_stream_is_cut(lines, data):
    stream = b"".join(item + b"\n" for item in lines)
    buffer, got, position = LineBuffer(), [], 0
    while position < len(stream):
        size = data.draw(st.integers(1, len(stream) - position))
        got.extend(buffer.feed(stream[position : position + size]))
        position += size
    assert got == lines
    assert len(buffer) == 0


def test_half_a_line_waits_for_its_rest():
    buffer = LineBuffer()
    assert list(buffer.feed(b'{"a":')) == []
    assert len(buffer) == 5
    assert list(buffer.feed(b"1}\n{")) == [b'{"a":1}']
    assert len(buffer) == 1


@pytest.mark.parametrize(("size", "fits"), [(9, True), (10, False)])
def test_the_limit_counts_the_newline(size, fits):
    buffer = LineBuffer(limit=10)
    if fits:
        assert list(buffer.feed(b"x" * size + b"\n")) == [b"x" * size]
    else:
        with pytest.raises(errors.ProtocolError, match="a line of more than 10 bytes"):
            list(buffer.feed(b"x" * size + b"\n"))


def test_lines_before_one_that_is_too_long_are_delivered():
    buffer, got = LineBuffer(limit=10), []
    with pytest.raises(errors.ProtocolError) as caught:
        got.extend(buffer.feed(b"first\n" + b"x" * 50))
    assert got == [b"first"]
    assert caught.value.code == "OX502"
    assert len(buffer) == 0


@given(st.binary(max_size=400))
def test_any_bytes_raise_nothing_but_protocol_errors(data):
    buffer = LineBuffer(limit=64)
    try:
        for item in buffer.feed(data):
            parse_request(item)
    except errors.ProtocolError as error:
        assert error.message  # noqa: PT017 - any other exception is the failure


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
        max_leaves=12,
    ),
    st.sampled_from(["oxherd", "id", "verb", "args", "version"]),
)
def test_any_value_in_any_field_of_a_request_is_taken_or_refused(value, field):
    try:
        request = parse_request(line({**REQUEST, field: value}))
    except errors.ProtocolError:
        return
    assert isinstance(request.verb, str)
    assert isinstance(request.args, dict)


@pytest.mark.parametrize(
    ("raw", "code", "text"),
    [
        (b"\xff\xfe", "OX501", "a line that is not UTF-8"),
        (b"hello", "OX501", "a line that is not JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"[1]", "OX501", "a line that is JSON but not an object"),
        (b"[" * 200_000, "OX501", "a line that is not JSON: nested too deeply"),
        (b'{"a": ' + b"1" * 5000 + b"}", "OX501", "a line that is not JSON"),
        (b"{}", "OX504", 'a request has "oxherd": 1, the number of the protocol; this one has None'),
        (line({**REQUEST, "oxherd": 2}), "OX504", "this one has 2"),
        (line({**REQUEST, "oxherd": True}), "OX504", "this one has True"),
        (line({**REQUEST, "id": "7"}), "OX503", 'a request has an "id" that is a whole number'),
        (line({**REQUEST, "id": True}), "OX503", 'a request has an "id" that is a whole number'),
        (line({**REQUEST, "verb": ""}), "OX503", 'a request has a "verb" that is a text'),
        (line({**REQUEST, "args": []}), "OX503", 'the "args" of a request are an object'),
    ],
)
def test_what_is_no_request_is_refused_with_this_text(raw, code, text):
    with pytest.raises(errors.ProtocolError) as caught:
        parse_request(raw)
    assert text in caught.value.message
    assert caught.value.code == code


def test_a_newer_protocol_is_told_what_to_do():
    with pytest.raises(errors.ProtocolError) as caught:
        parse_request(line({**REQUEST, "oxherd": 2}))
    assert "oxherd daemon upgrade" in caught.value.hint


def test_a_request_survives_the_wire():
    sent = request_line(identity=3, version="9", verb="start", args={"env": {"A": "\udcff é"}})
    assert sent.endswith(b"\n")
    assert parse_request(sent[:-1]) == Request(id=3, verb="start", args={"env": {"A": "\udcff é"}}, version="9")


def test_a_request_without_version_and_args_is_complete():
    assert parse_request(b'{"oxherd":1,"id":1,"verb":"ping"}') == Request(id=1, verb="ping", args={})


def test_the_answers_are_what_the_protocol_says():
    assert decode_line(progress_answer(1, {"status": "starting"})) == {"id": 1, "progress": {"status": "starting"}}
    assert decode_line(result_answer(1, "0.1.0", {})) == {"id": 1, "server": "0.1.0", "result": {}}
    assert decode_line(error_answer(None, "0.1.0", errors.UsageError("no", hint="yes"))) == {
        "id": None,
        "server": "0.1.0",
        "error": {"code": "OX200", "message": "no", "hint": "yes", "exit_code": 2},
    }


def test_a_message_that_does_not_fit_into_a_line_is_not_made():
    with pytest.raises(errors.ProtocolError, match="does not fit into a line") as caught:
        encode_line({"a": "x" * MAX_LINE})
    assert caught.value.code == "OX502"


PROBLEM = errors.Problem(code="OX101", message="no such key", file="oxfile.toml", line=3, hint="comand -> command")


@pytest.mark.parametrize(
    "error",
    [
        errors.OxherdError("a", hint="b"),
        errors.UsageError("a", hint="b"),
        errors.NoSupervisorError("a"),
        errors.OperationError("a", code="OX470"),
        errors.ProtocolError("a"),
        errors.SystemFault("a", hint="b", code="OX602"),
        errors.ConfigError((PROBLEM,)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_arrives_as_the_class_it_was_sent_as(error):
    arrived = error_of(error.as_dict())
    assert type(arrived) is type(error)
    assert arrived.as_dict() == error.as_dict()
    assert arrived.render() == error.render()


def test_a_spawn_error_arrives_as_an_operation_error_with_its_code():
    arrived = error_of(errors.SpawnError("executing", 2, "/bin/x", "No such file or directory").as_dict())
    assert type(arrived) is errors.OperationError
    assert (arrived.code, arrived.message) == ("OX410", "executing /bin/x: No such file or directory")


@pytest.mark.parametrize(
    ("data", "kind", "exit_code"),
    [
        ({"code": "ZZ1", "message": "m", "exit_code": 2}, errors.UsageError, 2),
        ({"code": "ZZ1", "message": "m", "exit_code": 3}, errors.NoSupervisorError, 3),
        ({"message": "m"}, errors.OxherdError, 1),
        ({}, errors.OxherdError, 1),
        (["x"], errors.ProtocolError, 1),
        ({"code": "OX100", "problems": [7, {"code": "OX1"}]}, errors.ConfigError, 2),
        ({"code": 7, "exit_code": []}, errors.OxherdError, 1),
    ],
)
def test_an_error_of_an_unknown_code_is_classed_by_its_exit_code(data, kind, exit_code):
    error = error_of(data)
    assert type(error) is kind
    assert error.exit_code == exit_code
    assert error.message


def test_versions_that_differ_are_named_with_the_remedy():
    assert version_note("0.1.0", "0.1.0") == ""
    assert (
        version_note("0.2.0", "0.1.0")
        == "this is oxherd 0.2.0, the supervisor is 0.1.0; `oxherd daemon upgrade` brings it to 0.2.0"
    )
