"""Whatever the chunks, the lines are whole."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from oxherd.system.logs.lines import LineAssembler


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\n", b"a\nb", b"\n\n", b"tail"]), max_size=30))
def test_chunks_of_any_cut_give_the_same_bytes_in_whole_lines(chunks: list[bytes]) -> None:
    assembler = LineAssembler()
    out = [assembler.feed(chunk) for chunk in chunks]
    assert all(not part or part.endswith(b"\n") for part in out)
    joined = b"".join(chunks)
    assert b"".join(out) + assembler.held == joined
    assert b"\n" not in assembler.held


def test_a_chunk_of_whole_lines_is_passed_on_without_a_copy() -> None:
    chunk = b"one\ntwo\n"
    assert LineAssembler().feed(chunk) is chunk


def test_flush_ends_the_unfinished_line_and_forgets_it() -> None:
    assembler = LineAssembler()
    assert assembler.feed(b"prompt> ") == b""
    assert assembler.held == b"prompt> "
    assert assembler.flush() == b"prompt> \n"
    assert assembler.flush() == b""


def test_a_line_below_the_limit_stays_whole_and_one_beyond_is_given_out_in_counted_pieces() -> None:
    assembler = LineAssembler(limit=10)
    assert assembler.feed(b"123456789") == b""
    assert assembler.pieces == 0
    assert assembler.feed(b"0") == b"1234567890\n"
    assert assembler.pieces == 1
    assert assembler.feed(b"rest\n") == b"rest\n"


def test_five_megabytes_without_a_newline_are_one_line() -> None:
    assembler = LineAssembler()
    chunk = b"\x00\xff" * 32768
    for _ in range(80):
        assert assembler.feed(chunk) == b""
    assert assembler.feed(b"\n") == chunk * 80 + b"\n"
