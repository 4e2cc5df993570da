"""Under CI=1 a skip that nobody has reviewed fails the run; without it, it does not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

SKIPPED = "import pytest\n\ndef test_it():\n    pytest.skip({reason!r})\n"


@pytest.mark.parametrize(
    ("ci", "reason", "code"),
    [
        ("1", "no redis here", 1),
        ("1", "needs cgroup v2 with the memory controller", 0),
        ("", "no redis here", 0),
    ],
)
def test_a_skip_needs_a_reviewed_reason(root, tmp_path, ci, reason, code):
    for name in ("conftest.py", "allowed_skips.txt"):
        shutil.copy(root / "tests" / name, tmp_path)
    (tmp_path / "test_one.py").write_text(SKIPPED.format(reason=reason))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), "test_one.py"],
        cwd=tmp_path,
        env={**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stdout
    assert ("is not in tests/allowed_skips.txt" in done.stdout) == bool(code)
