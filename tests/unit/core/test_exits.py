"""How an end is said."""

from __future__ import annotations

import signal

import pytest

from oxherd.core.exits import ExitStatus

TEXTS = [
    (ExitStatus(code=0), "exited with 0"),
    (ExitStatus(code=1), "exited with 1"),
    (ExitStatus(code=126), "exited with 126 (found, but cannot be executed)"),
    (ExitStatus(code=127), "exited with 127 (command not found)"),
    (ExitStatus(signal=signal.SIGKILL), "killed by SIGKILL"),
    (ExitStatus(signal=signal.SIGSEGV, core_dumped=True), "killed by SIGSEGV (core dumped)"),
    (ExitStatus(signal=signal.SIGKILL, oom=True), "killed by SIGKILL (out of memory)"),
    (ExitStatus(), "ended in a way nobody could see"),
]


@pytest.mark.parametrize(("status", "text"), TEXTS)
def test_every_end_has_its_words(status, text):
    assert status.text == text


def test_only_code_0_is_success_and_only_an_unseen_end_is_unknown():
    assert [status.success for status, _ in TEXTS] == [True] + [False] * 7
    assert [status.unknown for status, _ in TEXTS] == [False] * 7 + [True]
