"""Listeners taken out of epoll sets and put back, and connections counted by the listener they came from."""

import os
import select
import socket
import struct
import threading
import time

import pytest

from oxherd.host import ducks


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


@pytest.fixture
def epoll():
    with select.epoll() as made:
        yield made


def dial(listener):
    family, address = listener.family, listener.getsockname()
    client = socket.socket(family)
    client.settimeout(5)
    client.connect(("127.0.0.1", address[1]) if family == socket.AF_INET else address)
    return client


def test_a_listener_is_found_in_every_set_that_watches_it(listener, epoll):
    with select.epoll() as other:
        epoll.register(listener, select.EPOLLIN)
        other.register(listener, select.EPOLLIN | select.EPOLLET)
        found = ducks.registrations(listener.fileno())
        assert {(one.epoll, one.target) for one in found} == {
            (epoll.fileno(), listener.fileno()),
            (other.fileno(), listener.fileno()),
        }


def test_a_listener_is_found_under_the_number_it_was_registered_with(listener, epoll):
    twin = os.dup(listener.fileno())
    try:
        epoll.register(twin, select.EPOLLIN)
        assert [one.target for one in ducks.registrations(listener.fileno())] == [twin]
    finally:
        os.close(twin)


def test_silence_ends_the_news_and_leaves_the_connection_in_the_backlog(listener, epoll):
    epoll.register(listener, select.EPOLLIN)
    assert len(ducks.silence(listener.fileno())) == 1
    with dial(listener):
        assert epoll.poll(0) == []
        accepted, _ = listener.accept()
        accepted.close()


def test_silence_leaves_other_descriptors_of_the_set_alone(listener, epoll):
    read, write = os.pipe()
    try:
        epoll.register(listener, select.EPOLLIN)
        epoll.register(read, select.EPOLLIN)
        ducks.silence(listener.fileno())
        os.write(write, b"x")
        assert epoll.poll(5) == [(read, select.EPOLLIN)]
    finally:
        os.close(read)
        os.close(write)


def test_a_set_known_under_two_numbers_is_no_error(listener, epoll):
    epoll.register(listener, select.EPOLLIN)
    twin = os.dup(epoll.fileno())
    try:
        assert len(ducks.registrations(listener.fileno())) == 2
        assert len(ducks.silence(listener.fileno())) == 1
        assert ducks.registrations(listener.fileno()) == []
    finally:
        os.close(twin)


def test_restore_brings_the_news_back(listener, epoll):
    epoll.register(listener, select.EPOLLIN | select.EPOLLET)
    gone = ducks.silence(listener.fileno())
    with dial(listener):
        ducks.restore(gone)
        assert epoll.poll(5) == [(listener.fileno(), select.EPOLLIN)]
    (again,) = ducks.registrations(listener.fileno())
    assert again.events == gone[0].events


def test_restore_watches_the_listener_that_took_the_number_meanwhile(listener, epoll):
    number = os.dup(listener.fileno())
    try:
        epoll.register(number, select.EPOLLIN)
        gone = ducks.silence(listener.fileno())
        with socket.create_server(("127.0.0.1", 0)) as successor:
            os.dup2(successor.fileno(), number)
            ducks.restore(gone)
            with dial(successor):
                assert epoll.poll(5) == [(number, select.EPOLLIN)]
    finally:
        os.close(number)


def test_restore_keeps_data_that_is_no_descriptor(listener, epoll):
    """tokio keeps an address there and would follow anything else."""
    address = 0x0000_7F12_3456_7890
    epoll.register(listener, select.EPOLLIN)
    (before,) = ducks.silence(listener.fileno())
    ducks.restore([ducks.Registration(before.epoll, before.target, before.events, address)])
    (after,) = ducks.registrations(listener.fileno())
    assert (after.data, after.events) == (address, before.events)


def test_restore_says_that_a_set_watches_the_descriptor_already(listener, epoll):
    epoll.register(listener, select.EPOLLIN)
    (one,) = ducks.registrations(listener.fileno())
    with pytest.raises(FileExistsError):
        ducks.restore([one])
    with pytest.raises(FileExistsError):
        ducks.restore([ducks.Registration(one.epoll, one.target, one.events, 1 << 40)])


def test_accepted_connections_are_counted_and_their_clients_are_not(listener):
    name = ducks.name_of(listener)
    assert ducks.established([name]) == 0
    with dial(listener):
        accepted, _ = listener.accept()
        assert ducks.established([name]) == 1
        accepted.close()
    assert ducks.established([name]) == 0


def test_a_connection_whose_client_has_gone_is_not_counted(listener):
    client = dial(listener)
    accepted, _ = listener.accept()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()  # with a reset
    with accepted:
        assert ducks.established([ducks.name_of(listener)]) == 0


def test_connections_of_other_listeners_are_not_counted(listener):
    with socket.create_server(("127.0.0.1", 0)) as other, dial(listener):
        accepted, _ = listener.accept()
        with accepted:
            assert ducks.established([ducks.name_of(other)]) == 0


def test_a_wildcard_listener_knows_its_connections_by_the_port():
    with socket.create_server(("0.0.0.0", 0)) as wide, dial(wide):
        accepted, _ = wide.accept()
        with accepted:
            assert ducks.established([ducks.name_of(wide)]) == 1


def test_connections_of_a_unix_listener_are_counted(tmp_path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "s"))
        made.listen()
        name = ducks.name_of(made)
        client = dial(made)
        accepted, _ = made.accept()
        with accepted:
            assert ducks.established([name]) == 1
            client.close()
            assert ducks.established([name]) == 0


def test_looking_at_descriptors_leaves_them_open(listener):
    with dial(listener):
        accepted, _ = listener.accept()
        with accepted:
            before = sorted(os.listdir("/proc/self/fd"))
            ducks.established([ducks.name_of(listener)])
            assert sorted(os.listdir("/proc/self/fd")) == before


def test_waiting_ends_when_the_last_connection_is_gone():
    left = iter([2, 1, 0, 1, 0, 0])
    assert ducks.wait_until_gone(lambda: next(left), time.monotonic() + 60, threading.Event()) == 0
    assert next(left, None) is None, "one empty look is not enough: an accept may be on its way"


def test_waiting_ends_with_its_time_and_says_how_many_are_left():
    assert ducks.wait_until_gone(lambda: 3, time.monotonic() - 1, threading.Event()) == 3


def test_waiting_can_be_cut_short():
    hurry = threading.Event()
    hurry.set()
    assert ducks.wait_until_gone(lambda: 3, time.monotonic() + 3600, hurry) == 3
