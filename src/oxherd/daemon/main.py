"""The supervisor process: ``python -m oxherd.daemon``.

Two ways in: plain is the background supervisor of a home; ``--run`` is ``oxherd run``, the foreground supervisor of one stack,
which ends with it. Who starts it has made the process a subreaper, an attribute that survives the exec.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal
import sys
import traceback

from oxherd import __version__
from oxherd import jsons as json
from oxherd.control.paths import Home, find_home
from oxherd.daemon.assembly import ENDING_SIGNALS, Assembly, own_state
from oxherd.daemon.inheritance import Inheritance, hand_over, take_over
from oxherd.daemon.options import Options, parse_options
from oxherd.daemon.upgrade import command_of
from oxherd.errors import OperationError, OxherdError, SystemFault
from oxherd.records import replace
from oxherd.system.identity import lock_holder
from oxherd.system.notify import Notifier
from oxherd.system.spawn import own_descriptors

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the supervisor until it is told to end.

    Args:
        arguments: The command line without the program.

    Returns:
        The exit code: 0, 1 when it could not start, or in a run the code of what failed.
    """
    options = parse_options(arguments)
    if options.ready_fd >= 0 and not _may_begin(options.ready_fd):
        return 0
    _reset_signals()
    own_descriptors()
    notifier = Notifier.taken_from(os.environ)
    if notifier.watchdog:
        # The SIGABRT of a watchdog that heard nothing then prints where the supervisor hangs; systemd.service(5).
        faulthandler.enable()
    home = find_home(os.environ)
    if options.check:
        from oxherd.daemon.check import check  # noqa: PLC0415 - the one who asks is not the one who supervises

        return check(own_state(home, options))
    inheritance = None
    try:
        home.prepare()
        inheritance = take_over(options.inherit) if options.inherit >= 0 else None
        assembly = Assembly(home, options, version=__version__, notifier=notifier, inheritance=inheritance)
        if inheritance is None:
            assembly.lock = _lock(home, options)
        assembly.open()
    except OxherdError as error:
        _go_back(inheritance, notifier, arguments)
        _say(options, {"error": error.as_dict()})
        notifier.send(STATUS=f"could not start: {error.message}")
        sys.stderr.write(f"oxherd: {error.render()}\n")
        return error.exit_code
    except Exception as error:
        _go_back(inheritance, notifier, arguments)
        if inheritance is not None or not isinstance(error, OSError):
            raise
        fault = _disk_fault(home, error)
        _say(options, {"error": fault.as_dict()})
        sys.stderr.write(f"oxherd: {fault.render()}\n")
        return fault.exit_code
    _say(options, {"ready": True, "pid": os.getpid()})
    try:
        return assembly.run()
    finally:
        assembly.close()
        if assembly.lock >= 0:
            os.close(assembly.lock)


def _may_begin(fd: int) -> bool:
    """Wait, with everything loaded and nothing touched, until whoever started this process has read its oxfile.

    Returns:
        False where it will not need a supervisor: the oxfile is not valid, or the command has died.
    """
    try:
        return bool(os.read(fd, 1))
    except OSError:
        return False


def _go_back(inheritance: Inheritance | None, notifier: Notifier, arguments: list[str]) -> None:
    """A new version has failed all the same: become the one before again, which takes over as after any death.

    Returns where there is none to go back to.
    """
    if inheritance is None or inheritance.previous in {"", sys.executable}:
        return
    traceback.print_exc()
    os.environ.update(notifier.environ)
    fd = hand_over(replace(inheritance, previous=""))
    place = arguments.index("--inherit")
    rest = [*arguments[:place], "--inherit", str(fd), *arguments[place + 2 :]]
    os.execv(inheritance.previous, command_of(inheritance.previous, *rest))


def _reset_signals() -> None:
    """Undo what nohup or a shell's ``&`` left: ignored and blocked signals would be inherited by every program.

    But PID 1 keeps blocked what the command line has blocked for it, until `Assembly.open` has handlers.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ENDING_SIGNALS if os.getpid() == 1 else ())
    for signum in signal.valid_signals() - {signal.SIGPIPE, signal.SIGXFSZ}:
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, signal.SIG_DFL)


def _lock(home: Home, options: Options) -> int:
    """Make this the only supervisor of its home (or, in a run, of its stack in that home); return the locked fd."""
    # Whoever finds the lock taken and no socket asks for one by SIGHUP; the loop, which hears it, comes later.
    signal.signal(signal.SIGHUP, lambda _signum, _frame: None)
    path = home.lock if options.run is None else home.run_lock(options.identity)
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        error = _running_already(home, options, fd)
        os.close(fd)
        raise error from None
    os.ftruncate(fd, 0)
    try:
        os.write(fd, f"{os.getpid()}\n{home.runtime}\n".encode())
    except OSError:
        # A full disk. The lock is what counts; the text is for those who look.
        return fd
    return fd


def _running_already(home: Home, options: Options, fd: int) -> OperationError:
    """Return what to say of a lock that another supervisor holds, and have it listen where nobody finds it any more."""
    if options.run is not None:
        what = f"`oxherd run` of {options.run}"
        return OperationError(f"{what} is running already", hint="see `oxherd status`", code="OX430")
    runtime = os.pread(fd, 4096, 0).decode(errors="replace").partition("\n")[2].strip()
    if runtime and runtime != home.runtime:
        return OperationError(
            f"the supervisor of {home.state} is running already, and is spoken to in {runtime}",
            hint=f"set OXHERD_HOME or XDG_RUNTIME_DIR as for that one, whose directory is not {home.runtime}",
            code="OX435",
        )
    holder = lock_holder(fd)
    if holder > 0 and not os.path.lexists(home.socket):
        # Its socket was removed, or its whole directory: it runs on, and nobody can reach it.
        os.kill(holder, signal.SIGHUP)
    return OperationError(
        f"a supervisor of {home.runtime} is running already",
        hint="see `oxherd daemon status` and `oxherd status`",
        code="OX430",
    )


def _disk_fault(home: Home, error: OSError) -> SystemFault:
    where = f": {error.filename}" if error.filename else ""
    return SystemFault(
        f"the supervisor cannot begin: {error.strerror or error}{where}",
        hint=f"look at owner, mode and free space of {home.runtime} and {home.state}, or set OXHERD_HOME to another one",
        code="OX604",
    )


def _say(options: Options, message: dict[str, object]) -> None:
    """Tell whoever started the supervisor that it is ready, or why it is not."""
    if options.ready_fd < 0:
        return
    try:
        os.write(options.ready_fd, json.dumps(message).encode() + b"\n")
        os.close(options.ready_fd)
    except OSError:
        # Whoever asked has gone; the supervisor is as ready as before.
        return
