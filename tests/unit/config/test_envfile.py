"""env_files are read as dotenv tools, Docker and shells write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.config.envfile import EnvFileError, parse_env_file


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1", {"A": "1"}),
        ("export A=1", {"A": "1"}),
        ("A = 1", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A=b c", {"A": "b c"}),
        ("A=b # comment", {"A": "b"}),
        ("A=b#c", {"A": "b#c"}),
        ("A=# comment", {"A": ""}),
        ("A=x=y", {"A": "x=y"}),
        ("# comment\n\n  \nA=1\nB=2", {"A": "1", "B": "2"}),
        ("A='b # c \\n ${X}'", {"A": "b # c \\n ${X}"}),
        ("A='x' # comment", {"A": "x"}),
        ('A="b # c"', {"A": "b # c"}),
        ('A="l1\\nl2\\t\\"q\\" \\\\"', {"A": 'l1\nl2\t"q" \\'}),
        ('A="keep \\d"', {"A": "keep \\d"}),
        ('A="\\$X"', {"A": "$$X"}),
        ('A="first\nsecond"\nB=2', {"A": "first\nsecond", "B": "2"}),
        ('A="x" # comment', {"A": "x"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("\ufeffA=1", {"A": "1"}),
        ("A=1\nA=2", {"A": "2"}),
        ("a.b-c=1", {"a.b-c": "1"}),
    ],
)
def test_lines_are_read(text, expected):
    assert {line.name: line.value for line in parse_env_file(text)} == expected


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("A=1\nnonsense", 2, "this is not NAME=value"),
        ("=1", 1, "this is not NAME=value"),
        ("two words=1", 1, "this is not NAME=value"),
        ("1A=1", 1, '"1A" cannot be the name of a variable'),
        ("A;B=1", 1, '"A;B" cannot be the name of a variable'),
        ("A='open", 1, "a single quote is not closed on its line"),
        ('A=1\n\nB="open\nstill', 3, "a double quote is not closed"),
        ("A='x'y", 1, "there is text after the closing quote"),
        ('A="x\ny" z', 2, "there is text after the closing quote"),
        ("A=\0", 1, "a value cannot hold a NUL byte"),
    ],
)
def test_what_is_wrong_has_its_line(text, line, reason):
    with pytest.raises(EnvFileError) as caught:
        parse_env_file(text)
    assert (caught.value.line, caught.value.reason) == (line, reason)


def test_a_problem_never_shows_a_value():
    with pytest.raises(EnvFileError) as caught:
        parse_env_file("PASSWORD='hunter2' hunter3")
    assert "hunter" not in str(caught.value)


def test_a_line_knows_whether_it_is_literal():
    """Single quotes say that nothing is to be replaced."""
    first, second, third = parse_env_file("A='${X}'\nB=\"${X}\"\nC=${X}")
    assert (first.literal, second.literal, third.literal) == (True, False, False)
    assert [line.line for line in (first, second, third)] == [1, 2, 3]


@given(st.dictionaries(st.from_regex(r"[A-Z_][A-Z0-9_]{0,5}", fullmatch=True), st.text("ab'\" #\\\n$\t=é", max_size=8)))
def test_double_quotes_can_say_anything(values):
    """Whatever is escaped into double quotes comes back."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
    text = "\n".join(f'{name}="{"".join(escapes.get(c, c) for c in value)}"' for name, value in values.items())
    assert {line.name: line.value for line in parse_env_file(text)} == values


@given(st.text("A=1'\"\\# \n\t$é", max_size=60))
def test_any_text_is_read_or_refused(text):
    """Whatever stands in the file, every line that is read has a name, and every refusal a line."""
    places = []
    try:
        places = [line.line for line in parse_env_file(text)]
    except EnvFileError as error:
        places = [error.line]
    assert all(1 <= place <= text.count("\n") + 1 for place in places)
