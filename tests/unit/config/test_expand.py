"""References are looked up in the caller's environment, then the env_files, then the process's own env."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.config.expand import BadReferenceError, Expander


def expander(*, environ=None, files=None, env=None, short=False):
    missing: list[str] = []

    def note(name: str) -> str:
        missing.append(name)
        return ""

    made = Expander(environ=environ or {}, files=files or {}, env=env or {}, short=short, missing=note)
    return made, missing


def test_the_caller_wins_over_env_files_and_those_over_env():
    made, _ = expander(environ={"A": "caller"}, files={"A": "file", "B": "file"}, env={"B": "env", "C": "env"})
    assert made.text("${A} ${B} ${C}") == "caller file env"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("${A}", "1"),
        ("x${A}y${A}z", "x1y1z"),
        ("${NO:-default}", "default"),
        ("${EMPTY:-default}", "default"),
        ("${NO:-}", ""),
        ("${NO:-${A}}", "1"),
        ("${NO:-a:-b}", "a:-b"),
        ("$$", "$"),
        ("$${A}", "${A}"),
        ("pa$$word", "pa$word"),
        ("5$ and $A", "5$ and $A"),
        ("ends $", "ends $"),
    ],
)
def test_references(text, expected):
    made, missing = expander(environ={"A": "1", "EMPTY": ""})
    assert made.text(text) == expected
    assert missing == []


def test_the_published_dialect_knows_short_references():
    made, missing = expander(environ={"A": "1"}, short=True)
    assert made.text("$A/${A}/$A_B/$$A/$5/$") == "1/1//$A/$5/$"
    assert missing == ["A_B"]


def test_a_name_without_a_value_is_told():
    made, missing = expander()
    assert made.text("a${NO}b") == "ab"
    assert missing == ["NO"]


@pytest.mark.parametrize("text", ["${", "${}", "${A", "${1}", "${A-b}", "${A:?no}", "${A:-b"])
def test_what_looks_like_a_reference_and_is_none_is_refused(text):
    made, _ = expander(environ={"A": "1"})
    with pytest.raises(BadReferenceError):
        made.text(text)


def test_env_may_refer_to_itself_and_to_the_callers_variable_of_the_same_name():
    made, missing = expander(environ={"PATH": "/bin"}, env={"PATH": "/x:${PATH}", "A": "${B}", "B": "b"})
    assert made.variable("PATH") == "/x:/bin"
    assert made.variable("A") == "b"
    assert missing == []


def test_a_circle_has_no_value():
    made, missing = expander(env={"A": "${B}", "B": "${A}"})
    assert made.variable("A") == ""
    assert missing == ["A"]


@given(st.text("a${}:-$A \n", max_size=20))
def test_any_text_is_expanded_or_refused(text):
    made, _ = expander(environ={"A": "1"}, short=True)
    try:
        assert isinstance(made.text(text), str)
    except BadReferenceError:
        assert "${" in text


@given(st.text(max_size=20))
def test_doubled_dollars_protect_any_text(text):
    made, missing = expander(short=True)
    assert made.text(text.replace("$", "$$")) == text
    assert missing == []
