"""The protocol's page names every verb, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from support.workbench import Workbench

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "protocol.md"


def test_every_verb_is_documented_and_every_documented_verb_exists(tmp_path):
    bench = Workbench(tmp_path)
    documented = re.findall(r"^\| `([a-z]+)` \|", PAGE.read_text(), re.MULTILINE)
    assert documented == list(bench.assembly.verbs._verbs)
    bench.close()
