"""From a job to an app that can be served: the engine found, its options read, the app imported.

Done once in a zygote, or in each worker that is exec'd.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import sys
import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from . import engines
from .engines.base import App, EngineError, Job
from .garbage import look_seldom
from .target import TargetError, find, own_traceback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .channel import Channel
    from .engines.base import Loader

__all__ = ["BootFailure", "Loaded", "load", "tell"]


@dataclass(frozen=True)
class Loaded:
    """What can be served.

    Attributes:
        loader: The engine's module.
        job: The job, with what the engine's own parser filled in.
        app: The app.
        seconds: How long it took.
    """

    loader: Loader
    job: Job
    app: App
    seconds: float


class BootFailure(Exception):  # noqa: N818 - it is not always an error of the program: a port of the app may be taken
    """A worker or zygote cannot serve.

    Attributes:
        stage: "engine", "options", "import" or "startup".
        text: For a person: what, where, what to do.
        traceback: As Python prints it, "" where there is none.
    """

    def __init__(self, stage: str, text: str, trace: str = "") -> None:
        """Say where and what."""
        super().__init__(text)
        self.stage = stage
        self.text = text
        self.traceback = trace

    def fields(self) -> dict[str, Any]:
        """Return it for a message."""
        return {"stage": self.stage, "text": self.text, "traceback": self.traceback}


def load(fields: Mapping[str, Any]) -> Loaded:
    """Find the engine of a job, let it read its options, and import the app.

    Args:
        fields: The ``job`` object.

    Raises:
        BootFailure: One of them cannot be.
    """
    began = time.monotonic()
    look_seldom()
    try:
        job = Job.of(fields)
    except TypeError as error:
        raise BootFailure("options", f"the job cannot be read: {error}") from error
    if job.engine == "auto":
        return _fitting(job, began)
    # Programs look at it: to find their own name, or whether they run under a server.
    sys.argv = [job.engine, *(job.argv or ((job.target,) if job.target else ()))]
    loader, job = _prepared(job)
    importlib.invalidate_caches()
    # An engine whose targets are a language of their own (gunicorn's expressions) has its own way of finding them.
    own = getattr(loader, "find", None)
    app = _found(own or (lambda job: find(job.target, factory=job.factory, interface=job.interface)), job)
    return Loaded(loader=loader, job=job, app=app, seconds=time.monotonic() - began)


def _fitting(job: Job, began: float) -> Loaded:
    """Import the app first: what it is decides which engine serves it best."""
    sys.argv = ["oxherd", job.target]
    sys.path.insert(0, job.cwd)
    app = _found(lambda job: find(job.target, factory=job.factory, interface=job.interface), job)
    try:
        engine = engines.choose(app.interface)
    except EngineError as error:
        raise BootFailure("engine", str(error)) from error
    loader, job = _prepared(dataclasses.replace(job, engine=engine), on_path=True)
    return Loaded(loader=loader, job=job, app=app, seconds=time.monotonic() - began)


def _prepared(job: Job, *, on_path: bool = False) -> tuple[Loader, Job]:
    """Find the engine and let it read its options."""
    try:
        loader = engines.load(job.engine)
    except EngineError as error:
        raise BootFailure("engine", str(error)) from error
    except ImportError as error:
        raise BootFailure("engine", f"{job.engine} cannot be imported: {error}", own_traceback(error)) from error
    if job.source == "app" and not on_path:
        # As `python -m` has it.
        sys.path.insert(0, job.cwd)
    try:
        return loader, loader.prepare(job)
    except EngineError as error:
        raise BootFailure("options", str(error)) from error
    except SystemExit as error:
        raise BootFailure("options", f"{job.engine} refused its options and exited with {error.code!r}") from error
    except Exception as error:
        said = traceback.format_exception_only(type(error), error)[-1].strip()
        raise BootFailure("options", f"{job.engine} cannot read its options: {said}", own_traceback(error)) from error


def _found(how: Callable[[Job], App], job: Job) -> App:
    try:
        return how(job)
    except TargetError as error:
        raise BootFailure("import", error.text, error.traceback) from error


def tell(failure: BootFailure, channel: Channel) -> bool:
    """Print a failure to stderr, the traceback as Python would, and send it; return False where nobody takes it."""
    said = failure.traceback or f"oxherd: {failure.text}\n"
    # Nobody may read the log, or the app has closed or replaced it; the message goes all the same.
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(said if said.endswith("\n") else f"{said}\n")
        sys.stderr.flush()
    return channel.send("failed", wait=True, **failure.fields())
