"""Only its owner commands a supervisor: not by the modes of files alone, and not the other way round either."""

from __future__ import annotations

import json
import os
import socket
import stat
from pathlib import Path

from oxherd.cli.main import VERBS
from oxherd.control.paths import find_home, stack_id
from support.harness import program
from support.strangers import GROUP, STRANGER, Stranger, needs_root, open_to_all
from support.waiting import DEADLINE, wait_until

pytestmark = needs_root

# Verbs that have nothing to do with a supervisor.
UNCONCERNED = {"init", "validate", "completion", "service"}
# What has to be typed for the others; names alone are enough for most.
LINES = [
    ("start",),
    ("start", "--no-wait", "web"),
    ("stop",),
    ("restart", "web"),
    ("reload", "web"),
    ("apply",),
    ("scale", "web=2"),
    ("delete", "web"),
    ("signal", "TERM", "web"),
    ("status",),
    ("status", "--json"),
    ("ls",),
    ("logs", "web"),
    ("events",),
    ("why", "web"),
    ("explain", "web"),
    ("run",),
    ("daemon", "status"),
    ("daemon", "stop"),
    ("daemon", "run"),
]
# The verbs of the protocol, as a program of the stranger's own would send them.
REQUESTS = [
    "ping", "stacks", "environment", "status", "events", "why", "logfiles", "hosting",
    "start", "stop", "restart", "reload", "apply", "delete", "scale", "signal", "reopen", "shutdown",
]  # fmt: skip


def sleeping(ox):
    ox.oxfile(f'[processes.web]\ncommand = "{program("sleeper")}"\n[processes.web.env]\nAPI_TOKEN = "canary-token"\n')
    (ox.folder / "oxfile.toml").chmod(0o644)


def test_every_verb_that_needs_a_supervisor_is_tried():
    assert {line[0] for line in LINES} | UNCONCERNED | {"doctor"} == set(VERBS)


def refused_all(ox, stranger):
    before = ox.row("web")
    for line in LINES:
        result = stranger.oxherd(*line)
        said = f"{result.out}{result.err}"
        assert result.code == 1, result
        assert "not yours to command" in result.err, result
        assert "belongs to root (uid 0)" in result.err, result
        assert "sudo oxherd" in result.err, result
        assert "Traceback" not in said, result
        assert "canary-token" not in said, result
    doctor = stranger.oxherd("doctor")
    assert doctor.code == 1, doctor
    assert f"belongs to uid 0, and you are uid {STRANGER}" in doctor.out, doctor
    after = ox.row("web")
    assert (after["pid"], after["restarts"], after["status"]) == (before["pid"], 0, "running")


def test_another_user_commands_nothing_by_the_modes_of_files(ox):
    """The socket is 0600 in a directory of 0700: the stranger does not even reach it, and is told whose it is."""
    sleeping(ox)
    started = ox.ok("start")
    # The oxfile that everybody may read, so that the stranger can, is told of once, with what to type.
    assert started.err.count("[OX154]") == 1, started
    assert "chmod 600 oxfile.toml" in started.err, started
    assert stat.S_IMODE(os.stat(ox.home.runtime).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(ox.home.state).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(ox.home.socket).st_mode) == 0o600
    refused_all(ox, Stranger(ox))


def test_another_user_commands_nothing_through_an_open_door(ox):
    """Somebody opened the directories and the socket: both ends ask the kernel who the other one is."""
    sleeping(ox)
    ox.ok("start")
    stranger = Stranger(ox)
    open_to_all(ox.base / "ox", ox.home.runtime)
    os.chmod(ox.home.socket, 0o666)
    refused_all(ox, stranger)
    # Its own client refuses a supervisor that is not its user's; a program of its own does not.
    for verb in REQUESTS:
        assert answer_to(stranger, ox.home.socket, verb, stack=ox.stack)["code"] == "OX510", verb
    assert ox.row("web")["status"] == "running"
    os.chmod(ox.home.runtime, 0o700)
    os.chmod(ox.home.socket, 0o600)


# Sends one request whatever it hears, and prints the first answer.
TALK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as c:
    c.connect(sys.argv[1])
    try:
        c.sendall(sys.argv[2].encode() + b"\\n")
    except OSError:
        pass
    data = b""
    try:
        while chunk := c.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass  # it hung up with our request unread
print(data.decode())
"""


def answer_to(stranger, path, verb, **args):
    """Return the error that a request of the stranger's gets."""
    request = json.dumps({"oxherd": 1, "version": "x", "id": 1, "verb": verb, "args": args})
    done = stranger.run([stranger.python, "-I", "-S", "-c", TALK, path, request])
    assert done.returncode == 0, done
    (answer,) = done.stdout.splitlines()[:-1]  # and the empty line that print adds
    error = json.loads(answer)["error"]
    assert error["message"] == "this supervisor belongs to root (uid 0): it is not yours to command"
    assert error["exit_code"] == 1
    return error


def test_the_socket_of_a_run_is_as_private(ox):
    """`oxherd run` has a socket of its own, with the same two locks."""
    sleeping(ox)
    running = ox.popen("run")
    path = ox.home.run_socket(stack_id(ox.stack))
    wait_until(lambda: os.path.exists(path), "the socket of the run")
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    stranger = Stranger(ox)
    for line in (("status",), ("stop",), ("signal", "TERM", "web")):
        result = stranger.oxherd(*line)
        assert (result.code, "not yours to command" in result.err) == (1, True), result
    open_to_all(ox.base / "ox", ox.home.runtime)
    os.chmod(path, 0o666)
    for line in (("status",), ("stop",), ("signal", "TERM", "web"), ("logs", "web")):
        result = stranger.oxherd(*line)
        assert (result.code, f"the supervisor at {path} belongs to root" in result.err) == (1, True), result
    for verb in REQUESTS:
        assert answer_to(stranger, path, verb, stack=ox.stack)["code"] == "OX510", verb
    os.chmod(ox.home.runtime, 0o700)
    assert running.poll() is None
    ox.ok("stop")
    running.communicate(timeout=DEADLINE)


def test_nothing_is_sent_to_a_supervisor_that_somebody_else_put_there(ox):
    """A stranger's socket where ours would be, as in a /tmp/oxherd-UID it made first: `start` would send it an oxfile
    and the caller's environment. It gets not a byte."""
    sleeping(ox)
    victim = Stranger(ox)
    home = find_home({"OXHERD_HOME": str(ox.base / "trap")})
    os.makedirs(home.runtime)
    open_to_all(ox.base / "trap", home.runtime)
    with socket.socket(socket.AF_UNIX) as trap:
        trap.bind(home.socket)
        trap.listen()
        trap.setblocking(False)
        os.chmod(home.socket, 0o666)
        for line in (("status",), ("start",), ("daemon", "status"), ("stop",)):
            result = victim.oxherd(*line, env={"OXHERD_HOME": str(ox.base / "trap"), "MY_TOKEN": "canary-token"})
            assert result.code == 1, result
            assert "not yours to command" in result.err, result
        got = b""
        while True:
            try:
                connection, _ = trap.accept()
            except BlockingIOError:
                break
            with connection:
                got += connection.recv(65536)
        assert got == b""


def test_a_directory_that_a_neighbour_may_replace_is_refused(ox):
    sleeping(ox)
    stranger = Stranger(ox)
    shared = ox.base / "shared"
    shared.mkdir()
    shared.chmod(0o777)
    result = stranger.oxherd(
        "start", env={"OXHERD_HOME": "", "XDG_RUNTIME_DIR": str(shared), "XDG_STATE_HOME": str(shared)}
    )
    assert result.code == 1, result
    assert "everybody may replace it" in result.err, result
    assert not list(shared.glob("oxherd/*"))


def test_root_looks_at_and_stops_what_is_another_users_and_starts_nothing(ox):
    """Root may command every supervisor, but reads no oxfile, runs no interpreter and hands no environment over for it."""
    ox.oxfile('[processes.web]\ncommand = "/bin/sleep 1000"\n[processes.web.env]\nAPI_TOKEN = "canary-token"\n')
    stranger = Stranger(ox)
    home = ox.base / "theirs"
    home.mkdir()
    os.chown(home, STRANGER, GROUP)
    theirs = {"OXHERD_HOME": str(home)}
    started = stranger.oxherd("start", env=theirs)
    assert started.code == 0, started
    assert ox.cli("status", env=theirs).out.count("running") == 1
    assert "ready" in ox.ok("events", env=theirs).out
    pid = json.loads(ox.ok("status", "--json", env=theirs).out)[0]["pid"]
    assert os.stat(f"/proc/{pid}").st_uid == STRANGER
    for line in (("start",), ("restart",), ("reload",), ("apply",), ("run",), ("explain", "web")):
        result = ox.cli(*line, env={**theirs, "MY_TOKEN": "canary-token"})
        assert result.code == 1, result
        assert f"belongs to {stranger.name} (uid {STRANGER})" in result.err, result
        assert f"sudo -u {stranger.name} oxherd" in result.err, result
    assert json.loads(ox.ok("status", "--json", env=theirs).out)[0]["pid"] == pid
    kept = next(Path(home).rglob("stack.json")).read_text()
    assert "canary-token" in kept  # of the oxfile
    assert "MY_TOKEN" not in kept
    ox.ok("stop", env=theirs)
    ox.ok("daemon", "stop", env=theirs)
    again = ox.cli("start", env=theirs)
    assert (again.code, "not yours to command" in again.err) == (1, True), again


# -- nothing else listens -------------------------------------------------------------------------------------------


def listening(pid):
    """Return the addresses a process listens on."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            target = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    found = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and (table.startswith("udp") or fields[3] in {"0A", "07"}):
                found.append(f"{table} {int(fields[1].rpartition(':')[2], 16)}")
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        fields = line.split()
        # Flag 0x10000: it accepts connections.
        if fields[6] in inodes and int(fields[3], 16) & 0x10000:
            found.append(f"unix {fields[7] if len(fields) > 7 else ''}")
    return sorted(found)


def test_a_supervisor_listens_on_its_unix_socket_and_what_it_was_told(ox):
    """There is no control over the network: not by default, and no key turns it on."""
    from support.services import unused_port

    port = unused_port()
    sleeping(ox)
    ox.ok("start")
    own = [f"unix {os.path.dirname(ox.home.socket)}/.{ox.supervisor}"]  # bound under this name, then renamed
    assert listening(ox.supervisor) == own
    text = (ox.folder / "oxfile.toml").read_text()
    ox.oxfile(f'{text}[processes.api]\napp = "serves:app"\nbind = "127.0.0.1:{port}"\n')
    (ox.folder / "serves.py").write_text("async def app(scope, receive, send):\n    return\n")
    ox.ok("start", "api")
    # For each worker a private unix socket besides, in a directory that nobody else may enter.
    workers = os.path.join(ox.home.runtime, "workers")
    assert stat.S_IMODE(os.stat(workers).st_mode) == 0o700
    assert [text for text in listening(ox.supervisor) if not text.startswith(f"unix {workers}/")] == [
        f"tcp {port}",
        *own,
    ]


def test_a_run_listens_on_its_unix_socket_alone(ox):
    sleeping(ox)
    running = ox.popen("run")
    path = ox.home.run_socket(stack_id(ox.stack))
    wait_until(lambda: os.path.exists(path), "the socket of the run")
    assert listening(running.pid) == [f"unix {os.path.dirname(path)}/.{running.pid}"]
    running.terminate()
    running.communicate(timeout=DEADLINE)
