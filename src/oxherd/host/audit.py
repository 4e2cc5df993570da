"""The fork-safety audit: what an import has left behind that a fork would break or share.

Of threads a fork copies only the locks they held, and a connection that two processes read gives each of them parts of
the other's answers. What is found here is real as far as it can be told; what is known to be harmless (OpenBLAS parks
threads and makes new ones in the child; files, logging handlers, UDP sockets) is passed over, because a false alarm
costs the memory and the speed that forking is for.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

__all__ = ["Hazard", "audit", "open_fds"]

_LATER = "open it in the app's startup (lifespan, post_fork) instead of at import"

# How threads of well-known libraries call themselves, native or Python; comm has 15 bytes.
_KNOWN_THREADS = {
    "grpc": "a gRPC channel or server",
    "event_engine": "a gRPC channel or server",
    "lifeguard": "a gRPC channel or server",
    "rdk:": "a Kafka client (librdkafka)",
    "cuda": "CUDA",
    "tokio": "a tokio runtime (Rust)",
    "polars": "polars' thread pool",
    "rayon": "a rayon thread pool (Rust)",
    "jemalloc_bg": "jemalloc's background thread",
    "pymongo": "a MongoClient",
    "sentry": "the Sentry SDK",
    "otel": "an OpenTelemetry exporter",
    "ddtrace": "the Datadog tracer",
    "apscheduler": "a scheduler (APScheduler)",
    "threadpoolexecutor": "a ThreadPoolExecutor",
    "celery": "Celery",
    "kafka-python": "a Kafka client",
}
_KNOWN_PORTS = {
    3306: "MySQL",
    5432: "PostgreSQL",
    5672: "RabbitMQ",
    6379: "Redis",
    9042: "Cassandra",
    9092: "Kafka",
    9200: "Elasticsearch",
    11211: "memcached",
    27017: "MongoDB",
}
_KERNEL_OBJECTS = {
    "anon_inode:[eventpoll]": "an epoll descriptor",
    "anon_inode:[io_uring]": "an io_uring",
    "anon_inode:inotify": "an inotify descriptor",
}


@dataclass(frozen=True)
class Hazard:
    """One finding.

    Attributes:
        what: What is there.
        where: Who made it, as far as that can be told.
        advice: What to do about it.
        fatal: Whether workers must not be forked; otherwise it is worth knowing.
    """

    what: str
    where: str
    advice: str
    fatal: bool = True

    def fields(self) -> dict[str, Any]:
        """Return it for a message."""
        return asdict(self)


def open_fds() -> dict[int, str]:
    """Return the open descriptors of this process and what each is, as ``/proc/self/fd`` says it."""
    found = {}
    for name in _listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # the listing's own descriptor
    return found


def audit(known: Collection[int] = ()) -> list[Hazard]:
    """Look at this process and return what a fork would break, the fatal first.

    Args:
        known: Descriptors that were open before the app was imported.
    """
    objects = _objects()
    loops = [one for one in objects if _is_open_loop(one)]
    hazards = [
        *_threads(),
        *_loops(loops),
        *_descriptors({fd: what for fd, what in open_fds().items() if fd not in known}, has_loop=bool(loops)),
        *_cuda(),
        *_children(),
        *_temporary(objects),
    ]
    return sorted(hazards, key=lambda hazard: not hazard.fatal)


# -- threads ----------------------------------------------------------------------------------------------------------


def _threads() -> Iterator[Hazard]:
    frames = sys._current_frames()  # noqa: SLF001 - the documented way to other threads' stacks
    python = {}
    for thread in threading.enumerate():
        if thread is threading.main_thread():
            continue
        python[thread.native_id] = thread
        yield Hazard(
            what=f"a thread is running: {thread.name}{_library(thread.name)}",
            where=_outermost(frames.get(thread.ident or 0)),
            advice="start it in the app's startup (lifespan, post_fork) instead of at import",
        )
    own = os.getpid()
    comm = _comm(own)
    strange = {}
    for name in _listdir("/proc/self/task"):
        tid = int(name)
        if tid != own and tid not in python:
            strange[tid] = _comm(tid)
    # A library that gives its threads no name leaves them the process's. OpenBLAS parks one less than there are CPUs,
    # and has handlers that make new ones after a fork.
    nameless = sum(1 for name in strange.values() if name == comm)
    parked = len({path for path in _mapped() if "openblas" in os.path.basename(path)}) * ((os.cpu_count() or 1) - 1)
    names = sorted({name for name in strange.values() if name != comm})
    if names:
        yield Hazard(
            what=f"{sum(1 for name in strange.values() if name != comm)} native threads are running: "
            f"{', '.join(names)}{_library(*names)}",
            where="in a C extension",
            advice="create what starts them in the app's startup (lifespan, post_fork) instead of at import",
        )
    if nameless > parked:
        yield Hazard(
            what=f"{nameless - parked} native threads without a name are running",
            where="in a C extension",
            advice='if they are known to survive a fork, set preload = true; otherwise preload = "auto" does without it',
        )


def _library(*names: str) -> str:
    for name in names:
        for start, library in _KNOWN_THREADS.items():
            if start in name.lower():
                return f" ({library})"
    return ""


def _outermost(frame: Any) -> str:
    """Return file:line of the first frame of a thread's stack that is not the threading module's."""
    found = "not to be told"
    while frame is not None:
        file = frame.f_code.co_filename
        if os.path.basename(file) != "threading.py":
            found = f"{file}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return found


def _comm(tid: int) -> str:
    try:
        with open(f"/proc/self/task/{tid}/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""  # it has just ended


def _mapped() -> set[str]:
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
            return {line.split(maxsplit=5)[5].rstrip("\n") for line in file if "/" in line}
    except OSError:
        return set()


# -- descriptors ------------------------------------------------------------------------------------------------------


def _descriptors(fds: dict[int, str], *, has_loop: bool) -> Iterator[Hazard]:
    for fd, what in sorted(fds.items()):
        if what.startswith("socket:"):
            yield from _socket(fd, has_loop=has_loop)
        elif what in _KERNEL_OBJECTS and not has_loop:
            yield Hazard(
                what=f"{_KERNEL_OBJECTS[what]} is open",
                where=f"descriptor {fd}",
                advice=_LATER,
            )
        elif what.startswith("/dev/nvidia"):
            yield Hazard(what="a GPU is open", where=f"descriptor {fd}, {what}", advice=_LATER)


def _socket(fd: int, *, has_loop: bool) -> Iterator[Hazard]:
    try:
        one = socket.socket(fileno=os.dup(fd))
    except OSError:
        return  # a family that Python does not know: netlink, packet
    with one:
        if one.type not in {socket.SOCK_STREAM, socket.SOCK_SEQPACKET}:
            return  # datagrams are whole, whoever sends them
        if one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            yield Hazard(
                what=f"a socket listens on {_address(one.getsockname())}",
                where=f"descriptor {fd}",
                advice="all workers share it; " + _LATER,
                fatal=False,
            )
            return
        try:
            peer = one.getpeername()
        except OSError:
            return  # connected to nothing
        if peer in {"", b""}:
            if not has_loop:  # half of a pair: a loop has one to wake itself
                yield Hazard(
                    what="a socket pair is open", where=f"descriptor {fd}", advice="all workers share it", fatal=False
                )
            return
        service = _KNOWN_PORTS.get(peer[1], "") if isinstance(peer, tuple) else ""
        yield Hazard(
            what=f"a connection to {_address(peer)} is open" + (f" ({service})" if service else ""),
            where=f"descriptor {fd}, from {_address(one.getsockname())}",
            advice="all workers would share it and read each other's answers; " + _LATER,
        )


def _address(name: Any) -> str:
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in str(name[0]) else f"{name[0]}:{name[1]}"
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) or "a socket pair"


# -- objects ----------------------------------------------------------------------------------------------------------


def _objects() -> list[Any]:
    wanted = [
        kind
        for module, name in (("asyncio.events", "AbstractEventLoop"), ("tempfile", "TemporaryDirectory"))
        if isinstance(kind := getattr(sys.modules.get(module), name, None), type)
    ]
    # The type, not isinstance: a proxy (lazy settings, werkzeug's locals) would be evaluated by being asked.
    return [one for one in gc.get_objects() if issubclass(type(one), tuple(wanted))] if wanted else []


def _is_open_loop(one: Any) -> bool:
    is_closed = getattr(type(one), "is_closed", None)
    return is_closed is not None and "tempfile" not in type(one).__module__ and not is_closed(one)


def _loops(loops: list[Any]) -> Iterator[Hazard]:
    for loop in loops:
        kind = f"{type(loop).__module__}.{type(loop).__qualname__}"
        yield Hazard(
            what=f"an event loop is open: {kind}",
            where="made at import, by asyncio.new_event_loop, asyncio.get_event_loop or a library",
            advice="use asyncio.run, which closes its loop, or do it in the app's startup (lifespan)",
        )


def _temporary(objects: list[Any]) -> Iterator[Hazard]:
    for one in objects:
        if type(one).__module__ == "tempfile" and os.path.isdir(getattr(one, "name", "")):
            yield Hazard(
                what=f"a temporary directory is open: {one.name}",
                where="tempfile.TemporaryDirectory, made at import",
                advice="the first worker that ends would remove it for all; make it in the app's startup (lifespan)",
            )


def _cuda() -> Iterator[Hazard]:
    cuda = getattr(sys.modules.get("torch"), "cuda", None)
    if cuda is not None and cuda.is_initialized():
        yield Hazard(
            what="CUDA is initialised (torch)",
            where="at import",
            advice="a forked process cannot use it; move the model to the GPU in the app's startup (lifespan)",
        )


def _children() -> Iterator[Hazard]:
    found = []
    for tid in _listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{tid}/children", encoding="ascii") as file:
                found += file.read().split()
        except OSError:
            continue  # a kernel without CONFIG_PROC_CHILDREN, or the thread has just ended
    if found:
        yield Hazard(
            what=f"child processes are running: {', '.join(found)}",
            where="started at import",
            advice="workers share them and cannot wait for them; start them in the app's startup (lifespan)",
            fatal=False,
        )


def _listdir(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []  # no /proc (macOS): nothing can be seen there
