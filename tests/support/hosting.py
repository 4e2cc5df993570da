"""Hosted workers and zygotes as the supervisor drives them, for tests: real processes, real descriptors, the real wire.

A `HostedWorker` is one worker. Made by itself it is exec'd; made by `HostedZygote.fork` it is forked::

    with HostedWorker(job("uvicorn", target="main:app", cwd=folder)) as worker:
        worker.wait("started")                    # or worker.started(): the message
        with listener() as public:                # a TCP listener as the supervisor makes it
            worker.accept("web:0", public)        # sends it and waits for `accepting`
            answer = worker.request("/", to=public)
            worker.release("web:0")               # waits for `released`
        worker.request("/health")                 # without `to`: over the private listener
        worker.drain()                            # SIGTERM
        assert worker.exit_code() == 0            # waits

What every test may ask: ``worker.messages`` (all so far), ``worker.wait(kind, **fields)`` (the first that fits, waited
for), ``worker.read_meters()``, ``worker.dump_text()``, ``worker.output()`` (what it wrote to stdout and stderr),
``worker.pid``, ``worker.signal(number)``, ``worker.hang_up()`` (the supervisor's end is closed: it has died).
`job` fills in what a job needs; ``connect`` opens a connection whose requests are sent one by one (`Client`).

Nothing here waits for longer than the deadline of `support.waiting`, and leaving the block ends what was started.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import oxherd.host
from oxherd.host.meters import SIZE, Meters, Reading
from oxherd.host.wire import FDS, LIMIT, decode, encode
from oxherd.system.door import Door
from support.waiting import DEADLINE, Expiry, wait_until

if TYPE_CHECKING:
    from typing import Self

__all__ = ["APP_PYTHON", "Answer", "Client", "HostedWorker", "HostedZygote", "job", "listener"]

# The interpreter of the apps; set the variable to see the host run in another Python, or beside another uvicorn.
APP_PYTHON = os.environ.get("OXHERD_TEST_APP_PYTHON", sys.executable)

BOOT = str(Path(oxherd.host.__file__).parent / "boot.py")
Message = dict[str, Any]


def job(engine: str = "uvicorn", *, target: str = "main:app", cwd: object = ".", **fields: Any) -> Message:
    """Return a job object; times are short, so that a drain that waits for them shows."""
    return {
        "engine": engine,
        "source": "app",
        "argv": [],
        "target": target,
        "factory": False,
        "interface": "auto",
        "options": {},
        "cwd": str(cwd),
        "stack": "test",
        "process": "web",
        "generation": 1,
        "keepalive": 5.0,
        "graceful_timeout": 10.0,
        "linger": 7.0,
        "backlog": 128,
        "max_requests": 0,
        "max_requests_jitter": 0,
        "access_log": False,
        "log_level": None,
        "ssl_certfile": None,
        "ssl_keyfile": None,
        "preload": True,
        **fields,
    }


def listener(host: str = "127.0.0.1", *, listening: bool = True) -> socket.socket:
    """Return a TCP listener on a free port, made as the supervisor makes its own."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.bind((host, 0))
    if listening:
        made.listen(128)
    made.setblocking(False)
    return made


class Answer:
    """One HTTP answer: ``status``, ``body`` (text), ``headers`` (names in lower case)."""

    def __init__(self, response: HTTPResponse) -> None:
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read().decode("utf-8", "replace")

    @property
    def closes(self) -> bool:
        """Whether the server said that it closes the connection."""
        return self.headers.get("connection", "").lower() == "close"

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.headers} {self.body[:200]!r}>"


class Client:
    """One connection, kept alive; requests are sent one by one. ``send`` and ``answer`` are the halves of ``get``."""

    def __init__(self, address: object, timeout: float = DEADLINE) -> None:
        family = (
            socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if len(address) == 4 else socket.AF_INET
        )  # type: ignore[arg-type]
        self.socket = socket.socket(family)
        self.socket.settimeout(timeout)
        self.socket.connect(address)  # type: ignore[arg-type]
        self._connection = HTTPConnection("test.example", timeout=timeout)
        # A descriptor of its own: http.client closes it as soon as the server says that it will close.
        self._connection.sock = self.socket.dup()

    def send(self, path: str = "/", method: str = "GET", body: str | None = None, **headers: str) -> None:
        """Send a request; ``_`` in the names of headers stands for ``-``."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body, named)

    def answer(self) -> Answer:
        """Wait for the answer to what was sent. Raises RemoteDisconnected where the connection ends instead."""
        return Answer(self._connection.getresponse())

    def get(self, path: str = "/", **headers: str) -> Answer:
        """Send a GET and return the answer."""
        self.send(path, **headers)
        return self.answer()

    def ended(self) -> bool:
        """Wait until the server has closed the connection; False where something else came."""
        return self.socket.recv(1) == b""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Peer:
    """The supervisor's end of a channel."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.messages: list[Message] = []
        self.is_closed = False

    def tell(self, kind: str, fds: list[int] | None = None, **fields: object) -> None:
        """Send a message."""
        socket.send_fds(self.channel, [encode(kind, **fields)], fds or [])

    def wait(self, kind: str, *, after: int = 0, **fields: object) -> Message:
        """Return the first message of a kind with these fields from position ``after`` on, and wait for it.

        Descriptors that came with it are in its ``fds``.
        """
        expiry = Expiry()
        while True:
            for message in self.messages[after:]:
                if message["kind"] == kind and all(message.get(key) == value for key, value in fields.items()):
                    return message
            assert not self.is_closed, f"the channel was closed before {kind} {fields} came; {self.story()}"
            assert not expiry.over, f"{kind} {fields} did not come; {self.story()}"
            self._take(expiry.left)

    def wait_closed(self) -> None:
        """Wait until the other end is closed."""
        expiry = Expiry()
        while not self.is_closed:
            assert not expiry.over, f"the channel stays open; {self.story()}"
            self._take(expiry.left)

    def look(self) -> list[Message]:
        """Return all messages that have come."""
        while not self.is_closed and self._take(0):
            continue
        return self.messages

    def story(self) -> str:
        """Return what is known, for a failure."""
        return f"messages: {self.messages}"

    def hang_up(self) -> None:
        """Close the supervisor's end, as its death does."""
        self.channel.close()
        self.is_closed = True

    def _take(self, seconds: float) -> bool:
        readable, _, _ = select.select([self.channel], [], [], seconds)
        if not readable:
            return False
        try:
            packet, fds, _, _ = socket.recv_fds(self.channel, LIMIT, FDS)
        except ConnectionResetError:
            packet, fds = b"", []
        if not packet:
            self.is_closed = True
            return False
        self.messages.append({**decode(packet), "fds": fds})
        return True


class _Descriptors:
    """What a worker is given: private listener, meters, dump, log."""

    def __init__(self) -> None:
        self.folder = tempfile.mkdtemp(prefix="hosted-")
        self.private_path = f"{self.folder}/private"
        self.private = socket.socket(socket.AF_UNIX)
        self.private.bind(self.private_path)
        self.private.listen(64)
        self.private.setblocking(False)
        self.door = Door(self.folder, "door")
        self.meters_fd = os.memfd_create("meters")
        os.ftruncate(self.meters_fd, SIZE)
        self.dump = Path(self.folder, "dump").open("w+b")  # noqa: SIM115 - closed with the worker
        self.log = Path(self.folder, "log").open("w+b")  # noqa: SIM115 - closed with the worker
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def handed_over(self) -> None:
        """The worker has its own copies."""
        self.theirs.close()
        self.door.handed_over()

    def gifts(self) -> list[int]:
        return [self.private.fileno(), self.meters_fd, self.dump.fileno(), self.door.fileno()]

    def close(self) -> None:
        self.door.close()
        for one in (self.private, self.dump, self.log, self.ours, self.theirs):
            one.close()
        os.close(self.meters_fd)
        for path in Path(self.folder).iterdir():
            path.unlink()
        Path(self.folder).rmdir()


def _start(role: str, channel: socket.socket, log: Any, *, python: str, cwd: object, env: dict[str, str] | None) -> Any:
    channel.set_inheritable(True)
    return subprocess.Popen(
        [python, BOOT, role, str(channel.fileno()), " " * 200],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=str(cwd),
        env={**os.environ, **(env or {})},
        pass_fds=[channel.fileno()],
        start_new_session=True,
    )


class HostedWorker(_Peer):
    """A worker, exec'd; `HostedZygote.fork` makes forked ones.

    Args:
        job: What `job` returns.
        python: The app's interpreter.
        env: What is added to this process's environment.
        slot, incarnation, title: What the boot message says.
    """

    def __init__(
        self,
        job: Message,
        *,
        python: str = APP_PYTHON,
        env: dict[str, str] | None = None,
        slot: int = 0,
        incarnation: int = 1,
        title: str = "oxherd: test web:0",
        _born: tuple[HostedZygote, _Descriptors, int, int] | None = None,
    ) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.zygote: HostedZygote | None = None
        if _born is None:
            self._fds = _Descriptors()
            self.process = _start("worker", self._fds.theirs, self._fds.log, python=python, cwd=job["cwd"], env=env)
            self.pid = self.process.pid
            self.pidfd = os.pidfd_open(self.pid)
        else:
            self.zygote, self._fds, self.pid, self.pidfd = _born
        super().__init__(self._fds.ours)
        self.private_path, self.door_path = self._fds.private_path, self._fds.door.path
        self._code: int | None = None
        if _born is None:
            self.tell(
                "boot",
                self._fds.gifts(),
                job=job,
                slot=slot,
                incarnation=incarnation,
                title=title,
            )
        self._fds.handed_over()

    def started(self) -> Message:
        """Wait for ``started`` and return it."""
        return self.wait("started")

    def accept(self, key: str, listener: socket.socket) -> None:
        """Give it a listener and wait until it accepts."""
        after = len(self.look())
        self.tell("accept", [listener.fileno()], key=key)
        self.wait("accepting", after=after, key=key)

    def release(self, key: str) -> None:
        """Have it give up a listener and wait until it has."""
        after = len(self.look())
        self.tell("release", key=key)
        self.wait("released", after=after, key=key)

    def report(self) -> Message:
        """Ask for a report and return it."""
        after = len(self.look())
        self.tell("report")
        return self.wait("report", after=after)

    def connect(self, to: socket.socket | None = None) -> Client:
        """Open a connection: to a listener, or to the private one."""
        return Client(to.getsockname() if to is not None else self.private_path)

    def request(self, path: str = "/", to: socket.socket | None = None, **headers: str) -> Answer:
        """Send one GET over a connection of its own and return the answer."""
        with self.connect(to) as client:
            return client.get(path, **headers)

    def drain(self) -> None:
        """Send SIGTERM and wait until it says that it drains."""
        self.signal(signal.SIGTERM)
        self.wait("draining")

    def signal(self, number: int) -> None:
        """Send a signal."""
        signal.pidfd_send_signal(self.pidfd, number)

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not select.select([self.pidfd], [], [], 0)[0]

    def exit_code(self) -> int:
        """Wait for its end and return the exit code, negative for a signal."""
        readable, _, _ = select.select([self.pidfd], [], [], DEADLINE)
        assert readable, f"the worker lives on; {self.story()}"
        if self._code is None:
            if self.process is not None:
                self._code = self.process.wait()
            else:
                assert self.zygote is not None
                self._code = os.waitstatus_to_exitcode(self.zygote.wait("exited", pid=self.pid)["status"])
        return self._code

    def read_meters(self) -> Reading:
        """Return what its meters say now."""
        meters = Meters(self._fds.meters_fd)
        reading = meters.read()
        meters.close()
        return reading

    def wait_meters(self, look: Any, what: str = "the meters") -> Reading:
        """Wait until ``look(reading)`` is true and return the reading."""
        wait_until(lambda: look(self.read_meters()), lambda: f"{what}: {self.read_meters()}")
        return self.read_meters()

    def dump_text(self) -> str:
        """Return what the fault handler has written."""
        return Path(self._fds.folder, "dump").read_text()

    def output(self) -> str:
        """Return what it has written to stdout and stderr."""
        return Path(self._fds.folder, "log").read_text(errors="replace")

    def story(self) -> str:
        """Return what is known, for a failure."""
        return f"messages: {self.messages}; output: {self.output()[-3000:]}"

    def close(self) -> None:
        """End it and take back what it was given."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        select.select([self.pidfd], [], [], DEADLINE)
        if self.process is not None:
            self.process.wait()
        os.close(self.pidfd)
        for message in self.messages:
            for fd in message["fds"]:
                os.close(fd)
        self._fds.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class HostedZygote(_Peer):
    """A zygote; ``fork`` makes a worker of it.

    Args:
        job: What `job` returns.
        python: The app's interpreter.
        env: What is added to this process's environment.
    """

    def __init__(self, job: Message, *, python: str = APP_PYTHON, env: dict[str, str] | None = None) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        super().__init__(ours)
        self._log = tempfile.NamedTemporaryFile(prefix="zygote-")  # noqa: SIM115 - closed with the zygote
        self.process = _start("zygote", theirs, self._log, python=python, cwd=job["cwd"], env=env)
        self.pid = self.process.pid
        theirs.close()
        self._folder = tempfile.mkdtemp(prefix="zygote-")
        door = Door(self._folder, "door")
        self.door_path = door.path
        self.workers: list[HostedWorker] = []
        self.tell("boot", [door.fileno()], job=job, title="oxherd: test web zygote")
        door.handed_over()

    def ready(self) -> Message:
        """Wait for ``ready`` and return it."""
        return self.wait("ready")

    def fork(self, slot: int = 0, incarnation: int = 1, env: dict[str, str | None] | None = None) -> HostedWorker:
        """Have a worker forked and return it."""
        fds = self.ask_fork(slot, incarnation, env)
        message = self.wait("forked", slot=slot, incarnation=incarnation)
        worker = HostedWorker({}, _born=(self, fds, message["pid"], message["fds"].pop()))
        self.workers.append(worker)
        return worker

    def ask_fork(self, slot: int, incarnation: int, env: dict[str, str | None] | None = None) -> _Descriptors:
        """Ask for a worker without waiting for it."""
        fds = _Descriptors()
        log = fds.log.fileno()
        given = [log, log, fds.theirs.fileno(), *fds.gifts()]
        title = f"oxherd: test web:{slot}"
        self.tell("fork", given, slot=slot, incarnation=incarnation, env=env or {}, title=title)
        return fds

    def output(self) -> str:
        """Return what it has written to stdout and stderr."""
        return Path(self._log.name).read_text(errors="replace")

    def exit_code(self) -> int:
        """Wait for its end and return the exit code, negative for a signal."""
        return int(self.process.wait(DEADLINE))

    def story(self) -> str:
        """Return what is known, for a failure."""
        return f"messages: {self.messages}; output: {self.output()[-3000:]}"

    def close(self) -> None:
        """End it and its workers."""
        for worker in self.workers:
            worker.close()
        self.process.kill()
        self.process.wait()
        self.channel.close()
        self._log.close()
        shutil.rmtree(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
