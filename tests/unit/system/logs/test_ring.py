"""The two memories are bounded, and what falls out of the second is counted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oxherd.system.logs.ring import Batch, SpillRing, TailRing


def batch(data: bytes, slot: int = 0) -> Batch:
    return Batch(time=1, slot=slot, data=data)


def test_the_tail_is_the_last_lines_without_newlines() -> None:
    ring = TailRing()
    ring.add(b"one\ntwo\n")
    ring.add(b"three\n")
    assert ring.lines(2) == [b"two", b"three"]
    assert ring.lines(10) == [b"one", b"two", b"three"]
    assert ring.lines(0) == []


def test_the_tail_ends_with_the_unfinished_line() -> None:
    ring = TailRing()
    assert ring.lines(5, b"Segmentation") == [b"Segmentation"]
    ring.add(b"one\n")
    assert ring.lines(2, b"half") == [b"one", b"half"]


def test_the_tail_is_bounded_and_begins_at_a_line() -> None:
    ring = TailRing()
    for number in range(50_000):
        ring.add(b"%09d\n" % number)
    lines = ring.lines(100_000)
    assert 0 < sum(map(len, lines)) <= 64 * 1024
    assert lines == [b"%09d" % number for number in range(50_000 - len(lines), 50_000)]
    ring.add(b"".join(b"%09d\n" % number for number in range(20_000)))
    assert ring.lines(1) == [b"000019999"]
    assert all(len(line) == 9 for line in ring.lines(100_000))


def test_a_line_longer_than_the_tail_is_shown_from_its_middle() -> None:
    ring = TailRing()
    ring.add(b"x" * 5_000_000 + b"end\n")
    (line,) = ring.lines(3)
    assert line.endswith(b"xend")
    assert len(line) <= 64 * 1024


@given(st.lists(st.lists(st.binary(max_size=30).map(lambda b: b.replace(b"\n", b"")), min_size=1, max_size=8)))
def test_spilled_lines_are_held_or_counted_oldest_first(batches: list[list[bytes]]) -> None:
    ring = SpillRing(limit=100)
    lines: list[bytes] = []
    for part in batches:
        ring.add(batch(b"".join(line + b"\n" for line in part)))
        lines += part
        assert ring.size <= 100
    held_count = ring.lines
    held = b""
    while len(ring):
        held += ring.pop().data
    assert ring.size == 0
    assert held.split(b"\n")[:-1] == lines[ring.dropped :]
    assert held_count + ring.dropped == len(lines)


def test_no_more_falls_out_than_has_to() -> None:
    ring = SpillRing(limit=10)
    ring.add(batch(b"aaa\nbbb\n"))
    ring.add(batch(b"ccc\n"))
    assert ring.dropped == 1
    assert ring.pop().data == b"bbb\n"


def test_what_is_put_back_comes_first_and_keeps_its_instance() -> None:
    ring = SpillRing()
    ring.add(batch(b"one\ntwo\n", slot=7))
    ring.add(batch(b"three\n"))
    first = ring.pop()
    ring.push_back(first, b"two\n")
    again = ring.pop()
    assert (again.slot, again.data) == (7, b"two\n")
