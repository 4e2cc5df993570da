"""Where a key of the journal belongs."""

from __future__ import annotations

import pytest

from oxherd.daemon.adopting.survivors import Place, place_of

MARK = "abc:stack"


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("abc:stack/web/0", Place("web", 0)),
        ("abc:stack/web/12", Place("web", 12)),
        ("abc:stack/web/0~3", Place("web", 0, 3)),
        ("abc:stack/web/zygote/4", Place("web", 4, zygote=True)),
        ("abc:stack/zygote/0", Place("zygote", 0)),
        ("abc:other/web/0", None),
        ("abc:stack", None),
        ("abc:stack/", None),
        ("abc:stack/web", None),
        ("abc:stack/web/", None),
        ("abc:stack/web/x", None),
        ("abc:stack/web/0~", Place("web", 0)),
        ("abc:stack/web/0~x", None),
        ("abc:stack/web/-1", None),
        ("abc:stack/web/0/1", None),  # a mark, which has an incarnation
        ("abc:stack/web/zygote/x", None),
        ("ending", None),
        ("", None),
    ],
)
def test_a_key_names_an_instance_or_a_zygote_of_its_stack_or_nobody(key, place):
    assert place_of(MARK, key) == place
