"""Listeners over real sockets: what they are set to, what they refuse, and that nothing of them is left."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from oxherd.errors import ListenError
from oxherd.system import listener_errors, listeners
from oxherd.system.listener_set import SHARED, ListenerSet, plan
from oxherd.system.listeners import (
    Address,
    claim,
    close_private,
    open_listener,
    open_private,
    parse_bind,
    queue_length,
    within_reach,
)
from support.servers import free_port

from .conftest import open_fds

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
TEST_NET = "203.0.113.1"  # RFC 5737: no machine has it


@pytest.fixture(autouse=True)
def _nothing_is_left():
    before = open_fds()
    yield
    assert open_fds() == before, "a descriptor was lost"


@pytest.fixture
def address():
    return parse_bind(f"127.0.0.1:{free_port()}")


@pytest.fixture
def kept():
    """Closes what a test has opened."""
    with contextlib.ExitStack() as stack:
        yield lambda thing: stack.enter_context(contextlib.closing(thing))


@contextlib.contextmanager
def stranger(program: str):
    """A program of its own that has done something to an address and waits."""
    with subprocess.Popen(
        [sys.executable, "-I", "-c", f"import socket\n{program}\nprint('done', flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == "done\n"
            yield child
        finally:
            child.kill()


def refusal(action) -> ListenError:
    with pytest.raises(ListenError) as caught:
        action()
    assert caught.value.hint
    return caught.value


def said_of(pid: int) -> str:
    return f"{Path('/proc', str(pid), 'comm').read_text().strip()} (pid {pid})"


def connect(address) -> socket.socket:
    if isinstance(address, str):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(address)
        return sock
    return socket.create_connection((address.host, address.port), timeout=10)


# -- addresses --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:8000", "127.0.0.1:8000"),
        ("localhost:8000", "127.0.0.1:8000"),
        ("LocalHost.:8000", "127.0.0.1:8000"),
        ("8000", "127.0.0.1:8000"),
        (":8000", "0.0.0.0:8000"),
        ("*:8000", "0.0.0.0:8000"),
        ("0.0.0.0:8000", "0.0.0.0:8000"),
        ("tcp://10.0.0.1:8000/", "10.0.0.1:8000"),
        ("[::]:8000", "[::]:8000"),
        ("[0:0::0001]:8000", "[::1]:8000"),
        ("[fe80::1%lo]:8000", "[fe80::1%lo]:8000"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
        ("unix:///run/app.sock", "unix:/run/app.sock"),
    ],
)
def test_an_address_has_one_spelling(text, expected):
    assert parse_bind(text).text == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "the port is missing"),
        ("localhost", "the port is missing"),
        ("127.0.0.1:", '"" is no port from 1 to 65535'),
        ("127.0.0.1:http", '"http" is no port from 1 to 65535'),
        ("127.0.0.1:0", '"0" is no port from 1 to 65535'),
        ("127.0.0.1:65536", '"65536" is no port from 1 to 65535'),
        ("127.0.0.1:٣", '"٣" is no port from 1 to 65535'),
        ("::1:8000", "an IPv6 address stands in brackets"),
        ("[::g]:8000", '"::g" is no IPv6 address'),
        ("127.0.0:8000", '"127.0.0" is no number, and /etc/hosts does not know it'),
        ("name.invalid:8000", '"name.invalid" is no number, and /etc/hosts does not know it'),
        ("unix:app.sock", "the path of a unix socket has to be absolute"),
        ("unix:", "the path of a unix socket has to be absolute"),
    ],
)
def test_what_is_no_address_is_said_to_be_none(text, reason):
    error = refusal(lambda: parse_bind(text))
    assert error.message == f'cannot listen on "{text}": {reason}'
    assert error.hint == 'expected an address such as "127.0.0.1:8000", "[::1]:8000" or "unix:/run/app.sock"'
    assert error.code == "OX486"


def test_a_name_is_looked_up_in_etc_hosts_and_nowhere_else(monkeypatch):
    monkeypatch.setattr(
        listeners, "read_file", lambda path: b"# c\n\n192.0.2.7 Api.internal api # x\n::1 six\nbad six\n"
    )
    assert parse_bind("api.INTERNAL:80").text == "192.0.2.7:80"
    assert parse_bind("six:80").text == "[::1]:80"
    refusal(lambda: parse_bind("x:80"))


# -- what a listener is set to ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_connections_inherit_what_the_listener_is_set_to(kept, host):
    sock = kept(open_listener(parse_bind(f"{host}:{free_port()}"), reuse_port=True))
    assert not sock.getblocking()
    assert not os.get_inheritable(sock.fileno())
    assert sock.proto == socket.IPPROTO_TCP
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN), "it listens before anybody said so"
    if sock.family == socket.AF_INET6:
        assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    sock.listen()
    client = kept(socket.create_connection(sock.getsockname()[:2]))
    sock.setblocking(True)
    accepted = kept(sock.accept()[0])
    assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    del client


def test_a_shared_listener_shares_its_port_with_nobody(kept, address):
    sock = kept(open_listener(address, reuse_port=False))
    assert not sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
    sock.listen()
    assert refusal(lambda: open_listener(address, reuse_port=True)).code == "OX481"


def test_both_families_can_have_one_port(kept):
    port = free_port()
    for host in ("0.0.0.0", "[::]"):
        one = parse_bind(f"{host}:{port}")
        claim(one)
        kept(open_listener(one, reuse_port=False)).listen()


def test_a_unix_socket_can_be_reached_by_whoever_may_enter_its_directory(kept, tmp_path):
    path = str(tmp_path / "app.sock")
    before = os.umask(0o077)
    try:
        kept(open_listener(Address(path=path), reuse_port=True))
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o666


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["SO_REUSEADDR", "SO_REUSEPORT"])
def test_who_has_the_port_is_named_although_it_could_be_shared_silently(address, option):
    """With SO_REUSEPORT the kernel would give a stranger half of the connections, or us half of his."""
    program = (
        f"s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.{option}, 1)\n"
        f"s.bind({(address.host, address.port)!r}); s.listen()"
    )
    with stranger(program) as child:
        error = refusal(lambda: claim(address))
        assert error.message == f"{address.text} is in use by {said_of(child.pid)}"
        assert error.hint.startswith(f"stop it (it runs `{sys.executable} -I -c import socket")
        assert error.hint.endswith("or bind to another port")
        assert error.code == "OX481"


def test_one_that_is_bound_and_does_not_listen_yet_has_the_address(kept, address):
    """Two stacks on one port, both starting: neither listens, and each could bind."""
    kept(open_listener(address, reuse_port=True))
    error = refusal(lambda: claim(address))
    assert error.message == f"{address.text} is in use"
    assert error.hint == (f"`ss -ltnp sport = :{address.port}` as root may show who has it; or bind to another port")


def test_every_address_is_in_use_where_one_is(kept, address):
    kept(open_listener(address, reuse_port=True)).listen()
    assert refusal(lambda: claim(parse_bind(f"0.0.0.0:{address.port}"))).code == "OX481"


def test_connections_that_are_still_dying_hold_no_address(kept, address):
    """The restart of a supervisor: the listener is gone, its connections are in TIME_WAIT."""
    with open_listener(address, reuse_port=True) as sock:
        sock.listen()
        client = kept(connect(address))
        sock.setblocking(True)
        accepted, _ = sock.accept()
        accepted.close()  # the side that closes first keeps the port
        assert client.recv(1) == b""
        client.close()
    with pytest.raises(OSError, match="in use"), socket.socket() as naive:
        naive.bind((address.host, address.port))
    claim(address)


def test_a_living_connection_without_a_listener_holds_no_address(kept, address):
    with open_listener(address, reuse_port=True) as sock:
        sock.listen()
        kept(connect(address))
        sock.setblocking(True)
        kept(sock.accept()[0])
    claim(address)


@pytest.mark.parametrize(
    ("text", "number", "told"),
    [
        (
            "127.0.0.1:80",
            errno.EACCES,
            (
                "cannot listen on 127.0.0.1:80: ports below 1024 are for root, and the supervisor runs as web",
                (
                    "bind to a port from 1024 on (behind nginx, 8000), or give the supervisor CAP_NET_BIND_SERVICE "
                    "(systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE; else setcap cap_net_bind_service=+ep on its Python), "
                    "or run it as root"
                ),
                "OX482",
            ),
        ),
        (
            "127.0.0.1:8000",
            errno.EACCES,
            (
                "cannot listen on 127.0.0.1:8000: permission denied",
                "a security policy (SELinux, AppArmor, seccomp) seems to forbid it; see its log",
                "OX482",
            ),
        ),
        (
            "203.0.113.1:8000",
            errno.EADDRNOTAVAIL,
            (
                "cannot listen on 203.0.113.1:8000: this machine has no address 203.0.113.1",
                "`ip address` lists what it has; 0.0.0.0 (or [::]) is every one of them",
                "OX483",
            ),
        ),
        (
            "[::1]:8000",
            errno.EAFNOSUPPORT,
            (
                "cannot listen on [::1]:8000: IPv6 is switched off on this machine",
                "write the IPv4 address: 127.0.0.1 instead of [::1], 0.0.0.0 instead of [::]",
                "OX483",
            ),
        ),
        (
            "127.0.0.1:8000",
            errno.EMFILE,
            (
                "cannot listen on 127.0.0.1:8000: too many open files",
                "raise the limit of open files of the supervisor (LimitNOFILE=, ulimit -n), or free memory",
                "OX485",
            ),
        ),
        ("127.0.0.1:8000", errno.EIO, ("cannot listen on 127.0.0.1:8000: input/output error", "see bind(2)", "OX480")),
        (
            "unix:/run/web/app.sock",
            errno.ENOENT,
            (
                "cannot listen on unix:/run/web/app.sock: there is no directory /run/web",
                "make it: mkdir -p /run/web",
                "OX484",
            ),
        ),
        (
            "unix:/run/web/app.sock",
            errno.ENOTDIR,
            (
                "cannot listen on unix:/run/web/app.sock: /run/web is no directory",
                "name a path in a directory",
                "OX484",
            ),
        ),
        (
            "unix:/run/web/app.sock",
            errno.EACCES,
            (
                "cannot listen on unix:/run/web/app.sock: /run/web may not be written to by web",
                "name a directory web may write to",
                "OX484",
            ),
        ),
        (
            "unix:/run/web/app.sock",
            errno.EROFS,
            (
                "cannot listen on unix:/run/web/app.sock: /run/web is on a read-only file system",
                "name a directory web may write to",
                "OX484",
            ),
        ),
        (
            "unix:/run/web/app.sock",
            errno.EEXIST,
            (
                "cannot listen on unix:/run/web/app.sock: the path is there already, and is no socket",
                "move it away, or name another path",
                "OX484",
            ),
        ),
        (
            "unix:/run/web/app.sock",
            errno.ENOSPC,
            (
                "cannot listen on unix:/run/web/app.sock: no space left on device",
                "name another path",
                "OX484",
            ),
        ),
    ],
)
def test_every_refusal_says_what_to_do(monkeypatch, text, number, told):
    monkeypatch.setattr(listener_errors, "read_file", lambda _: b"1024\n")
    monkeypatch.setattr(listener_errors, "_user", lambda: "web")
    error = listener_errors.listen_error(parse_bind(text), OSError(number, os.strerror(number)))
    assert (error.message, error.hint, error.code) == told


def test_an_address_of_another_machine_is_refused():
    address = parse_bind(f"{TEST_NET}:8000")
    assert refusal(lambda: claim(address)).code == "OX483"
    assert refusal(lambda: open_listener(address, reuse_port=True)).code == "OX483"


def test_a_zone_that_is_not_there_is_refused():
    assert refusal(lambda: claim(parse_bind("[fe80::1%nowhere9]:8000"))).code == "OX483"


@needs_root
def test_a_privileged_port_is_refused_to_who_is_not_root():
    # The kernel of a container may give every port to everybody.
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    os.seteuid(65534)
    try:
        if first > 81:
            assert refusal(lambda: claim(parse_bind("127.0.0.1:81"))).code == "OX482"
        else:
            claim(parse_bind("127.0.0.1:81"))
    finally:
        os.seteuid(0)


def test_without_descriptors_it_is_said(address, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_fds()) + 1, hard))
    fillers = []
    try:
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.open("/dev/null", os.O_RDONLY))
        for action in (
            lambda: claim(address),
            lambda: open_listener(address, reuse_port=True),
            lambda: open_listener(Address(path=str(tmp_path / "s")), reuse_port=True),
            lambda: open_private(str(tmp_path), "s"),
        ):
            assert refusal(action).code == "OX485"
    finally:
        for fd in fillers:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# -- unix sockets -----------------------------------------------------------------------------------------------------


def test_a_path_that_is_too_long_is_refused():
    path = "/tmp/" + "x" * 103
    error = refusal(lambda: parse_bind(f"unix:{path}"))
    assert error.message == (f"cannot listen on unix:{path}: the path has 108 bytes, and a unix socket's at most 107")
    assert error.hint == "put the socket into a directory with a short name, such as /run/NAME"
    assert parse_bind(f"unix:{path[:-1]}").path == path[:-1]


def test_a_directory_that_is_not_there_is_named(tmp_path):
    address = Address(path=str(tmp_path / "no" / "app.sock"))
    claim(address)
    assert refusal(lambda: open_listener(address, reuse_port=False)).message.endswith(
        f"there is no directory {tmp_path / 'no'}"
    )


def test_a_stale_socket_is_removed(kept, tmp_path):
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
        stale.listen()
    claim(Address(path=path))
    kept(open_listener(Address(path=path), reuse_port=False))


def test_a_file_is_never_removed(tmp_path):
    path = tmp_path / "app.sock"
    path.write_text("precious")
    error = refusal(lambda: claim(Address(path=str(path))))
    assert error.message.endswith("the path is there already, and is no socket")
    assert path.read_text() == "precious"


@pytest.mark.parametrize(
    "listen", ["s.listen()", "s.listen(0); c = socket.socket(socket.AF_UNIX); c.connect(path)", ""]
)
def test_a_socket_somebody_has_is_never_removed(tmp_path, listen):
    """It listens; its queue is full; it is bound and will listen."""
    path = str(tmp_path / "app.sock")
    with stranger(f"path = {path!r}; s = socket.socket(socket.AF_UNIX); s.bind(path); {listen}") as child:
        error = refusal(lambda: claim(Address(path=path)))
        assert error.message == f"unix:{path} is in use by {said_of(child.pid)}"
        assert error.hint.endswith("or bind to another path")
        assert os.path.exists(path)


def test_an_accepted_connection_does_not_keep_a_path(kept, tmp_path):
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        kept(connect(path))
        kept(sock.accept()[0])
    claim(Address(path=path))
    assert not os.path.exists(path)


@needs_root
def test_a_stale_socket_of_another_user_is_never_removed(tmp_path):
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
    os.chown(path, 65534, -1)
    error = refusal(lambda: claim(Address(path=path)))
    assert error.message == f"cannot listen on unix:{path}: a socket of nobody is there already"
    assert error.hint == f"if nobody uses it any more, remove it: rm {path}"
    assert os.path.exists(path)


# -- the set ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def listener_set(kept):
    return lambda *texts, **options: kept(ListenerSet([parse_bind(text) for text in texts], **options))


def test_each_slot_has_a_listener_of_each_address_and_all_share_the_unix_socket(listener_set, tmp_path):
    port, path = free_port(), str(tmp_path / "app.sock")
    listeners = listener_set(f"127.0.0.1:{port}", f"[::1]:{port}", f"unix:{path}")
    assert len(listeners.ensure(2)) == 5
    for slot in (0, 1):
        pairs = listeners.of(slot)
        assert [key for key, _ in pairs] == [f"{slot}/127.0.0.1:{port}", f"{slot}/[::1]:{port}", f"-/unix:{path}"]
        assert [sock.getsockname()[:2] for _, sock in pairs[:2]] == [("127.0.0.1", port), ("::1", port)]
    assert listeners.of(0)[2][1] is listeners.of(1)[2][1]
    assert listeners.of(0)[0][1] is not listeners.of(1)[0][1]
    assert listeners.of(2) == [(f"-/unix:{path}", listeners.of(0)[2][1])]
    assert listeners.socket(f"1/[::1]:{port}") is listeners.of(1)[1][1]
    assert listeners.socket("7/nowhere") is None


def test_shared_is_one_listener_for_all(listener_set, address):
    listeners = listener_set(address.text, balance="shared")
    assert listeners.ensure(4) == (f"{SHARED}/{address.text}",)
    assert len({sock for slot in range(4) for _, sock in listeners.of(slot)}) == 1


def test_a_slot_queues_from_the_moment_it_listens_and_not_before(listener_set, kept, address):
    listeners = listener_set(address.text)
    listeners.ensure(2)
    with pytest.raises(ConnectionRefusedError):
        connect(address)
    listeners.listen(1)
    assert [listeners.listening(key) for key in listeners.keys()] == [False, True]  # noqa: SIM118
    clients = [kept(connect(address)) for _ in range(5)]
    assert listeners.queued() == {f"0/{address.text}": 0, f"1/{address.text}": 5}
    assert len(clients) == 5


def test_scaling_down_and_up_again_closes_and_opens_nothing(listener_set, address):
    listeners = listener_set(address.text)
    first = listeners.ensure(3)
    before = [listeners.socket(key) for key in first]
    assert listeners.ensure(1) == ()
    assert listeners.ensure(3) == ()
    assert [listeners.socket(key) for key in first] == before
    assert listeners.slots == 3
    assert listeners.ensure(4) == (f"3/{address.text}",)


def test_a_set_that_cannot_be_opened_whole_is_not_opened_at_all(listener_set, kept, address, tmp_path):
    path = tmp_path / "app.sock"
    taken = parse_bind(f"127.0.0.1:{free_port()}")
    kept(open_listener(taken, reuse_port=False)).listen()
    listeners = listener_set(address.text, f"unix:{path}", taken.text)
    assert refusal(lambda: listeners.ensure(2)).code == "OX481"
    assert listeners.keys() == ()
    assert listeners.slots == 0
    assert not path.exists()
    claim(address)


def test_what_changes_of_the_addresses_is_planned_and_done(listener_set, kept):
    a, b, c = (parse_bind(f"127.0.0.1:{free_port()}") for _ in range(3))
    listeners = listener_set(a.text, b.text)
    listeners.ensure(2)
    listeners.listen(0)
    kept_socket = listeners.of(0)[1][1]
    change = plan(listeners.addresses, (c, b, c))
    assert (change.kept, change.opened, change.closed) == ((b,), (c,), (a,))
    assert listeners.add(change.opened) == (f"0/{c.text}", f"1/{c.text}")
    assert [key for key, _ in listeners.of(1, (c, b))] == [f"1/{c.text}", f"1/{b.text}"], "the new generation's"
    assert len(listeners.of(1, (a, b))) == 2, "the old generation's"
    assert listeners.drop(change.closed) == (f"0/{a.text}", f"1/{a.text}")
    assert listeners.addresses == (b, c)
    assert listeners.of(0)[0][1] is kept_socket
    with pytest.raises(ConnectionRefusedError):
        connect(a)
    claim(a)


def test_slots_that_nobody_can_serve_any_more_are_given_up(listener_set, address, tmp_path):
    """What their queues hold is refused at once instead of never being answered; what is shared stays."""
    listeners = listener_set(address.text, f"unix:{tmp_path / 'app.sock'}")
    listeners.ensure(3)
    assert not listeners.shared
    assert listeners.trim(1) == (f"1/{address.text}", f"2/{address.text}")
    assert len(listeners.keys()) == 2
    assert listeners.slots == 1
    assert listeners.trim(1) == ()


def test_the_same_address_twice_is_one(listener_set, address):
    listeners = listener_set(address.text, f"localhost:{address.port}")
    assert len(listeners.ensure(1)) == 1


def test_a_unix_socket_is_removed_at_the_end_and_a_strangers_in_its_place_is_not(listener_set, kept, tmp_path):
    one, two = tmp_path / "one.sock", tmp_path / "two.sock"
    listeners = listener_set(f"unix:{one}", f"unix:{two}")
    listeners.ensure(1)
    two.unlink()
    kept(open_listener(Address(path=str(two)), reuse_port=False))
    listeners.close()
    assert not one.exists()
    assert two.exists()
    listeners.close()


def test_the_queue_can_be_made_longer_while_it_is_used(listener_set, kept, tmp_path):
    path = str(tmp_path / "app.sock")
    listeners = listener_set(f"unix:{path}", backlog=0)
    listeners.ensure(1)
    listeners.resize(0)
    assert not listeners.listening(f"-/unix:{path}")
    listeners.listen(0)
    kept(connect(path))
    client = kept(socket.socket(socket.AF_UNIX))
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.connect(path)
    listeners.resize(10)
    client.connect(path)
    assert listeners.queued() == {f"-/unix:{path}": 2}


def test_somebody_who_comes_between_is_told_of_when_it_listens(listener_set, kept, address):
    listeners = listener_set(address.text, balance="shared")
    listeners.ensure(1)
    rival = kept(open_listener(address, reuse_port=False))
    rival.listen()
    assert refusal(lambda: listeners.listen(0)).code == "OX481"


def test_listeners_of_an_earlier_supervisor_are_taken_over_with_their_queues(listener_set, kept, address, tmp_path):
    path = str(tmp_path / "app.sock")
    old = listener_set(address.text, f"unix:{path}")
    old.ensure(2)
    old.listen(0)
    client = kept(connect(address))
    descriptors = {key: os.dup(old.socket(key).fileno()) for key in old.keys()}  # noqa: SIM118
    for fd in descriptors.values():
        os.set_inheritable(fd, True)
    new = listener_set(address.text, f"unix:{path}")
    assert new.adopt(descriptors) == ()
    assert new.slots == 2
    assert new.ensure(2) == ()
    assert new.queued()[f"0/{address.text}"] == 1
    assert not any(os.get_inheritable(fd) for fd in descriptors.values())
    for listener in new.of(0):
        assert not listener[1].getblocking()
    assert new.ensure(3) == (f"2/{address.text}",)
    new.close()
    assert not os.path.exists(path), "it is the new one's to remove"
    del client


def test_what_does_not_fit_is_not_taken_over(listener_set, kept, address):
    other = parse_bind(f"127.0.0.1:{free_port()}")
    sock = kept(open_listener(other, reuse_port=True))
    pipe = os.pipe()
    new = listener_set(address.text)
    descriptors = {
        f"0/{other.text}": sock.fileno(),  # of no address of ours
        f"-/{address.text}": sock.fileno(),  # of another balance
        f"0/{address.text}": sock.fileno(),  # bound elsewhere
        f"1/{address.text}": pipe[0],  # no socket
        f"2/{address.text}": 1 << 20,  # closed
        f"x/{address.text}": sock.fileno(),  # no slot
    }
    assert new.adopt(descriptors) == tuple(descriptors)
    assert new.keys() == ()
    assert sock.fileno() >= 0
    for fd in pipe:
        os.close(fd)


# -- queues -----------------------------------------------------------------------------------------------------------


def test_the_queue_of_what_does_not_listen_is_empty(kept, address, tmp_path):
    assert queue_length(kept(open_listener(address, reuse_port=True))) == 0
    assert queue_length(kept(open_listener(Address(path=str(tmp_path / "s")), reuse_port=True))) == 0


def test_the_queue_shrinks_as_connections_are_accepted(kept, address, tmp_path):
    for where in (address, Address(path=str(tmp_path / "s"))):
        sock = kept(open_listener(where, reuse_port=True))
        sock.listen(10)
        for _ in range(3):
            kept(connect(where.path or where))
        assert queue_length(sock) == 3
        sock.setblocking(True)
        kept(sock.accept()[0])
        assert queue_length(sock) == 2


def test_a_kernel_that_does_not_tell_of_unix_sockets_is_believed(kept, tmp_path, monkeypatch):
    sock = kept(open_listener(Address(path=str(tmp_path / "s")), reuse_port=True))
    sock.listen()
    monkeypatch.setattr(listeners, "_NETLINK_SOCK_DIAG", 31)
    assert queue_length(sock) is None


# -- private listeners ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0, 1])
def test_a_private_listener_is_reached_however_long_its_path(kept, tmp_path, depth):
    folder = tmp_path.joinpath(*["d" * 100] * depth)
    folder.mkdir(exist_ok=True)
    sock, path = open_private(str(folder), "web-0-17.sock")
    assert path == str(folder / "web-0-17.sock")
    assert (len(path) > 107) == bool(depth)
    with within_reach(path) as short:
        kept(connect(short))
    assert queue_length(sock) == 1
    assert not sock.getblocking()
    close_private(sock, path)
    assert os.listdir(folder) == []
    close_private(sock, path)


def test_what_an_earlier_supervisor_left_behind_is_replaced(tmp_path):
    first, path = open_private(str(tmp_path), "web-0-1.sock")
    first.close()
    second, _ = open_private(str(tmp_path), "web-0-1.sock")
    close_private(second, path)


def test_a_private_listener_in_no_directory_is_refused(tmp_path):
    assert refusal(lambda: open_private(str(tmp_path / "no"), "web.sock")).code == "OX484"
    assert refusal(lambda: open_private(str(tmp_path / ("d" * 120)), "web.sock")).code == "OX484"


def test_private_sockets_nobody_listens_on_are_swept(tmp_path):
    """A supervisor that was killed leaves their files; those of a living one, beside it in the directory, stay."""
    dead, dead_path = listeners.open_private(str(tmp_path), "dead")
    living, living_path = listeners.open_private(str(tmp_path), "living")
    dead.close()
    listeners.sweep_private(str(tmp_path))
    assert not os.path.exists(dead_path)
    assert os.path.exists(living_path)
    listeners.close_private(living, living_path)
    listeners.sweep_private(str(tmp_path / "nowhere"))
