"""Programs are started as asked, or the error says which stage did not work, why, and what to do."""

from __future__ import annotations

import errno
import os
import pwd
import resource
import signal
import socket
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from oxherd.errors import SpawnError
from oxherd.system import spawn
from oxherd.system.spawn_errors import Stage

from .conftest import open_fds

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# What makes a start go through the launcher without changing what is seen.
BOTH_WAYS = pytest.mark.parametrize("wishes", [{}, {"nice": 0}], ids=["direct", "launcher"])


def script(folder, name: str, text: str, mode: int = 0o755) -> str:
    path = Path(folder, name)
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def failure(shop, *argv: str, **wishes: object) -> SpawnError:
    """Return the error of a start that has to fail, whichever way it comes, and check that nothing is lost by it."""
    before = open_fds()
    try:
        launch = spawn.launch(shop.request(*argv, **wishes))
    except SpawnError as raised:
        error: SpawnError | None = raised
    else:
        error = shop.outcome(launch).error
        assert shop.ended(launch).code == 1
        launch.close()
    assert error is not None
    assert error.hint
    assert open_fds() == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    return error


# -- what a program finds ----------------------------------------------------------------------------------------------


@BOTH_WAYS
def test_a_program_gets_its_arguments_directory_environment_and_nothing_else(shop, wishes):
    status, text = shop.run(
        "sh",
        "-c",
        'echo "$1|$PWD|$ONLY|$HOME|"',
        "sh",
        "a b",
        env={
            "PATH": os.environ["PATH"],
            "ONLY": "one",
        },
        **wishes,
    )
    assert (status.code, text) == (0, f"a b|{shop.folder}|one||\n")


@BOTH_WAYS
def test_any_bytes_pass_through_arguments_and_environment(shop, wishes):
    odd = os.fsdecode(b"\xff\xfe\n\xc3\xa9")
    _, text = shop.run(
        "sh",
        "-c",
        'printf %s "$1$ODD" | od -An -tx1',
        "sh",
        odd,
        env={
            "PATH": os.environ["PATH"],
            "ODD": odd,
        },
        **wishes,
    )
    assert text.split() == ["ff", "fe", "0a", "c3", "a9"] * 2


@BOTH_WAYS
def test_an_environment_larger_than_a_pipe_arrives_whole(shop, wishes):
    environ = {"PATH": os.environ["PATH"], **{f"V{number}": "x" * 10_000 for number in range(40)}}
    _, text = shop.run("sh", "-c", "env | wc -c", env=environ, **wishes)
    assert int(text) > 400_000


@BOTH_WAYS
def test_a_program_leads_a_session_of_its_own(shop, wishes):
    launch = shop.launch("sh", "-c", "cut -d' ' -f5,6 /proc/$$/stat; echo done", **wishes)
    shop.outcome(launch)
    assert shop.read_until(b"done").split() == [str(launch.pid).encode()] * 2


@BOTH_WAYS
def test_standard_input_is_empty(shop, wishes):
    assert shop.run("sh", "-c", "wc -c; readlink /proc/self/fd/0", **wishes)[1].split() == ["0", "/dev/null"]


@BOTH_WAYS
def test_output_and_errors_can_go_different_ways(shop, wishes):
    read_fd, write_fd = os.pipe()
    try:
        assert shop.run("sh", "-c", "echo out; echo err >&2", stderr=write_fd, **wishes)[1] == "out\n"
        assert os.read(read_fd, 100) == b"err\n"
    finally:
        os.close(read_fd)
        os.close(write_fd)


@BOTH_WAYS
def test_a_program_has_no_descriptor_but_those_it_was_given(shop, wishes):
    stray, given = os.open("/dev/null", os.O_RDONLY), os.open("/dev/zero", os.O_RDONLY)
    os.set_inheritable(stray, True)
    spawn.own_descriptors()
    try:
        program = "import os; print(*[fd for fd in map(int, os.listdir('/proc/self/fd')) if os.path.exists(f'/proc/self/fd/{fd}')])"
        _, text = shop.run(sys.executable, "-I", "-S", "-c", program, pass_fds=(given,), **wishes)
        assert sorted(map(int, text.split())) == [0, 1, 2, given]
    finally:
        os.close(stray)
        os.close(given)


LISTENERS = """
import os, socket
told = [os.environ.get(name) for name in ("LISTEN_FDS", "LISTEN_FDNAMES")]
assert os.environ["LISTEN_PID"] == str(os.getpid()), "not its own pid"
ports = []
for fd in range(3, 3 + int(told[0])):
    assert not os.get_blocking(fd)
    with socket.socket(fileno=os.dup(fd)) as sock:
        ports.append(sock.getsockname()[1])
fds = [fd for fd in map(int, os.listdir("/proc/self/fd")) if os.path.exists(f"/proc/self/fd/{fd}")]
print(*told, *ports, "has", *sorted(fds))
"""


@pytest.fixture
def bound():
    """Sockets with ports of their own, in a process that has put its descriptors in order."""
    spawn.own_descriptors()
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    for sock in socks:
        sock.setblocking(False)
    yield socks
    for sock in socks:
        sock.close()


@pytest.mark.parametrize("wishes", [{}, {"nofile": 64}, {"nice": 1}], ids=["plain", "nofile", "nice"])
def test_listening_sockets_are_passed_as_systemd_passes_them(shop, bound, wishes):
    status, text = shop.run(
        *(sys.executable, "-I", "-S", "-c", LISTENERS),
        listen_fds=tuple(sock.fileno() for sock in bound),
        listen_names=("public", "admin"),
        **wishes,
    )
    ports = [str(sock.getsockname()[1]) for sock in bound]
    assert (status.code, text.split()) == (
        0,
        ["3", "public:admin:unknown", *ports, "has", "0", "1", "2", "3", "4", "5"],
    )


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0), (2, 0, 0)])
def test_a_listening_socket_may_lie_where_another_one_has_to_go(shop, bound, order):
    """Whatever this process has there: numbers 3, 4 and 5 are the listeners themselves, in another order."""
    ports = [str(bound[index].getsockname()[1]) for index in order]
    saved = [os.dup(fd) if fd in open_fds() else None for fd in (3, 4, 5)]
    copies = [os.dup(sock.fileno()) for sock in bound]
    try:
        for number, copy in zip((3, 4, 5), copies, strict=True):
            os.dup2(copy, number, inheritable=False)
        launch = shop.launch(
            sys.executable, "-I", "-S", "-c", LISTENERS, listen_fds=tuple(3 + index for index in order)
        )
    finally:
        for number, copy in zip((3, 4, 5), saved, strict=True):
            if copy is None:
                os.close(number)
            else:
                os.dup2(copy, number, inheritable=False)
                os.close(copy)
        for copy in copies:
            os.close(copy)
    assert shop.outcome(launch).error is None
    assert shop.ended(launch).code == 0
    assert shop.read_until(b"has 0 1 2 3 4 5").decode().split()[2:] == ports


def test_gunicorn_takes_its_listeners_so(shop, bound):
    """It compares LISTEN_PID with its own pid before it believes a word."""
    Path(shop.folder, "hello.py").write_text("def app(e, start):\n    start('200 OK', [])\n    return [b'hello']\n")
    gunicorn = str(Path(sys.executable).with_name("gunicorn"))
    launch = shop.launch(gunicorn, "--workers", "1", "hello:app", listen_fds=(bound[0].fileno(), bound[1].fileno()))
    assert shop.outcome(launch).error is None
    shop.read_until(b"Booting worker")
    for sock in bound[:2]:
        with socket.create_connection(sock.getsockname(), timeout=20) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b"".join(iter(lambda client=client: client.recv(4096), b""))
        assert answer.endswith(b"hello")
    os.kill(launch.pid, signal.SIGTERM)
    assert shop.ended(launch).code == 0


def test_a_program_keeps_what_it_gets_under_its_own_number_beside_its_listeners(shop, bound):
    zero = os.open("/dev/zero", os.O_RDONLY)
    given = os.dup2(zero, 90)
    os.close(zero)
    program = "import os; print(os.readlink('/proc/self/fd/90'), os.environ['LISTEN_FDS'])"
    try:
        _, text = shop.run(
            *(sys.executable, "-I", "-S", "-c", program), pass_fds=(given,), listen_fds=(bound[0].fileno(),)
        )
    finally:
        os.close(given)
    assert text.split() == ["/dev/zero", "1"]


def test_a_descriptor_in_the_way_of_a_listening_socket_is_refused(shop, bound):
    fds = tuple(sock.fileno() for sock in bound)
    error = failure(shop, "true", pass_fds=(4,), listen_fds=fds)
    assert error.message == "reading the command line of true: descriptor 4 is where a listening socket has to go"


def test_a_listening_socket_that_is_closed_is_an_error_of_its_stage(shop, bound):
    error = failure(shop, "true", listen_fds=(bound[1].fileno(), 4000))
    assert (error.message, error.errno) == ("passing the listening sockets: Bad file descriptor", errno.EBADF)


def test_without_listening_sockets_nothing_is_said_of_any(shop):
    assert "LISTEN_" not in shop.run("env", nice=0)[1]


@BOTH_WAYS
def test_signals_are_as_at_login_although_the_supervisor_ignores_and_blocks_some(shop, wishes):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    handler = signal.signal(signal.SIGUSR1, lambda *_: None)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR2})
    try:
        _, text = shop.run("cat", "/proc/self/status", **wishes)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGHUP, before)
        signal.signal(signal.SIGUSR1, handler)
    signals = dict(line.split(":", 1) for line in text.splitlines())
    # posix_spawn(3) has glibc's two, 32 and 33, ignored; nobody else may use them, nptl(7).
    ours = ~(3 << 31)
    assert [int(signals[name], 16) & ours for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]


def test_without_odd_signals_and_wishes_no_launcher_is_needed(shop):
    launch = shop.launch("true")
    assert launch.report_fd is None
    assert shop.outcome(launch) == spawn.Outcome()
    assert shop.ended(launch).success


@BOTH_WAYS
def test_the_umask_is_that_of_the_oxfile(shop, wishes):
    assert shop.run("sh", "-c", "umask", umask=0o137, **wishes)[1] == "0137\n"


def test_niceness_and_open_files_are_set(shop):
    _, text = shop.run("sh", "-c", "ulimit -Sn; ulimit -Hn; cut -d' ' -f19 /proc/$$/stat", nice=7, nofile=333)
    assert text.split() == ["333", "333", "7"]


def test_a_limit_that_the_machine_refuses_is_a_warning_and_as_much_as_there_is(shop):
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    status = Path("/proc/self/status").read_text()
    capabilities = int(status.split("CapEff:")[1].split()[0], 16)
    if capabilities >> 24 & 1:
        pytest.skip("needs a machine without CAP_SYS_RESOURCE")
    launch = shop.launch("sh", "-c", "ulimit -n; echo done", nofile=hard * 2)
    outcome = shop.outcome(launch)
    assert outcome.error is None
    (warning,) = outcome.warnings
    assert warning.startswith(
        f"setting the limit of open files to {hard * 2}, it stays at {hard}: Operation not permitted; "
    )
    assert shop.read_until(b"done").strip() == str(hard).encode()


def test_an_oom_score_that_the_machine_refuses_is_a_warning(shop):
    launch = shop.launch("true", oom_score_adj=-1001)
    outcome = shop.outcome(launch)
    assert outcome.error is None
    assert outcome.warnings == (
        "setting oom_score_adj to -1001: Invalid argument; a negative value needs CAP_SYS_RESOURCE",
    )


def test_the_oom_score_is_set(shop):
    assert shop.run("cat", "/proc/self/oom_score_adj", oom_score_adj=123)[1] == "123\n"


def test_new_privileges_can_be_ruled_out(shop):
    assert "NoNewPrivs:\t1" in shop.run("grep", "NoNewPrivs", "/proc/self/status", no_new_privs=True)[1]


def test_a_cgroup_is_joined_by_the_file_it_was_given(shop):
    joined = Path(shop.folder, "cgroup.procs")
    joined.write_text("")
    shop.run("true", cgroups=(str(joined),))
    assert joined.read_text() == "0"


@needs_root
def test_a_program_becomes_its_user_with_all_its_groups_and_loses_the_supervisors(shop):
    Path(shop.folder).chmod(0o755)
    account = pwd.getpwnam("nobody")
    wishes = {"user": "nobody", "cwd": "/", "no_new_privs": True}
    _, text = shop.run("grep", "-E", "^(Uid|Gid|Groups|CapEff):", "/proc/self/status", **wishes)
    fields = {line.split(":")[0]: line.split(":")[1].split() for line in text.splitlines()}
    assert fields["Uid"] == [str(account.pw_uid)] * 4
    assert fields["Gid"] == [str(account.pw_gid)] * 4
    assert fields["Groups"] == [str(gid) for gid in os.getgrouplist("nobody", account.pw_gid)]
    assert int(fields["CapEff"][0], 16) == 0


@needs_root
def test_a_group_of_its_own_and_numbers_without_an_account(shop):
    assert shop.run("id", "-g", "-n", group="daemon")[1] == "daemon\n"
    assert shop.run("sh", "-c", "id -u; id -g; id -G", user="54321", group="54322", cwd="/")[1].split() == [
        "54321",
        "54322",
        "54322",
    ]


# -- finding the program -----------------------------------------------------------------------------------------------


@BOTH_WAYS
def test_a_program_is_looked_up_in_the_path_of_the_child_and_sees_its_full_path(shop, tmp_path, wishes):
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin", "only-here", "#!/bin/sh\necho $0\n")
    environ = {"PATH": f"/nowhere:{tmp_path}/bin:/usr/bin:/bin"}
    assert shop.run("only-here", env=environ, **wishes)[1] == f"{tmp_path}/bin/only-here\n"


@BOTH_WAYS
def test_a_relative_entry_of_path_and_a_relative_program_count_from_the_working_directory(shop, tmp_path, wishes):
    (tmp_path / "bin").mkdir()
    script(tmp_path / "bin", "tool", "#!/bin/sh\necho found\n")
    assert shop.run("tool", env={"PATH": "bin:/usr/bin:/bin"}, **wishes)[1] == "found\n"
    assert shop.run("./bin/tool", **wishes)[1] == "found\n"


@BOTH_WAYS
def test_a_python_found_through_path_finds_its_virtual_environment(shop, tmp_path, wishes):
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    _, text = shop.run(
        "python", "-c", "import sys; print(sys.prefix)", env={"PATH": f"{tmp_path}/env/bin:/usr/bin"}, cwd="/", **wishes
    )
    assert text.strip() == str(tmp_path / "env")


@BOTH_WAYS
def test_a_script_of_a_virtual_environment_runs_inside_it(shop, tmp_path, wishes):
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    path = script(tmp_path / "env/bin", "app", f"#!{tmp_path}/env/bin/python\nimport sys; print(sys.prefix)\n")
    assert shop.run(path, cwd="/", **wishes)[1].strip() == str(tmp_path / "env")


@BOTH_WAYS
def test_a_file_in_path_that_is_not_executable_is_passed_over(shop, tmp_path, wishes):
    for name, mode in (("first", 0o644), ("second", 0o755)):
        (tmp_path / name).mkdir()
        script(tmp_path / name, "tool", f"#!/bin/sh\necho {name}\n", mode)
    environ = {"PATH": f"{tmp_path}/first:{tmp_path}/second"}
    assert shop.run("tool", env=environ, **wishes)[1] == "second\n"


# -- what goes wrong ---------------------------------------------------------------------------------------------------


@BOTH_WAYS
def test_errors_name_the_stage_the_subject_and_the_reason(shop, tmp_path, wishes):
    """One line for each way a start fails, whichever way it goes."""
    gone = tmp_path / "gone/python"
    Path(tmp_path, "dir").mkdir()
    Path(tmp_path, "file").write_text("")
    for name, text, mode in (
        ("x", "#!/bin/sh\n", 0o644),
        ("x.py", "print()\n", 0o755),
        ("empty", "", 0o755),
        ("moved", f"#!{gone} -I\n", 0o755),
        ("crlf", "#!/bin/sh\r\n", 0o755),
        ("alien", "\x7fELF then nothing an ELF file has", 0o755),
        ("plain", f"#!{tmp_path}/file\n", 0o755),
    ):
        script(tmp_path, name, text, mode)
    path = {"PATH": f"{tmp_path}:/nowhere"}
    expected = {
        (("./none",), "executing ./none: No such file or directory", errno.ENOENT): {},
        (("none",), f"executing none: not found in PATH ({tmp_path}:/nowhere)", errno.ENOENT): {"env": path},
        (("x",), "executing x: Permission denied (it is not executable)", errno.EACCES): {"env": path},
        (("./x",), "executing ./x: Permission denied (it is not executable)", errno.EACCES): {},
        (("./dir",), "executing ./dir: Permission denied (it is a directory)", errno.EACCES): {},
        (("./file/x",), "executing ./file/x: Not a directory", errno.ENOTDIR): {},
        (("./x.py",), "executing ./x.py: Exec format error (no #! line?)", errno.ENOEXEC): {},
        (("./empty",), "executing ./empty: Exec format error (it is empty)", errno.ENOEXEC): {},
        (("./alien",), "executing ./alien: Exec format error (another architecture?)", errno.ENOEXEC): {},
        (("./moved",), f"executing ./moved: its interpreter {gone}: No such file or directory", errno.ENOENT): {},
        (("./crlf",), "executing ./crlf: its interpreter '/bin/sh\\r': No such file or directory", errno.ENOENT): {},
        (("./plain",), f"executing ./plain: its interpreter {tmp_path}/file: Permission denied", errno.EACCES): {},
        (("true",), "changing directory to /none: No such file or directory", errno.ENOENT): {"cwd": "/none"},
        (("./x",), f"changing directory to {tmp_path}/file: Not a directory", errno.ENOTDIR): {
            "cwd": f"{tmp_path}/file",
        },
        (("nowhere",), "changing directory to /none: No such file or directory", errno.ENOENT): {
            "cwd": "/none",
            "env": {"PATH": "bin"},
        },
        (("true", "x" * 3_000_000), "executing /usr/bin/true: Argument list too long", errno.E2BIG): {
            "env": {"PATH": "/usr/bin"},
        },
        (("true", "\0"), "reading the command line of true: embedded null byte", errno.EINVAL): {},
        (("true",), "reading the command line of true: illegal environment variable name", errno.EINVAL): {
            "env": {"PATH": "/usr/bin", "A=B": ""},
        },
        ((), "reading the command line of the program: there is none", errno.EINVAL): {},
        (("",), "reading the command line of the program: there is none", errno.EINVAL): {},
    }
    for (argv, message, number), more in expected.items():
        error = failure(shop, *argv, **{**more, **wishes})
        assert (error.message, error.errno) == (message, number)


def test_the_launchers_own_stages_have_errors_too(shop):
    assert failure(shop, "true", user="no-such-user").message == "switching to user no-such-user: no such user"
    assert failure(shop, "true", group="no-such-group").message == "switching to group no-such-group: no such group"
    assert failure(shop, "true", cgroups=("/none/cgroup.procs",)).message == (
        "joining the cgroup /none/cgroup.procs: No such file or directory"
    )
    assert failure(shop, "true", user="54321").message == (
        "taking on the groups of user 54321: no such account, so no group to switch to"
    )


@needs_root
def test_a_directory_the_user_may_not_enter_is_named(shop, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    Path(shop.folder).chmod(0o755)
    error = failure(shop, "true", user="nobody", cwd=str(closed))
    assert error.message == f"changing directory to {closed}: Permission denied"


@needs_root
def test_who_is_not_root_cannot_switch_users(shop, tmp_path):
    """The supervisor itself is unprivileged here: a second interpreter that has dropped its privileges asks."""
    code = (
        "import os, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534); os.chdir('/')\n"
        "from oxherd.system.launcher import perform\n"
        "job = dict(argv=[b'true'], listen_fds=[], cwd=b'/', env={}, user='root', group=None, umask=None, nice=-5, nofile=None,"
        " cgroups=[], no_new_privs=False, oom_score_adj=None)\n"
        "perform(job, lambda record: os.write(1, record))"
    )
    source = str(Path(spawn.__file__).parents[2])
    done = subprocess.run(  # the interpreter may live where nobody may look: everything is imported before
        [
            sys.executable,
            "-c",
            "import sys, pwd, grp; sys.path.insert(0, sys.argv[1]); import oxherd.system.launcher\n" + code,
            source,
        ],
        capture_output=True,
        check=True,
    )
    assert done.stdout == b"warning\0NICE\x0013\0-5\0error\0GROUP\x001\x000\0"


def test_no_room_for_another_process_is_said_and_leaves_nothing_behind(shop, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(os, "posix_spawn", refuse)
    error = failure(shop, "true")
    assert error.message == "starting a new process: Resource temporarily unavailable"
    assert error.errno == errno.EAGAIN


@BOTH_WAYS
def test_without_descriptors_the_error_says_so(shop, wishes):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    failure(shop, "/none", **wishes)  # what is imported at the first start is imported now
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(open_fds()) + 1, hard))
    filler = []
    try:
        while True:
            try:
                filler.append(os.dup(shop.read_fd))
            except OSError:
                break
        with pytest.raises(SpawnError) as caught:
            spawn.launch(shop.request("true", **wishes))
    finally:
        for fd in filler:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert caught.value.message == "making the pipes of a new process: Too many open files"
    assert "LimitNOFILE" in caught.value.hint


def test_a_python_that_is_gone_is_said(shop, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/none/python")
    error = failure(shop, "true", nice=1)
    assert error.message == "running the launcher /none/python: No such file or directory"


def test_without_pidfd_the_launch_works_and_says_so(shop, monkeypatch):
    def refuse(_pid):
        raise OSError(errno.EMFILE, "")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    launch = shop.launch("true")
    assert launch.pidfd == -1
    assert os.waitpid(launch.pid, 0) == (launch.pid, 0)


def test_every_stage_of_the_launcher_is_a_stage_with_a_phrase_and_a_hint():
    source = Path(spawn.launcher.__file__).read_text()
    for stage in Stage:
        error = spawn.LaunchRequest(argv=("x",), cwd="/", env={}, stdout=1, stderr=2).error(stage, errno.EIO, "it")
        assert stage.phrase
        assert error.message.startswith(f"{stage.phrase} it: ")
        assert error.hint
    for call in ("Refused(", "_call(", "warn("):
        for piece in source.split(call)[1:]:
            name = piece.split('"')[1] if piece.startswith('"') else "EXEC"
            assert Stage[name]


# -- keeping the house clean -------------------------------------------------------------------------------------------


@BOTH_WAYS
def test_a_launch_leaves_its_caller_where_it_was(shop, wishes, tmp_path, monkeypatch):
    """The directory and the mask of new files are those of the child only."""
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o027)
    try:
        assert shop.ended(shop.launch("sh", "-c", "umask >mask; pwd >place", umask=0o077, **wishes)).success
        failure(shop, "./none", umask=0o077, **wishes)
        failure(shop, "true", cwd="/none", umask=0o077, **wishes)
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert os.getcwd() == str(tmp_path)
    assert Path(shop.folder, "mask").read_text() == "0077\n"
    assert Path(shop.folder, "place").read_text() == f"{shop.folder}\n"


@pytest.mark.parametrize("streams", [(1, 2), (2, 1), (0, 0), (1, 1)])
def test_the_output_may_lie_where_a_stream_has_to_go(shop, streams):
    """Whoever is started without standard streams has its own descriptors there."""
    saved = [os.dup(fd) for fd in (0, 1, 2)]
    files = [os.open(Path(shop.folder, name), os.O_RDWR | os.O_CREAT) for name in ("zero", "one", "two")]
    try:
        for number, file in enumerate(files):
            os.dup2(file, number, inheritable=False)
        launch = spawn.launch(
            spawn.LaunchRequest(
                argv=("sh", "-c", "echo out; echo err >&2"),
                cwd=shop.folder,
                env={"PATH": os.environ["PATH"]},
                stdout=streams[0],
                stderr=streams[1],
            )
        )
        shop.launches.append(launch)
        assert shop.ended(launch).success
    finally:
        for number, copy in enumerate(saved):
            os.dup2(copy, number)
        for fd in (*saved, *files):
            os.close(fd)
    found = {name: Path(shop.folder, name).read_text() for name in ("zero", "one", "two")}
    expected = {"zero": "", "one": "", "two": ""}
    for number, text in zip(streams, ("out\n", "err\n"), strict=True):
        expected[("zero", "one", "two")[number]] += text
    assert found == expected


def test_a_thousand_failing_and_running_starts_lose_no_descriptor(shop):
    before = open_fds()
    for number in range(100):
        failure(shop, "./none")
        if number % 20 == 0:
            failure(shop, "./none", nice=0)
        launch = spawn.launch(shop.request("true"))
        shop.ended(launch)
        launch.close()
    assert open_fds() == before


def test_the_report_is_not_there_until_the_launcher_has_spoken(shop):
    launch = shop.launch("true", nice=0)
    seen = launch.outcome()
    assert seen is None or seen.error is None
    assert shop.outcome(launch) == spawn.Outcome()
    assert launch.report_fd is None


def test_a_launcher_killed_on_its_way_has_no_error_but_an_exit_status(shop):
    launch = shop.launch("true", nice=0)
    os.kill(launch.pid, signal.SIGKILL)
    assert shop.outcome(launch).error is None
    assert shop.ended(launch).signal in {signal.SIGKILL, None}
