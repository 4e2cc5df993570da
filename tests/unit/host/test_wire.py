"""Packets: what goes in comes out, what is too long is cut, what is no message is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.host.wire import LIMIT, decode, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), lambda inner: st.lists(inner, max_size=4)
)


@given(st.dictionaries(st.text(min_size=1).filter(lambda key: key != "kind"), JSON, max_size=5))
def test_a_message_comes_out_as_it_went_in(fields):
    assert decode(encode("ready", **fields)) == {"kind": "ready", **fields}


@given(st.text(min_size=1), st.integers(1, 5))
def test_no_packet_is_too_long(text, times):
    packet = encode("failed", traceback=text * (LIMIT * times // len(text)), text="short")
    assert len(packet) <= LIMIT
    assert decode(packet)["text"] == "short"


def test_a_long_text_loses_its_middle():
    trace = "first\n" + "middle\n" * LIMIT + "ValueError: last\n"
    cut = decode(encode("failed", traceback=trace))["traceback"]
    assert cut.startswith("first\n")
    assert cut.endswith("ValueError: last\n")
    assert "[...]" in cut


def test_what_has_no_text_to_cut_is_refused():
    with pytest.raises(ValueError, match="does not fit into a packet"):
        encode("ready", hazards=[{"what": "x" * LIMIT}])


@pytest.mark.parametrize(
    "packet",
    [b"", b"{", b"[]", b"1", b"{}", b'{"kind": 1}', b"\xff\xfe", json.dumps({"king": "boot"}).encode()],
)
def test_what_is_no_message_is_refused(packet):
    with pytest.raises(ValueError, match=r".*"):
        decode(packet)
