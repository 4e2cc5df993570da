"""Every key of a TOML document has the line it stands in."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.config.positions import key_lines, nearest_line

DOCUMENT = '''\
# a comment with [brackets] and key = "value"
name = "shop"

[processes.web]
command = "a # b" # a comment
env = { A = "1", "B.C" = '2', D.E = [1, { F = 2 }] }
list = [
  "one", # first
  { inner = true },
  [3,
   4],
]
text = """
[not.a.table]
key = "no"
\\"""
"""
literal = \'\'\'
x = 1
\'\'\'
a.b."c d" = 1
when = 1979-05-27 07:32:00

[[apps]]
name = "first"
[apps.env]
X = "1"

[[apps]]
name = "second"
[apps.profiles.prod]
instances = 2
[[apps.deep]]
y = 1
[[apps.deep]]
y = 2
["quoted table".'literal']
k = """one"""
'''


def paths(value: object, path: tuple = ()) -> list[tuple]:
    """Every key path of a parsed document, elements of arrays included."""
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    else:
        return []
    return [found for key, item in items for found in ((*path, key), *paths(item, (*path, key)))]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("name",), 2),
        (("processes", "web"), 4),
        (("processes", "web", "command"), 5),
        (("processes", "web", "env", "B.C"), 6),
        (("processes", "web", "env", "D", "E", 1, "F"), 6),
        (("processes", "web", "list"), 7),
        (("processes", "web", "list", 0), 8),
        (("processes", "web", "list", 1, "inner"), 9),
        (("processes", "web", "list", 2, 1), 11),
        (("processes", "web", "text"), 13),
        (("processes", "web", "literal"), 18),
        (("processes", "web", "a", "b", "c d"), 21),
        (("processes", "web", "when"), 22),
        (("apps", 0, "name"), 25),
        (("apps", 0, "env", "X"), 27),
        (("apps", 1), 29),
        (("apps", 1, "profiles", "prod", "instances"), 32),
        (("apps", 1, "deep", 0, "y"), 34),
        (("apps", 1, "deep", 1, "y"), 36),
        (("quoted table", "literal", "k"), 38),
    ],
)
def test_a_key_has_its_line(path, line):
    assert key_lines(DOCUMENT)[path] == line


def test_no_key_is_invented_or_left_out():
    """What the scanner finds is exactly what the parser finds."""
    assert set(key_lines(DOCUMENT)) >= set(paths(tomllib.loads(DOCUMENT)))
    assert ("not",) not in key_lines(DOCUMENT)


def test_windows_line_ends_count_once():
    assert key_lines("a = 1\r\nb = 2\r\n")[("b",)] == 2


def test_the_nearest_line_is_that_of_the_table_around():
    lines = key_lines("[a]\nb = 1\n")
    assert nearest_line(lines, ("a", "b", 0, "c")) == 2
    assert nearest_line(lines, ("a", "x")) == 1
    assert nearest_line(lines, ("z",)) == 0


@pytest.mark.parametrize("text", ["", "=", "[", "a", 'a = "', "a = [", "a = {", "[[a", "a = '''", "\\", "a = "])
def test_text_that_is_no_toml_raises_nothing(text):
    """A place is a courtesy: where there is none the scanner leaves it out."""
    assert isinstance(key_lines(text), dict)


BARE = st.text("abcXYZ019-_", min_size=1, max_size=5)
QUOTED = st.text("ab .=[]{}#'\t", max_size=5).map(lambda text: f'"{text}"')
LITERAL = st.text('ab .=[]{}#"\\', max_size=5).map(lambda text: f"'{text}'")
KEY = st.lists(st.one_of(BARE, QUOTED, LITERAL), min_size=1, max_size=3).map(" . ".join)
STRING = st.sampled_from(['"x"', "'y'", '"""z\n[t]\n"""', "'''w\nk = 1\n'''", '"a\\"#]"', '""""quoted""""'])
SCALAR = st.one_of(STRING, st.sampled_from(["1", "-2.5", "true", "1979-05-27", "inf", "0x1F", "07:32:00"]))
BREAK = st.sampled_from([" ", "\n", "\n  # a ] comment\n", ""])


def arrays(values):
    return st.tuples(st.lists(values, max_size=3), BREAK).map(
        lambda pair: f"[{pair[1]}" + f",{pair[1]}".join(pair[0]) + f"{pair[1]}]"
    )


def inline_tables(values):
    return st.lists(st.tuples(KEY, values), max_size=3).map(
        lambda pairs: "{ " + ", ".join(f"{key} = {value}" for key, value in pairs) + " }"
    )


VALUE = st.recursive(SCALAR, lambda inner: st.one_of(arrays(inner), inline_tables(inner)), max_leaves=6)
LINE = st.one_of(
    st.tuples(KEY, VALUE).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    KEY.map(lambda key: f"[{key}]"),
    KEY.map(lambda key: f"[[ {key} ]]"),
    st.sampled_from(["", "# comment = 1", "   "]),
)


@given(st.lists(LINE, max_size=12).map("\n".join))
def test_every_key_the_parser_sees_has_a_line_that_holds_it(text):
    """The property the error messages rest on: each key path has a line, and the key stands in that line."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = key_lines(text)
    written = text.split("\n")
    for path in paths(document):
        assert path in lines, path
        key = path[-1]
        if isinstance(key, str):
            assert key in written[lines[path] - 1], (path, lines[path])
