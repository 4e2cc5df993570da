"""The model survives the way over the control socket."""

from __future__ import annotations

import json
from types import NoneType, UnionType
from typing import get_args, get_origin, get_type_hints

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oxherd.config import model
from oxherd.config.codec import decode, encode
from oxherd.config.model import Command, Oxfile, ProcessSpec
from oxherd.core.restart import RestartMode, RestartPolicy

_TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
_PLAIN = st.one_of(_TEXT, st.integers(-10, 10**9), st.booleans())
_LEAVES = {
    str: _TEXT,
    int: st.integers(0, 10**12),
    float: st.floats(0, 10**9, allow_nan=False),
    bool: st.booleans(),
    NoneType: st.none(),
    object: st.one_of(_PLAIN, st.tuples(_TEXT, _TEXT)),
}


def values(hint) -> st.SearchStrategy:
    """Values of a type as the model's annotations name it."""
    if hint in _LEAVES:
        return _LEAVES[hint]
    if isinstance(hint, UnionType):
        return st.one_of([values(part) for part in get_args(hint)])
    if get_origin(hint) is tuple:
        inner = get_args(hint)
        if inner[-1] is Ellipsis:
            return st.lists(values(inner[0]), max_size=2).map(tuple)
        return st.tuples(*[values(part) for part in inner])
    if hasattr(hint, "__dataclass_fields__"):
        return of(hint)
    return st.sampled_from(list(hint))


def of(kind) -> st.SearchStrategy:
    """Values of one dataclass of the model."""
    hints = get_type_hints(kind)
    return st.fixed_dictionaries({name: values(hints[name]) for name in kind.__dataclass_fields__}).map(
        lambda fields: kind(**fields)
    )


KINDS = [getattr(model, name) for name in model.__all__ if hasattr(getattr(model, name), "__dataclass_fields__")]


@pytest.mark.parametrize(
    "kind", [kind for kind in KINDS if kind not in {Oxfile, ProcessSpec}], ids=lambda kind: kind.__name__
)
def test_every_type_comes_back(kind):
    @settings(max_examples=40)
    @given(of(kind))
    def check(value):
        assert decode(kind, json.loads(json.dumps(encode(value)))) == value

    check()


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(of(ProcessSpec))
def test_a_whole_file_comes_back(spec):
    oxfile = Oxfile(path="/srv/oxfile.toml", name="shop", processes=(spec, spec))
    assert decode(Oxfile, json.loads(json.dumps(encode(oxfile)))) == oxfile


def test_defaults_are_not_sent():
    """What a newer version adds with a default does not disturb an older one until it is used."""
    data = encode(Oxfile(path="/x", name="x"))
    assert data == {"path": "/x", "name": "x"}


def test_zero_is_not_false():
    """A value that equals its default and is of another type is sent."""
    policy = RestartPolicy(mode=RestartMode.NEVER, delay=1)
    assert decode(RestartPolicy, json.loads(json.dumps(encode(policy)))) == policy


def test_a_field_of_another_version_is_refused():
    with pytest.raises(TypeError):
        decode(Command, {"text": "x", "argv": ["x"], "colour": "red"})
