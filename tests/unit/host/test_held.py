"""The second descriptors of listeners: kept while the engine accepts, never closed while they are being sent."""

from __future__ import annotations

import os
import threading

import pytest

from oxherd.host.held import Held
from support.waiting import DEADLINE


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture
def fds():
    made = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
    yield made
    for fd in made:
        if is_open(fd):
            os.close(fd)


def test_what_is_kept_is_lent_and_what_is_forgotten_is_closed(fds):
    held = Held()
    held.keep("web:0", fds[0])
    held.keep("web:1", fds[1])
    with held.lent() as lent:
        assert lent == {"web:0": fds[0], "web:1": fds[1]}
    held.forget("web:0")
    held.forget("unknown")
    with held.lent() as lent:
        assert lent == {"web:1": fds[1]}
    assert [is_open(fd) for fd in fds] == [False, True, True]


def test_a_key_that_comes_again_replaces_the_one_there_was(fds):
    held = Held()
    held.keep("web:0", fds[0])
    held.keep("web:0", fds[1])
    with held.lent() as lent:
        assert lent == {"web:0": fds[1]}
    assert [is_open(fd) for fd in fds] == [False, True, True]


def test_who_has_let_go_holds_nothing_again(fds):
    held = Held()
    held.keep("web:0", fds[0])
    held.let_go()
    held.keep("web:1", fds[1])
    with held.lent() as lent:
        assert lent == {}
    assert [is_open(fd) for fd in fds] == [False, False, True]


@pytest.mark.parametrize("where", ["here", "in a thread"])
def test_nothing_is_closed_while_it_is_lent(fds, where):
    """`let_go` in a signal handler, or in the engine's thread, does not wait; the lender closes afterwards."""
    held = Held()
    held.keep("web:0", fds[0])
    with held.lent() as lent:
        if where == "here":
            held.let_go()
        else:
            thread = threading.Thread(target=held.let_go)
            thread.start()
            thread.join(DEADLINE)
            assert not thread.is_alive()
        assert lent == {"web:0": fds[0]}
        assert is_open(fds[0])
    assert not is_open(fds[0])


def test_what_is_lent_is_given_back_when_sending_it_fails(fds):
    held = Held()
    held.keep("web:0", fds[0])
    with pytest.raises(OSError, match="no"), held.lent():
        raise OSError("no")
    held.let_go()
    assert not is_open(fds[0])
