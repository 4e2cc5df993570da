"""What `oxherd.records` makes is to its users what `dataclasses` makes."""

from __future__ import annotations

import dataclasses

import pytest

from oxherd import records
from oxherd.records import FrozenError, names_of, replace, shape_of

WAYS = {"records": records, "dataclasses": dataclasses}


def classes(way):
    """Return the same four classes, made in one of the two ways."""

    @way.dataclass(frozen=True, slots=True, kw_only=True)
    class Named:
        """By name alone."""

        first: int
        second: str = "two"
        many: list[int] = way.field(default_factory=list)

        def doubled(self) -> int:
            return self.first * 2

        @property
        def text(self) -> str:
            return f"{self.first}{self.second}"

    @way.dataclass(frozen=True, slots=True)
    class Placed:
        left: int
        right: int = 2
        note: str = way.field(default="", compare=False)

    @way.dataclass(slots=True)
    class Open:
        count: int = 0

    @way.dataclass(frozen=True, slots=True)
    class Prepared:
        value: int

        def __post_init__(self) -> None:
            if self.value < 0:
                raise ValueError(self.value)

    return Named, Placed, Open, Prepared


@pytest.fixture(params=WAYS)
def made(request):
    """Both ways, so that what is said here of one is true of the other."""
    return classes(WAYS[request.param])


def test_values_have_their_fields_methods_and_defaults(made):
    named, placed, opened, prepared = made
    value = named(first=1)
    assert (value.first, value.second, value.many, value.doubled(), value.text) == (1, "two", [], 2, "1two")
    assert value.many is not named(first=1).many
    assert (placed(1).right, placed(1, 3).right, placed(1, right=4).right, opened().count) == (2, 3, 4, 0)
    assert prepared(1).value == 1
    assert named.__doc__ == "By name alone."
    assert not hasattr(value, "__dict__")


def test_values_compare_hash_print_and_match(made):
    named, placed, opened, _ = made
    assert named(first=1) == named(first=1) != named(first=2)
    assert placed(1, 2, "here") == placed(1, 2, "there")
    assert hash(placed(1, 2, "here")) == hash(placed(1, 2, "there"))
    assert placed(1) != (1, 2)
    assert repr(placed(1)).endswith("Placed(left=1, right=2, note='')")
    with pytest.raises(TypeError, match="unhashable"):
        hash(opened())
    match placed(1, 2):
        case placed(left, right):
            assert (left, right) == (1, 2)
        case _:
            pytest.fail("a value did not match its class")


def test_frozen_values_stay_as_they_are(made):
    named, _, opened, _ = made
    value = named(first=1)
    with pytest.raises(AttributeError, match="first"):
        value.first = 2
    with pytest.raises(AttributeError, match="first"):
        del value.first
    free = opened()
    free.count += 1
    assert free == opened(1)
    with pytest.raises(AttributeError):
        free.other = 1


@pytest.mark.parametrize(
    "call",
    [
        lambda named, _placed: named(),
        lambda named, _placed: named(1),
        lambda named, _placed: named(first=1, third=3),
        lambda named, _placed: named(third=3),
        lambda _named, placed: placed(),
        lambda _named, placed: placed(1, left=1),
        lambda _named, placed: placed(1, 2, "", 4),
        lambda _named, placed: placed(right=1, wrong=2),
    ],
)
def test_wrong_arguments_are_refused(made, call):
    named, placed, _, _ = made
    with pytest.raises(TypeError, match=r"__init__|Named|Placed"):
        call(named, placed)


@pytest.mark.parametrize("way", [records.replace, dataclasses.replace])
def test_replacing_makes_another_value_by_either_function(way):
    named, placed, _, prepared = classes(records)
    value = named(first=1)
    assert way(value, second="zwei") == named(first=1, second="zwei")
    assert (value.second, way(value).many is value.many) == ("two", True)
    assert way(placed(1), right=3) == placed(1, 3)
    with pytest.raises(TypeError, match="third"):
        way(value, third=3)
    with pytest.raises(ValueError, match="-1"):
        way(prepared(1), value=-1)


def test_the_standard_library_takes_them_for_its_own():
    named, _, _, _ = classes(records)
    assert dataclasses.asdict(named(first=1)) == {"first": 1, "second": "two", "many": []}
    fields = {field.name: field for field in dataclasses.fields(named)}
    assert fields["first"].default is dataclasses.MISSING
    assert (fields["second"].default, fields["many"].default_factory) == ("two", list)


def test_what_is_said_of_a_class():
    named, placed, _, _ = classes(records)
    assert names_of(placed) == ("left", "right", "note")
    assert shape_of(int) is None
    assert shape_of(named).defaults == {"second": "two"}
    with pytest.raises(FrozenError, match="Placed is frozen"):
        placed(1).left = 2
    assert replace(placed(1), left=0).left == 0
