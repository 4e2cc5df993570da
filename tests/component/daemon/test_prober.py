"""The prober over real sockets and virtual time."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import NamedTuple

import pytest

from oxherd.config.model import HealthSpec
from oxherd.core.endpoint import Address
from oxherd.core.health import Check, Verdict
from oxherd.daemon import probes_tcp
from oxherd.daemon.probe import ProbeContext, ProbeResult
from oxherd.daemon.prober import Prober
from oxherd.daemon.probes_tcp import Dial
from oxherd.daemon.resolver import Resolver, known_addresses
from oxherd.system.listeners import close_private, open_private, within_reach
from support.fake_loop import FakeLoop
from support.servers import Server, answer, closes, free_port, hangs, says, trickles
from support.waiting import wait_until


class Report(NamedTuple):
    key: object
    verdict: Verdict
    result: ProbeResult


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


class Bench:
    """A prober, its loop, and what it said."""

    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.reports: list[Report] = []
        self.troubles: list[str] = []
        self.chances: list[float] = []
        self.lookup = lambda host, port: [(socket.AF_INET, ("127.0.0.1", port))]
        self.resolver = Resolver(self.loop, self._look_up)
        self.prober = Prober(
            loop=self.loop,
            helpers=None,  # no probe of this file runs a command
            report=lambda *report: self.reports.append(Report(*report)),
            trouble=self.troubles.append,
            chance=lambda: self.chances.pop(0) if self.chances else 0.5,
            resolver=self.resolver,
        )

    def _look_up(self, host, port):
        return self.lookup(host, port)

    def watch(self, key="web", *, ready=False, instance=0, private=None, lifelong=False, **health) -> None:
        spec = HealthSpec(**health)
        context = ProbeContext(instance=instance)
        self.prober.watch(key, spec, context, self.loop.now(), ready=ready, private=private, lifelong=lifelong)

    def next_report(self, wait: float = 0.1) -> Report:
        """Let time pass until a probe begins, then serve sockets until its result is there."""
        count = len(self.reports)
        self.loop.advance(wait)
        self.loop.run_until(lambda: len(self.reports) > count)
        return self.reports[count]


@pytest.fixture
def bench():
    before = open_fds()
    bench = Bench()
    yield bench
    bench.prober.close()
    assert bench.loop.watched == frozenset()
    assert bench.loop.timers == 0
    bench.loop.close()
    assert open_fds() <= before


@pytest.fixture
def serve():
    """Start servers that are ended before the bench counts descriptors."""
    servers: list[Server] = []

    def start(behaviour, **options) -> Server:
        server = Server(behaviour, **options)
        server.__enter__()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.__exit__()


# -- http -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "passes"), [(200, True), (204, True), (301, True), (399, True), (400, False), (404, False), (503, False)]
)
def test_2xx_and_3xx_pass_and_the_text_names_status_and_place(bench, serve, status, passes):
    server = serve(answer(status, b""))
    url = f"http://127.0.0.1:{server.port}/health"
    bench.watch(endpoint=url)
    report = bench.next_report()
    assert report.result == ProbeResult(ok=passes, detail=f"HTTP {status} from {url} in 0 ms", seconds=0.0)
    assert report.verdict is (Verdict.READY if passes else Verdict.NONE)


def test_a_redirect_is_not_followed(bench, serve):
    server = serve(says(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"))
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/")
    assert bench.next_report().result.ok
    assert len(server.requests) == 1


def test_the_request_is_a_plain_get_on_a_connection_of_its_own(bench, serve):
    server = serve(answer(200))
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/a b?x=1#top")
    bench.next_report()
    head, *lines = server.requests[0].decode().strip().split("\r\n")
    assert head == "GET /a%20b?x=1 HTTP/1.1"
    assert {line.lower() for line in lines} == {
        f"host: 127.0.0.1:{server.port}",
        "user-agent: oxherd-health-check",
        "accept: */*",
        "connection: close",
    }


def test_a_password_in_the_url_is_sent_and_never_told(bench, serve):
    server = serve(answer(503, b""))
    bench.watch(endpoint=f"http://ops:s3cret@127.0.0.1:{server.port}/")
    report = bench.next_report()
    assert b"Authorization: Basic b3BzOnMzY3JldA==" in server.requests[0]
    assert report.result.detail == f"HTTP 503 from http://ops:***@127.0.0.1:{server.port}/ in 0 ms"


def test_a_body_without_end_is_read_as_far_as_its_status_needs(bench, serve):
    def endless(connection, _request):
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    server = serve(endless)
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/")
    assert bench.next_report().result.ok


@pytest.mark.parametrize(
    "behaviour",
    [
        pytest.param(answer(200, b"x" * 1000, length=False), id="body ended by the end of the connection"),
        pytest.param(answer(200, b"x" * 5_000_000), id="body longer than is read"),
        pytest.param(answer(200, b"x" * 5_000_000, length=False), id="long body without a length"),
        pytest.param(
            trickles(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), id="bytes"
        ),
        pytest.param(says(b"HTTP/1.0 200 OK\r\n\r\nok"), id="HTTP/1.0"),
        pytest.param(says(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), id="103"),
    ],
)
def test_every_shape_of_a_good_answer_passes(bench, serve, behaviour):
    server = serve(behaviour)
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/")
    assert bench.next_report().result.ok


@pytest.mark.parametrize(
    ("behaviour", "text"),
    [
        (closes, "the connection was closed without an answer"),
        (
            says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"),
            "HTTP 200, but the connection was closed within the answer",
        ),
        (says(b"220 smtp.example ESMTP\r\n"), "the answer is not HTTP"),
        (says(b"\x00\xff" * 50_000), "the answer is not HTTP"),
    ],
)
def test_every_shape_of_a_bad_answer_fails_with_its_reason(bench, serve, behaviour, text):
    server = serve(behaviour)
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/")
    result = bench.next_report().result
    assert not result.ok
    assert result.detail.startswith(f"http://127.0.0.1:{server.port}/: {text}")


def test_nobody_listening_is_connection_refused(bench):
    port = free_port()
    bench.watch(endpoint=f"http://localhost:{port}/health")
    result = bench.next_report().result
    assert result.detail == f"http://localhost:{port}/health: connection refused"
    assert not result.ok


def test_an_answer_that_does_not_come_is_a_failure_at_the_timeout(bench, serve):
    server = serve(hangs)
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/", timeout=5.0)
    bench.loop.advance(0.1)
    bench.loop.run_until(lambda: server.requests)
    bench.loop.advance(4.999)
    assert bench.reports == []
    bench.loop.advance(0.001)
    assert bench.reports[0].result.detail == f"no answer from http://127.0.0.1:{server.port}/ within 5 s"
    assert bench.reports[0].result.seconds == pytest.approx(5.0)


def test_an_answer_that_does_not_end_is_a_failure_at_the_timeout(bench, serve):
    def begins(connection, _request):
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
        hangs(connection, b"")

    server = serve(begins)
    url = f"http://127.0.0.1:{server.port}/"
    bench.watch(endpoint=url)
    bench.loop.advance(0.1)
    bench.loop.run_until(lambda: "HTTP 200" in bench.prober._watched["web", Check.LIVENESS].probe.missing)
    bench.loop.advance(5.0)
    assert bench.reports[0].result.detail == f"HTTP 200 from {url} but no end of the answer within 5 s"


def test_tls_is_spoken_without_asking_whose_certificate_it_is(bench, serve):
    server = serve(answer(200), tls=True)
    url = f"https://localhost:{server.port}/health"
    bench.watch(endpoint=url)
    assert bench.next_report().result.detail == f"HTTP 200 from {url} in 0 ms"


def test_a_long_answer_over_tls_is_read_to_its_end(bench, serve):
    server = serve(answer(200, b"x" * 60_000), tls=True)
    bench.watch(endpoint=f"https://127.0.0.1:{server.port}/")
    assert bench.next_report().result.ok


def test_https_to_a_server_without_tls_says_so(bench):
    with socket.create_server(("127.0.0.1", 0)) as plain:
        port = plain.getsockname()[1]
        bench.watch(endpoint=f"https://127.0.0.1:{port}/")
        bench.loop.advance(0.1)
        connection, _ = plain.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            bench.loop.run_until(lambda: bench.reports)
    assert bench.reports[0].result.detail.startswith(f"https://127.0.0.1:{port}/: TLS failed: ")


def test_a_unix_socket_is_asked_by_either_spelling(bench, serve, tmp_path):
    path = str(tmp_path / "app.sock")
    server = serve(answer(200), path=path)
    bench.watch("a", endpoint=f"unix:{path}:/health")
    assert bench.next_report().result.ok
    bench.watch("b", endpoint=f"http+unix://{path.replace('/', '%2F')}/health")
    assert bench.next_report().result.ok
    assert [request.split(b"\r\n")[0] for request in server.requests] == [b"GET /health HTTP/1.1"] * 2


def test_a_unix_socket_that_is_not_there_fails(bench, tmp_path):
    bench.watch(tcp=f"unix:{tmp_path}/app.sock")
    assert bench.next_report().result.detail == f"unix:{tmp_path}/app.sock: no such file or directory"


def test_the_slot_stands_for_instance_in_the_url(bench, serve):
    server = serve(answer(200))
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/{{instance}}/health", instance=3)
    assert "/3/health" in bench.next_report().result.detail


def test_a_port_that_only_the_slot_makes_wrong_fails_with_its_reason(bench):
    bench.watch(endpoint="http://localhost:80{instance}00/", instance=12)
    bench.loop.advance(0.1)
    assert bench.reports[0].result.detail.startswith("cannot be probed: expected a URL such as")


# -- tcp and names --------------------------------------------------------------------------------------------------


def test_tcp_passes_when_the_connection_opens(bench, serve):
    server = serve(hangs)
    bench.watch(tcp=f"localhost:{server.port}")
    report = bench.next_report()
    assert report.result.detail == f"connected to localhost:{server.port} in 0 ms"
    assert report.verdict is Verdict.READY


def test_tcp_fails_when_nobody_listens(bench):
    port = free_port()
    bench.watch(tcp=f"127.0.0.1:{port}")
    assert bench.next_report().result.detail == f"127.0.0.1:{port}: connection refused"


def test_the_next_address_is_tried_when_one_refuses(bench, serve):
    server = serve(hangs)
    bench.lookup = lambda _host, port: [(socket.AF_INET, ("127.0.0.2", port)), (socket.AF_INET, ("127.0.0.1", port))]
    bench.watch(tcp=f"db.example:{server.port}")
    assert bench.next_report().result.ok


def test_of_several_refusals_the_first_is_told(bench):
    bench.lookup = lambda _host, _port: [(socket.AF_INET, ("127.0.0.1", 1)), (socket.AF_UNIX, "/nowhere/at/all")]
    bench.watch(tcp="db.example:1")
    assert bench.next_report().result.detail == "db.example:1: connection refused"


def test_a_name_that_is_not_known_is_said_to_be(bench):
    def unknown(_host, _port):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    bench.lookup = unknown
    bench.watch(tcp="db.example:5432")
    expected = "db.example:5432: could not look up db.example: name or service not known"
    assert bench.next_report().result.detail == expected


def test_a_name_server_that_hangs_delays_nothing_and_is_asked_once(bench, serve):
    asked: list[str] = []
    release = threading.Event()

    def hanging(host, port):
        asked.append(host)
        release.wait(30)
        return [(socket.AF_INET, ("127.0.0.1", port))]

    server = serve(answer(200))
    bench.lookup = hanging
    try:
        for key in range(5):
            bench.watch(key, tcp="db.example:5432")
        bench.watch("web", endpoint=f"http://localhost:{server.port}/")
        report = bench.next_report()
        assert (report.key, report.result.ok) == ("web", True)
        bench.loop.advance(5.0)
        texts = {report.result.detail for report in bench.reports if report.key != "web"}
        assert texts == {"no address for db.example within 5 s"}
        assert asked == ["db.example"]
    finally:
        release.set()
        bench.loop.run_until(lambda: not bench.resolver._questions)


def test_an_answer_may_make_another_one_unwanted(bench):
    bench.lookup = lambda _host, _port: []
    bench.prober._report = lambda *report: (bench.reports.append(Report(*report)), bench.prober.forget("b"))
    bench.watch("a", tcp="db.example:1")
    bench.watch("b", tcp="db.example:1")
    bench.next_report()
    assert [report.key for report in bench.reports] == ["a"]
    assert bench.reports[0].result.detail == "db.example:1: could not look up db.example: it has no address"


@pytest.mark.parametrize(
    ("address", "known"),
    [
        (Address(host="localhost", port=1), [(socket.AF_INET, ("127.0.0.1", 1)), (socket.AF_INET6, ("::1", 1, 0, 0))]),
        (Address(host="LOCALHOST.", port=1), [(socket.AF_INET, ("127.0.0.1", 1)), (socket.AF_INET6, ("::1", 1, 0, 0))]),
        (Address(host="10.0.0.1", port=2), [(socket.AF_INET, ("10.0.0.1", 2))]),
        (Address(host="fe80::1%1", port=3), [(socket.AF_INET6, ("fe80::1", 3, 0, 1))]),
        (Address(host="fe80::1%nosuchcard", port=3), [(socket.AF_INET6, ("fe80::1", 3, 0, 0))]),
        (Address(path="/run/a.sock"), [(socket.AF_UNIX, "/run/a.sock")]),
        (Address(host="db.example", port=4), None),
    ],
)
def test_what_needs_no_lookup_gets_none(address, known):
    assert known_addresses(address) == known


def test_a_connection_to_itself_is_no_connection(bench, monkeypatch):
    """A connect to an unused ephemeral port may be given that port as its own: the kernel then connects it to itself."""
    port = free_port()

    class Bound(socket.socket):
        def connect_ex(self, address):
            self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.bind(address)
            return super().connect_ex(address)

    monkeypatch.setattr(probes_tcp.socket, "socket", Bound)
    bench.watch(tcp=f"127.0.0.1:{port}")
    assert bench.next_report().result.detail == f"127.0.0.1:{port}: connection refused"


def test_a_unix_socket_with_a_full_backlog_is_tried_again(bench, tmp_path):
    path = str(tmp_path / "busy.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(0)
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(path)
            opened: list[socket.socket] = []
            dial = Dial(bench.loop, bench.resolver, Address(path=path), opened=opened.append, failed=pytest.fail)
            dial.start()
            bench.loop.advance(0.2)
            assert opened == []
            accepted, _ = listener.accept()
            bench.loop.advance(0.05)
            bench.loop.run_until(lambda: opened)
            accepted.close()
            opened[0].close()


# -- many, ended, short of something ----------------------------------------------------------------------------------


def test_two_hundred_probes_that_hang_end_at_their_timeout_and_leak_nothing(bench, serve):
    server = serve(hangs)
    before = open_fds()
    for key in range(200):
        bench.watch(key, endpoint=f"http://127.0.0.1:{server.port}/", timeout=2.0)
    bench.watch("tcp", tcp=f"127.0.0.1:{server.port}")
    assert bench.next_report().key == "tcp"
    bench.loop.run_until(lambda: len(server.requests) == 200)
    assert len(bench.loop.watched) == 200
    bench.loop.advance(2.0)
    hung = [report for report in bench.reports if report.key != "tcp"]
    assert len(hung) == 200
    assert not any(report.result.ok for report in hung)
    assert bench.loop.watched == frozenset()
    # What is left is the server's own: one descriptor for each connection it has not seen the end of.
    assert len(open_fds() - before) <= 201


def test_a_forgotten_probe_reports_nothing_and_closes(bench, serve):
    server = serve(hangs)
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/")
    bench.loop.advance(0.1)
    bench.loop.run_until(lambda: server.requests)
    bench.prober.forget("web")
    bench.prober.forget("web")
    assert bench.loop.watched == frozenset()
    assert bench.loop.timers == 0
    bench.loop.advance(100.0)
    assert bench.reports == []
    assert bench.prober.word("web") is None


def test_watching_again_under_the_same_key_starts_anew(bench, serve):
    server = serve(answer(200))
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/")
    bench.next_report()
    assert bench.prober.word("web") == "healthy"
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/")
    assert bench.prober.word("web") is None
    assert bench.next_report().verdict is Verdict.READY


def test_a_report_may_forget_the_process_it_is_about(bench, serve):
    server = serve(answer(200))
    bench.prober._report = lambda *report: (bench.reports.append(Report(*report)), bench.prober.forget("web"))
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/")
    bench.next_report()
    assert bench.loop.timers == 0


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_a_machine_without_descriptors_condemns_nobody_and_is_told_once(bench, serve, monkeypatch, number):
    server = serve(answer(200))
    real = socket.socket

    def exhausted(*_args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(probes_tcp.socket, "socket", exhausted)
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/", interval=1.0, grace=0.0, unhealthy_threshold=1)
    bench.loop.advance(60.0)
    assert bench.reports == []
    assert bench.troubles == [
        f"health checks cannot be made: http://127.0.0.1:{server.port}/: could not open a socket: "
        + os.strerror(number).lower()
    ]
    monkeypatch.setattr(probes_tcp.socket, "socket", real)
    assert bench.next_report(1.0).verdict is Verdict.READY


def test_a_lookup_without_descriptors_or_threads_condemns_nobody(bench):
    def no_threads(_address, _answer):
        raise RuntimeError("can't start new thread")

    bench.resolver.ask = no_threads
    bench.watch(tcp="db.example:1")
    bench.loop.advance(1.0)
    assert bench.reports == []
    assert bench.troubles == [
        "health checks cannot be made: db.example:1: could not look up db.example: there can be no more threads"
    ]


# -- when, and what it means ------------------------------------------------------------------------------------------


def test_verdicts_follow_the_answers(bench, serve):
    server = serve(closes)
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/", interval=10.0, healthy_threshold=2, unhealthy_threshold=2)
    assert bench.next_report().verdict is Verdict.NONE
    server.behaviour = answer(200)
    assert bench.next_report().verdict is Verdict.NONE
    assert bench.prober.word("web") is None
    assert bench.next_report().verdict is Verdict.READY
    server.behaviour = answer(500)
    assert bench.next_report(10.0).verdict is Verdict.NONE
    assert bench.prober.word("web") == "failing"
    assert bench.next_report(10.0).verdict is Verdict.UNHEALTHY
    assert bench.prober.word("web") == "unhealthy"
    server.behaviour = answer(200)
    assert bench.next_report(10.0).verdict is Verdict.NONE
    assert bench.next_report(10.0).verdict is Verdict.RECOVERED
    assert bench.prober.word("web") == "healthy"
    assert bench.prober.last("web") == bench.reports[-1].result


def test_once_ready_it_is_probed_at_the_interval_from_start_to_start(bench, serve):
    server = serve(answer(200))
    bench.chances = [0.999999]
    bench.watch(endpoint=f"http://127.0.0.1:{server.port}/", interval=30.0)
    bench.next_report()
    assert bench.loop.next_timer_in() == pytest.approx(30.0, abs=0.01)
    server.behaviour = hangs
    bench.loop.advance(30.0)
    bench.loop.run_until(lambda: len(server.requests) == 2)
    bench.loop.advance(5.0)
    assert bench.loop.next_timer_in() == pytest.approx(25.0, abs=0.01)


def test_a_hundred_that_become_ready_together_are_not_probed_together(bench, serve):
    server = serve(answer(200))
    bench.chances = [index / 100 for index in range(100)]
    for key in range(100):
        bench.watch(key, tcp=f"127.0.0.1:{server.port}", interval=30.0)
    bench.loop.advance(0.1)
    bench.loop.run_until(lambda: len(bench.reports) == 100)
    due = sorted(watched.timer.when - bench.loop.now() for watched in bench.prober._watched.values())
    assert due[0] == pytest.approx(15.0)
    assert due[-1] < 30.0
    assert len(set(due)) == 100


def test_adopted_ones_that_were_ready_are_spread_over_an_interval(bench):
    bench.chances = [0.0, 0.25, 0.5, 0.75]
    for key in range(4):
        bench.watch(key, tcp="127.0.0.1:1", interval=40.0, ready=True)
    assert sorted(watched.timer.when - bench.loop.now() for watched in bench.prober._watched.values()) == [
        0,
        10,
        20,
        30,
    ]


def test_two_hundred_that_start_together_share_their_fast_probes(bench):
    port = free_port()
    for key in range(200):
        bench.watch(key, tcp=f"127.0.0.1:{port}")
    bench.loop.advance(0.1)
    bench.loop.run_until(lambda: len(bench.reports) == 200)
    assert bench.loop.next_timer_in() == pytest.approx(1.0)
    for key in range(1, 200):
        bench.prober.forget(key)
    bench.next_report(1.0)
    assert bench.loop.next_timer_in() == pytest.approx(0.1)


def test_a_readiness_url_alone_is_asked_until_it_passes_and_never_condemns(bench, serve):
    server = serve(answer(503))
    bench.watch(readiness=f"http://127.0.0.1:{server.port}/ready", interval=1.0, grace=0.0, unhealthy_threshold=1)
    for _ in range(5):
        assert bench.next_report(1.0).verdict is Verdict.NONE
    server.behaviour = answer(200)
    assert bench.next_report(1.0).verdict is Verdict.READY
    assert bench.loop.timers == 0


# -- the socket of one worker ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_url_is_asked_on_the_workers_own_socket_with_everything_it_says(bench, serve, tmp_path, scheme):
    """The public port is somebody else's: the answer has to come from the private socket."""
    stranger = serve(answer(503))
    path = str(tmp_path / "web-0.sock")
    server = serve(answer(200), path=path, tls=scheme == "https")
    url = f"{scheme}://localhost:{stranger.port}/health?deep=1"
    bench.watch(endpoint=url, private=path)
    report = bench.next_report()
    assert report.result == ProbeResult(ok=True, detail=f"HTTP 200 from {url} in 0 ms", seconds=0.0)
    assert stranger.requests == []
    head, *lines = server.requests[0].decode().strip().split("\r\n")
    assert head == "GET /health?deep=1 HTTP/1.1"
    assert f"Host: localhost:{stranger.port}" in lines


def test_a_name_in_the_url_is_not_looked_up_where_a_worker_has_its_own_socket(bench, serve, tmp_path):
    def refuse(*_):
        raise AssertionError("it was looked up")

    bench.lookup = refuse
    path = str(tmp_path / "web-0.sock")
    server = serve(answer(200), path=path)
    bench.watch(endpoint="http://app.example/health", private=path)
    assert bench.next_report().result.ok
    assert b"Host: app.example\r\n" in server.requests[0]


def test_a_tcp_check_connects_to_the_workers_own_socket(bench, serve, tmp_path):
    path = str(tmp_path / "web-0.sock")
    serve(hangs, path=path)
    bench.watch(tcp=f"127.0.0.1:{free_port()}", private=path)
    assert bench.next_report().result.detail == f"connected to unix:{path} in 0 ms"


def test_a_private_socket_is_reached_however_long_its_path(bench, serve, tmp_path):
    folder = tmp_path / ("d" * 120)
    folder.mkdir()
    path = str(folder / "web-0.sock")
    with within_reach(path) as short:
        serve(answer(200), path=short)
    before = open_fds()
    bench.watch(endpoint="http://localhost:8000/", private=path)
    assert bench.next_report().result.ok
    bench.prober.forget("web")
    # The server's own end of the connection is a descriptor of this process too, and closed by a thread.
    wait_until(lambda: open_fds() <= before, lambda: f"{open_fds()} to be {before}")


@pytest.mark.parametrize("folder", ["", "d" * 120])
def test_a_private_socket_that_is_not_there_is_said_to_be_what_is_missing(bench, tmp_path, folder):
    bench.watch(endpoint="http://localhost:8000/", private=str(tmp_path / folder / "web-0.sock"))
    assert bench.next_report().result.detail == (
        "http://localhost:8000/ on the worker's own socket: no such file or directory"
    )


def test_a_worker_that_does_not_take_its_connections_is_said_not_to(bench, tmp_path):
    listener, path = open_private(str(tmp_path), "web-0.sock")
    listener.listen(0)
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(path)
        bench.watch(endpoint="http://localhost:8000/", private=path)
        bench.loop.advance(6.0)
    assert (
        bench.reports[0].result.detail
        == "no connection to http://localhost:8000/ on the worker's own socket within 5 s"
    )
    close_private(listener, path)


# -- readiness for life ----------------------------------------------------------------------------------------------


def test_readiness_and_liveness_are_asked_on_their_own_and_told_apart(bench, serve):
    live, ready = serve(answer(200)), serve(answer(503))
    bench.watch(
        endpoint=f"http://127.0.0.1:{live.port}/health", readiness=f"http://127.0.0.1:{ready.port}/ready", lifelong=True
    )
    assert bench.prober.ready("web") is False
    bench.loop.advance(0.1)
    bench.loop.run_until(lambda: len(bench.reports) == 2)
    assert {(report.result.check, report.verdict) for report in bench.reports} == {
        (Check.LIVENESS, Verdict.READY),
        (Check.READINESS, Verdict.NONE),
    }
    assert bench.prober.ready("web") is False, "one of two is not enough"
    assert bench.prober.word("web") == "healthy"
    assert bench.prober.last("web").detail == f"HTTP 200 from http://127.0.0.1:{live.port}/health in 0 ms"
    assert bench.prober.last("web", Check.READINESS).ok is False
    ready.behaviour = answer(200)
    report = bench.next_report()
    assert (report.result.check, report.verdict) == (Check.READINESS, Verdict.READY)
    assert bench.prober.ready("web") is True


def test_readiness_comes_and_goes_and_condemns_nobody(bench, serve):
    """Out of the traffic within three seconds of the first failure, in again a second after it is well."""
    server = serve(answer(200))
    bench.watch(readiness=f"http://127.0.0.1:{server.port}/", interval=30.0, unhealthy_threshold=3, lifelong=True)
    bench.chances = [1.0]
    verdicts = [bench.next_report().verdict]
    server.behaviour = answer(503)
    verdicts += [bench.next_report(wait).verdict for wait in (30.0, 1.0, 1.0)]
    assert bench.prober.ready("web") is False
    assert bench.prober.word("web") == "failing"
    verdicts += [bench.next_report(1.0).verdict for _ in range(5)]
    server.behaviour = answer(200)
    bench.chances = [1.0]
    verdicts.append(bench.next_report(1.0).verdict)
    assert bench.prober.ready("web") is True
    assert bench.prober.word("web") == "healthy"
    server.behaviour = answer(503)
    verdicts += [bench.next_report(wait).verdict for wait in (30.0, 1.0, 1.0)]
    none = Verdict.NONE
    assert verdicts == [
        Verdict.READY,
        *(none, none, Verdict.NOT_READY),
        *(none,) * 5,
        Verdict.READY,
        *(none, none, Verdict.NOT_READY),
    ]
    assert {report.result.check for report in bench.reports} == {Check.READINESS}


def test_liveness_condemns_while_readiness_is_lost(bench, serve):
    live, ready = serve(answer(200)), serve(answer(200))
    bench.watch(
        endpoint=f"http://127.0.0.1:{live.port}/",
        readiness=f"http://127.0.0.1:{ready.port}/",
        interval=1.0,
        unhealthy_threshold=2,
        lifelong=True,
    )
    bench.chances = [1.0, 1.0]
    bench.loop.advance(0.1)
    bench.loop.run_until(lambda: len(bench.reports) == 2)
    live.behaviour = ready.behaviour = answer(500)
    for count in (4, 6):
        bench.loop.advance(1.0)
        bench.loop.run_until(lambda count=count: len(bench.reports) == count)
    assert {(report.result.check, report.verdict) for report in bench.reports[4:]} == {
        (Check.LIVENESS, Verdict.UNHEALTHY),
        (Check.READINESS, Verdict.NOT_READY),
    }
    assert bench.prober.word("web") == "unhealthy"


def test_forgetting_ends_both_checks(bench, serve):
    server = serve(hangs)
    url = f"http://127.0.0.1:{server.port}/"
    bench.watch(endpoint=url, readiness=url, lifelong=True)
    bench.loop.advance(0.1)
    bench.loop.run_until(lambda: len(server.requests) == 2)
    bench.prober.forget("web")
    assert bench.loop.timers == 0
    assert bench.prober.word("web") is None
    assert bench.prober.last("web") is None
    assert bench.prober.ready("web") is True


def test_readiness_that_comes_and_goes_slows_nobody_down(bench, serve):
    """The ones that start share a budget of fast probes; one that was ready is no more among them."""
    server = serve(answer(200))
    bench.watch(
        "flaps", readiness=f"http://127.0.0.1:{server.port}/", interval=1.0, unhealthy_threshold=1, lifelong=True
    )
    for status in (200, 503, 200, 503, 200):
        server.behaviour = answer(status)
        bench.chances = [1.0]
        bench.next_report(1.0)
    assert bench.prober._starting == 0
    bench.prober.forget("flaps")
    assert bench.prober._starting == 0


def test_readiness_beside_another_check_is_not_asked_of_a_program_that_is_run_as_it_is(bench, serve):
    live, ready = serve(answer(200)), serve(answer(200))
    bench.watch(endpoint=f"http://127.0.0.1:{live.port}/", readiness=f"http://127.0.0.1:{ready.port}/")
    assert bench.next_report().verdict is Verdict.READY
    assert ready.requests == []
    assert bench.prober.ready("web") is True


def test_a_readiness_url_alone_says_which_check_it_is(bench, serve):
    server = serve(answer(200))
    bench.watch(readiness=f"http://127.0.0.1:{server.port}/")
    assert bench.next_report().result.check is Check.READINESS
    assert bench.loop.timers == 0


def test_an_adopted_worker_can_lose_its_readiness_first(bench, serve):
    server = serve(answer(503))
    bench.watch(
        readiness=f"http://127.0.0.1:{server.port}/", interval=10.0, unhealthy_threshold=1, lifelong=True, ready=True
    )
    assert bench.prober.ready("web") is True
    assert bench.next_report(5.0).verdict is Verdict.NOT_READY
