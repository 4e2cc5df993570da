"""What `oxherd.jsons` reads and writes is what `json` reads and writes."""

from __future__ import annotations

import enum
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd import jsons

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
)


@given(VALUES, st.booleans(), st.sampled_from([(", ", ": "), (",", ":")]))
def test_texts_are_those_of_json(value, ascii_only, separators):
    text = jsons.dumps(value, ensure_ascii=ascii_only, separators=separators)
    assert text == json.dumps(value, ensure_ascii=ascii_only, separators=separators)
    assert jsons.loads(text) == json.loads(text)


@given(VALUES, st.sampled_from(["", " ", "\n\t"]))
def test_bytes_and_spaces_are_read(value, space):
    text = f"{space}{json.dumps(value, ensure_ascii=False)}{space}".encode("utf-8", "surrogatepass")
    assert jsons.loads(text) == json.loads(text)
    assert jsons.loads(bytearray(text)) == json.loads(text)


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    "value", [float("inf"), -1e300, {2: 2, None: 3, True: 4, 1.5: 5}, Level.HIGH, [Level.HIGH], "\ud800"]
)
def test_what_is_seldom_written_is_written_alike(value):
    assert jsons.dumps(value) == json.dumps(value)


def test_what_is_seldom_read_is_read_alike():
    assert str(jsons.loads("[NaN, Infinity, -Infinity, 1e999, -0]")) == str(
        json.loads("[NaN, Infinity, -Infinity, 1e999, -0]")
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        '{"a"}',
        "[1,]",
        "nul",
        "1 2",
        '"a',
        '"\n"',
        '{"a": 1} x',
        "\ufeff1",
        b"\xff",
        b'"\xc3"',
        "'a'",
        "01",
    ],
)
def test_what_is_no_json_is_refused_in_the_same_words(text):
    said = []
    for way in (json, jsons):
        with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared below
            way.loads(text)
        said.append((type(caught.value), str(caught.value)))
    assert said[0] == said[1]


@pytest.mark.parametrize("way", [json, jsons])
def test_depth_and_circles_are_refused(way):
    with pytest.raises(RecursionError):
        way.loads("[" * 100_000)
    circle: list[object] = []
    circle.append(circle)
    with pytest.raises(ValueError, match="Circular"):
        way.dumps(circle)
    with pytest.raises(TypeError):
        way.dumps({"a": object()})
    with pytest.raises(TypeError):
        way.dumps({("a",): 1})


def test_nothing_of_json_is_loaded():
    code = (
        "import sys; from oxherd import jsons; jsons.loads('[1]'); jsons.dumps({});"
        "print(sorted({'json', 're', 'enum'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("text", ["nul", '{"a"}', "1 2"])
def test_a_process_without_descriptors_refuses_it_as_well(text):
    """The words are of `json`, which is loaded for them."""
    code = (
        "import resource; from oxherd import jsons; resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))\n"
        f"try:\n    jsons.loads({text!r})\nexcept ValueError as error:\n    print(error)\n"
    )
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {code}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == "not JSON, and no descriptor is left to say why\n"


@pytest.mark.parametrize("text", ["nul", '{"a"}', "1 2", "[1,", '"a', '{"a": 1} x'])
def test_the_words_are_there_where_json_is_not_loaded(text):
    code = f"from oxherd import jsons\ntry:\n    jsons.loads({text!r})\nexcept ValueError as error:\n    print(error)\n"
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared
        json.loads(text)
    assert said == f"{caught.value}\n"
