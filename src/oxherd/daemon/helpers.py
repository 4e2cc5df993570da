"""Programs the supervisor runs for itself: probe commands, the file watcher.

They are children like any other, started by the same launcher and seen to their end by the same registry. A helper's
output comes through a pipe that the loop reads; when it is ended everything it started is ended with it.
"""

from __future__ import annotations

import os

from oxherd.daemon.remains import end_remains, kill_branch
from oxherd.records import dataclass
from oxherd.system.spawn import LaunchRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from oxherd.core.exits import ExitStatus
    from oxherd.daemon.children import Child, Children
    from oxherd.system.loop import Loop
    from oxherd.system.ports import System
    from oxherd.system.spawn import Launch

__all__ = ["Helper", "HelperEnd", "HelperRequest", "Helpers"]

_CHUNK = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class HelperRequest:
    """What to run.

    Attributes:
        argv: Program and arguments.
        cwd: Its directory.
        env: Its whole environment.
        mark: Unique value of OXHERD_MARK, by which what it leaves behind is found.
        user, group: Who runs it, or None for the supervisor's own.
        umask: Its umask, or None.
    """

    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    mark: str
    user: str | None = None
    group: str | None = None
    umask: int | None = None


@dataclass(frozen=True, slots=True)
class HelperEnd:
    """How a helper ended: ``success`` is an exit with 0, ``text`` is one phrase such as "exited with 2"."""

    success: bool
    text: str


class Helper:
    """A running helper."""

    def __init__(self, loop: Loop, system: System, children: Children, request: HelperRequest) -> None:
        """Made by `Helpers.start`."""
        self._loop = loop
        self._system = system
        self._children = children
        self._request = request
        self._launch: Launch | None = None
        self._child: Child | None = None
        self._read_fd = -1
        self._inode = 0
        self._killed = False
        self._on_output: Callable[[bytes], None] = _deaf
        self._on_end: Callable[[HelperEnd], None] = _deaf

    def begin(self, on_output: Callable[[bytes], None], on_end: Callable[[HelperEnd], None]) -> None:
        """Start the program; raises as `Helpers.start` says."""
        request = self._request
        self._read_fd, child_fd = os.pipe2(os.O_CLOEXEC)
        try:
            os.set_blocking(self._read_fd, False)
            launch = self._system.launch(
                LaunchRequest(
                    argv=request.argv,
                    cwd=request.cwd,
                    env={**request.env, "OXHERD_MARK": request.mark},
                    stdout=child_fd,
                    stderr=child_fd,
                    user=request.user,
                    group=request.group,
                    umask=request.umask,
                    no_new_privs=request.user is not None,
                )
            )
        except BaseException:
            os.close(self._read_fd)
            raise
        finally:
            os.close(child_fd)
        self._launch = launch
        self._inode = os.fstat(self._read_fd).st_ino
        self._on_output, self._on_end = on_output, on_end
        self._loop.watch_read(self._read_fd, self._readable)
        self._child = self._children.adopt(launch, self._exited)

    def kill(self) -> None:
        """End it and everything it started, with SIGKILL. Nothing is called back any more; idempotent."""
        self._on_output = self._on_end = _deaf
        if self._child is not None and not self._killed:
            self._killed = True
            kill_branch(self._system, self._children, self._child.pid, self._child.pidfd)
        self._close()

    def _readable(self) -> None:
        self._take()

    def _take(self) -> bool:
        """Take a piece of the output; False at the end or when there is nothing."""
        if self._read_fd < 0:
            return False
        try:
            data = os.read(self._read_fd, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._close()
            return False
        self._on_output(data)
        return True

    def _exited(self, status: ExitStatus) -> None:
        launch, self._child = self._launch, None
        assert launch is not None
        end = HelperEnd(status.success, status.text)
        if launch.report_fd is not None:
            outcome = launch.outcome()
            if outcome is not None and outcome.error is not None:
                end = HelperEnd(success=False, text=f"could not start: {outcome.error.message}")
        # Bounded: what it started and left behind may go on writing for ever.
        for _ in range(64):
            if not self._take():
                break
        if self._killed or self._read_fd >= 0:
            # What it forked while it was killed; or somebody still holds the other end of the pipe.
            end_remains(
                self._loop,
                self._system,
                self._children,
                mark=self._request.mark,
                main_pid=launch.pid,
                pipes=(self._inode,),
            )
        self._close()
        self._on_end(end)

    def _close(self) -> None:
        if self._read_fd >= 0:
            self._loop.unwatch(self._read_fd)
            os.close(self._read_fd)
            self._read_fd = -1


class Helpers:
    """Starts helpers.

    Args:
        loop: Reads their output.
        system: Starts and kills them.
        children: Hears of their end.
    """

    def __init__(self, loop: Loop, system: System, children: Children) -> None:
        """Start nothing yet."""
        self._loop = loop
        self._system = system
        self._children = children

    def start(
        self, request: HelperRequest, on_output: Callable[[bytes], None], on_end: Callable[[HelperEnd], None]
    ) -> Helper:
        """Start a helper.

        Args:
            request: What to run.
            on_output: Called with each piece of its output, stdout and stderr together.
            on_end: Called once when its main process is gone, after the last output.

        Raises:
            SpawnError: It cannot be started.
            OSError: There are no descriptors for the pipe.
        """
        helper = Helper(self._loop, self._system, self._children, request)
        helper.begin(on_output, on_end)
        return helper


def _deaf(_: object) -> None:
    """Hear nothing: the helper was killed."""
