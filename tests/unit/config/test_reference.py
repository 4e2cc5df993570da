"""What is generated from the key table is in sync with it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from oxherd.config import keys, reference

ROOT = Path(__file__).resolve().parents[3]
SECTIONS = (keys.TOP, keys.PROCESS, keys.HEALTH, keys.LIMITS, keys.LOGS, keys.WEBHOOK, keys.DEPLOY)


def test_the_committed_schema_is_the_tables():
    assert (ROOT / "src/oxherd/config/oxfile.schema.json").read_text() == reference.schema_text()


def test_the_committed_page_is_the_tables():
    assert (ROOT / "docs/reference/oxfile.md").read_text() == reference.reference_markdown()


def test_the_check_says_whether_they_are(capsys):
    assert reference.main(["--check"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title)
def test_every_key_is_on_the_page_and_in_the_schema(section):
    page, schema = reference.reference_markdown(), json.dumps(reference.schema())
    for name in section.keys:
        assert f"| `{name}` |" in page
        assert f'"{name}"' in schema


def test_the_schema_refuses_what_the_reader_refuses():
    """Editors underline unknown keys."""
    schema = reference.schema()
    assert schema["additionalProperties"] is False
    definitions = schema["$defs"]
    assert definitions["process"]["additionalProperties"] is False
    assert definitions["process"]["properties"]["profiles"]["additionalProperties"] == {"$ref": "#/$defs/settings"}
    assert "profiles" not in definitions["settings"]["properties"]
    assert "name" in definitions["app"]["properties"]
    assert definitions["process"]["properties"]["health"] == {"$ref": "#/$defs/health_check"}
    assert "pre-setup" in definitions["deploy"]["properties"]


def test_references_of_the_schema_lead_somewhere():
    text = reference.schema_text()
    names = {piece.partition('"')[0] for piece in text.split("#/$defs/")[1:]}
    assert names == set(reference.schema()["$defs"])


def test_later_keys_say_so():
    page = reference.reference_markdown()
    (line,) = [line for line in page.splitlines() if line.startswith("| `git_ref` |")]
    assert "*(later)*" in line
