"""Real servers for end-to-end tests: Redis, PostgreSQL and nginx, each on a loopback port of its own.

Every one lives in a temporary directory, is ready when it is handed out, and is gone with all it made afterwards. A
machine without the binary skips the test; with CI set that is a failure, since there somebody has installed it.
"""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.waiting import DEADLINE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Nginx",
    "Postgres",
    "Redis",
    "cluster",
    "find_binary",
    "listening",
    "nginx",
    "nginx_config",
    "postgres",
    "redis",
    "unused_port",
]

PLACES = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/opt/homebrew/bin")
# Debian keeps PostgreSQL's server binaries off PATH; the newest version comes first.
POSTGRES_PLACES = "/usr/lib/postgresql/*/bin"
# Outgoing connections take their ports from here on (ip_local_port_range). Below it nobody is connected to a server
# that is away by taking the server's own port for the client's end: such a connection to itself holds the port.
EPHEMERAL = 32768


def unused_port() -> int:
    """Return a TCP port of the loopback interface that nobody listens on, below the ephemeral ones."""
    for _ in range(1000):
        port = random.randrange(EPHEMERAL // 2, EPHEMERAL)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise RuntimeError("no port is free")


def find_binary(name: str) -> str:
    """Return the path of a server's binary; without one the test is skipped, or fails where CI is set."""
    path = shutil.which(name)
    places = [*PLACES, *sorted(glob.glob(POSTGRES_PLACES), reverse=True)]
    for place in places:
        path = path or shutil.which(name, path=place)
    if path is None:
        reason = f"{name} is not installed; ./scripts/debian-packages installs it"
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def listening(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _account() -> str | None:
    """Return the account that servers run as which refuse to be root; None for one's own."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    pytest.skip("root has no other account to run PostgreSQL as")


@contextlib.contextmanager
def _directory(prefix: str, account: str | None = None) -> Iterator[Path]:
    # Not tmp_path: nobody but root may enter that of root, and the path of a unix socket must be short.
    path = Path(tempfile.mkdtemp(prefix=f"oxherd-{prefix}-"))
    if account is not None:
        entry = pwd.getpwnam(account)
        os.chown(path, entry.pw_uid, entry.pw_gid)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def _end(process: subprocess.Popen[bytes], signum: int = signal.SIGTERM) -> None:
    if process.poll() is None:
        process.send_signal(signum)
    try:
        process.wait(DEADLINE)
    finally:
        process.kill()


def _wait_ready(process: subprocess.Popen[bytes], log: Path, ready: Callable[[], bool]) -> None:
    """Wait until a server serves; one that ends before fails the test with what it said."""
    try:
        wait_until(lambda: process.poll() is not None or ready(), f"{process.args} to serve")
        assert process.poll() is None, log.read_text()
    except BaseException:
        process.kill()
        process.wait()
        raise


@dataclass
class Redis:
    """A Redis server.

    Attributes:
        port: Where it listens.
        process: Its process.
    """

    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def flush(self) -> None:
        """Forget everything."""
        with socket.create_connection(("127.0.0.1", self.port), DEADLINE) as connection:
            connection.sendall(b"FLUSHALL\r\n")
            assert connection.recv(64) == b"+OK\r\n"


@contextlib.contextmanager
def redis() -> Iterator[Redis]:
    """Run a Redis server that keeps nothing."""
    binary, port = find_binary("redis-server"), unused_port()
    with _directory("redis") as home, (home / "log").open("wb") as log:
        command = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        process = subprocess.Popen([*command, "--dir", str(home)], stdout=log, stderr=log)
        _wait_ready(process, home / "log", lambda: listening(port))
        try:
            yield Redis(port, process)
        finally:
            _end(process)


@dataclass
class Postgres:
    """A PostgreSQL server that can be stopped and started.

    Attributes:
        home: Its directory: data, socket, log.
        port: Where it listens.
        account: Who it runs as; None for one's own account.
        process: Its process while it runs.
    """

    home: Path
    port: int
    account: str | None
    process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=shop dbname=postgres connect_timeout=2"

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def command(self) -> list[str]:
        """The command line of the server in the foreground."""
        options = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self.home), "fsync": "off"}
        settings = [word for key, value in options.items() for word in ("-c", f"{key}={value}")]
        return [find_binary("postgres"), "-D", str(self.data), "-p", str(self.port), *settings]

    def initialise(self) -> None:
        """Make the database cluster; the superuser is `shop` and needs no password."""
        options = ("-U", "shop", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        self._ended_well(self._popen([find_binary("initdb"), "-D", str(self.data), *options]))

    def start(self) -> None:
        """Start it and wait until it serves."""
        process = self._popen(self.command)
        _wait_ready(process, self._log, self.serves)
        self.process = process

    def stop(self) -> None:
        """Stop it and wait until it has gone; connections are cut."""
        assert self.process is not None
        self._ended_well(self._popen([find_binary("pg_ctl"), "-D", str(self.data), "-m", "fast", "-W", "stop"]))
        self._ended_well(self.process)
        self.process = None

    def serves(self) -> bool:
        """Whether it takes connections: what `pg_ctl -w` looks at."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        except (FileNotFoundError, IndexError):
            return False

    @property
    def _log(self) -> Path:
        return self.home / "server.log"

    def _popen(self, command: list[str]) -> subprocess.Popen[bytes]:
        group = None if self.account is None else pwd.getpwnam(self.account).pw_gid
        groups = None if self.account is None else ()
        with self._log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=self.home,
                user=self.account,
                group=group,
                extra_groups=groups,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _ended_well(self, process: subprocess.Popen[bytes]) -> None:
        assert process.wait(DEADLINE) == 0, self._log.read_text()


@contextlib.contextmanager
def cluster() -> Iterator[Path]:
    """Make an empty PostgreSQL cluster, to be copied: that is much quicker than making another one."""
    find_binary("initdb")
    account = _account()
    with _directory("pg", account) as home:
        template = Postgres(home, 0, account)
        template.initialise()
        yield template.data


@contextlib.contextmanager
def postgres(template: Path, *, started: bool = True) -> Iterator[Postgres]:
    """Run PostgreSQL on a copy of a cluster; with ``started`` false somebody else will."""
    account = _account()
    with _directory("pg", account) as home:
        server = Postgres(home, unused_port(), account)
        # Owners are kept, which shutil does not.
        subprocess.run(["cp", "-a", str(template), str(server.data)], check=True)
        if started:
            server.start()
        try:
            yield server
        finally:
            if server.process is not None:
                server.stop()


@dataclass
class Nginx:
    """An nginx in front of one upstream.

    Attributes:
        port: Where it listens.
        upstream: The loopback port it passes requests to.
        error_log: What it complains of.
    """

    port: int
    upstream: int
    error_log: Path


NGINX_CONFIG = """
daemon off;
{user}
worker_processes 1;
pid {home}/nginx.pid;
error_log {home}/error.log info;
events {{ worker_connections 256; }}
http {{
    access_log {home}/access.log;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    upstream app {{ server 127.0.0.1:{upstream} max_fails=0; keepalive 4; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://app;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_connect_timeout 2s;
        }}
    }}
}}
"""


def nginx_config(home: Path, port: int, upstream: int) -> Path:
    """Write the configuration of an nginx that keeps everything below ``home``, and return its path."""
    config = home / "nginx.conf"
    # As root it would hand its workers to an account that may not enter our directories.
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(NGINX_CONFIG.format(home=home, port=port, upstream=upstream, user=user))
    return config


@contextlib.contextmanager
def nginx(upstream: int) -> Iterator[Nginx]:
    """Run nginx in front of a loopback port."""
    binary, port = find_binary("nginx"), unused_port()
    with _directory("nginx") as home:
        config, log = nginx_config(home, port, upstream), home / "error.log"
        process = subprocess.Popen([binary, "-p", str(home), "-e", str(log), "-c", str(config)])
        _wait_ready(process, log, lambda: listening(port))
        try:
            yield Nginx(port, upstream, log)
        finally:
            _end(process, signal.SIGQUIT)
