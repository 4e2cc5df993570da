"""The page about the command line says what the command line does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from oxherd.cli.main import VERBS
from oxherd.cli.reference import reference

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"


def test_the_page_is_in_sync():
    """Write it anew with `python -m oxherd.cli.reference > docs/reference/cli.md`.

    In a process of its own: click remembers a command's help option from whoever asked for it first.
    """
    made = subprocess.run([sys.executable, "-m", "oxherd.cli.reference"], capture_output=True, text=True, check=True)
    assert PAGE.read_text() == made.stdout


def test_every_verb_has_its_section_and_every_option_a_help():
    page = reference()
    for verb in VERBS:
        assert f"\n## oxherd {verb}\n" in page
    assert "### oxherd daemon status" in page
