"""From the effective settings of a process to what its workers need: the app, and the settings of any hosted process."""

from __future__ import annotations

from oxherd.config.coerce import as_float, as_int, as_seconds, as_text, as_words
from oxherd.config.effective import absolute
from oxherd.config.keys import HOSTED_ONLY
from oxherd.config.model import AppSpec, HostSpec, ProcessType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from oxherd.config.effective import Effective

__all__ = ["absolute_bind", "build_app", "build_hosting"]


def build_app(settings: Effective, type_: ProcessType) -> AppSpec:
    """Return what Oxherd's workers need to serve the app of a process."""
    get = settings.values.get
    workers = get("workers", 1)
    options = get("server_options")
    access_log = get("access_log", False)
    default = AppSpec(target="")
    return AppSpec(
        target=str(get("app")),
        bind=tuple(absolute_bind(text, settings) for text in as_words(get("bind"))) or default.bind,
        workers=None if workers == "auto" else as_int(workers, 1),
        server=str(get("server", default.server)),
        server_options=options if isinstance(options, tuple) else (),
        ssl_certfile=as_text(get("ssl_certfile")),
        ssl_keyfile=as_text(get("ssl_keyfile")),
        access_log=access_log if access_log in (True, False, "text", "json") else _path(access_log, settings),
        log_level=as_text(get("log_level")),
        preload=str(get("preload", default.preload)),
        balance=str(get("balance", default.balance)),
        max_requests=as_int(get("max_requests"), 0) or None,
        max_requests_jitter=as_int(get("max_requests_jitter"), 0),
        max_lifetime=as_seconds(get("max_lifetime")),
        max_memory=as_int(get("max_memory"), 0) or None,
        timeout=as_float(get("timeout"), default.timeout) if type_ is ProcessType.SERVICE else default.timeout,
        graceful_timeout=as_seconds(get("graceful_timeout")),
        keepalive=as_float(get("keepalive"), default.keepalive),
    )


def _path(value: object, settings: Effective) -> str:
    return absolute(str(value), settings.around.folder, settings.around.environ)


def absolute_bind(text: str, settings: Effective) -> str:
    """Return an address with the path of a unix socket made absolute."""
    return f"unix:{_path(text.removeprefix('unix:'), settings)}" if text.startswith("unix:") else text


def build_hosting(settings: Effective, type_: ProcessType) -> HostSpec | None:
    """Return what the oxfile says of the workers of a command, should its server be one that is hosted.

    What becomes of it is decided where programs are recognised; see `oxherd.programs.planning`.
    """
    get = settings.values.get
    if type_ is not ProcessType.SERVICE or not any(name in settings.values for name in HOSTED_ONLY):
        return None
    default = HostSpec()
    return HostSpec(
        preload=str(get("preload", default.preload)),
        balance=str(get("balance", default.balance)),
        block_timeout=as_float(get("timeout"), default.block_timeout),
        graceful_timeout=as_float(get("graceful_timeout"), default.graceful_timeout),
        max_requests=as_int(get("max_requests"), 0) or None,
        max_requests_jitter=as_int(get("max_requests_jitter"), 0),
        max_lifetime=as_seconds(get("max_lifetime")),
    )
