"""``gunicorn ...``: its workers hosted, or by descriptor where they cannot be.

What its configuration comes to only gunicorn knows: a file that is a program, ``GUNICORN_CMD_ARGS``, defaults of its
version. So it is asked, in the app's interpreter. Where nobody can be asked, because the interpreter is not there yet, its
command line has to do.
"""

from __future__ import annotations

import os
import shlex

from oxherd.config.model import HostWay
from oxherd.programs.arguments import Options, without
from oxherd.programs.program import Bind
from oxherd.programs.recognise import GUNICORN_VALUED, addresses
from oxherd.programs.servers.reading import Line, absolute_bind, passed, untouched

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from oxherd.programs.servers.reading import Reading

__all__ = ["read_gunicorn"]

_DEFAULT_CONFIG = "gunicorn.conf.py"
_DEFAULT_GRACE = 30.0
_DEFAULT_TIMEOUT = 30.0
_DEFAULT_KEEPALIVE = 2.0
_DEFAULT_BACKLOG = 2048
# gunicorn's timeout of 0: its workers may block for ever.
_NEVER = 1e9
_TOO_OLD = "its Python is too old for Oxherd's workers"


def read_gunicorn(reading: Reading) -> Line:
    """Read a command line of gunicorn."""
    if reading.footing.behind_shell:
        return untouched(reading.footing.why_not)
    options = Options(reading.args, GUNICORN_VALUED)
    if options.has("--help", "-h", "--version", "-v", "--check-config", "--print-config"):
        return untouched("it prints something and exits")
    if options.has("--reload"):
        return untouched("--reload is for development: gunicorn starts the app again by itself")
    if reading.footing.why_not:
        return _by_descriptor(reading, reading.footing.why_not)
    answer = reading.describe()
    if answer is None:
        return _of_arguments(reading)
    if answer.error:
        return untouched(f"gunicorn was asked what its configuration comes to: {answer.error}")
    return _of_values(reading, answer.values)


# -- as gunicorn says -----------------------------------------------------------------------------------------------


def _of_values(reading: Reading, values: Mapping[str, object]) -> Line:
    """Return what gunicorn's own answer comes to."""
    if values.get("reload"):
        return untouched("reload is for development: gunicorn starts the app again by itself")
    texts = [str(text) for text in _list(values.get("bind"))]
    binds = _held(reading, texts)
    if not binds:
        return untouched(f"it binds {', '.join(texts) or 'nothing'}, which cannot be held for it")
    reasons = [str(reason) for reason in _list(values.get("unsupported"))]
    if reasons:
        return _with_descriptors(reading, binds, "; ".join(reasons))
    timeout = _number(values.get("timeout"), _DEFAULT_TIMEOUT)
    fields: dict[str, object] = {
        "way": HostWay.HOSTED,
        "engine": "gunicorn",
        "argv": reading.args,
        "target": str(values.get("target") or ""),
        "bind": binds,
        "block_timeout": timeout or _NEVER,
        "keepalive": _number(values.get("keepalive"), _DEFAULT_KEEPALIVE),
        "backlog": int(_number(values.get("backlog"), _DEFAULT_BACKLOG)),
        "max_requests": int(_number(values.get("max_requests"), 0)) or None,
        "max_requests_jitter": int(_number(values.get("max_requests_jitter"), 0)),
        "tls": bool(values.get("certfile") or values.get("keyfile")),
        "ssl_certfile": reading.path(_text(values.get("certfile"))),
        "ssl_keyfile": reading.path(_text(values.get("keyfile"))),
    }
    return Line(
        fields=fields,
        workers=max(1, int(_number(values.get("workers"), 1))),
        workers_from=_workers_from(reading, int(_number(values.get("workers"), 1))),
        graceful=_number(values.get("graceful_timeout"), _DEFAULT_GRACE),
        graceful_from="gunicorn's graceful_timeout",
        preload=True if values.get("preload_app") else None,
        user=_other(values.get("user"), os.geteuid()),
        group=_other(values.get("group"), os.getegid()),
        notes=tuple(_notes(values)),
        otherwise=_with_descriptors(reading, binds, _TOO_OLD),
    )


def _workers_from(reading: Reading, count: int) -> str:
    said = Options(reading.args, GUNICORN_VALUED).last("-w", "--workers")
    if said == str(count):
        return f"--workers {said}"
    if reading.environ.get("WEB_CONCURRENCY") == str(count):
        return f"WEB_CONCURRENCY={count}"
    return "gunicorn's configuration" if count != 1 else ""


def _notes(values: Mapping[str, object]) -> list[str]:
    """Say what of its configuration is the arbiter's, which there is none of."""
    notes = [f"its worker class is {values.get('worker_class', 'sync')}"]
    config = values.get("config_file")
    if config:
        notes.append(f"its configuration file is {config}")
    if values.get("daemon"):
        notes.append("daemon has no effect: Oxherd keeps its workers in the background anyway")
    if values.get("pidfile"):
        notes.append(f"{values['pidfile']} is not written: there is no arbiter whose pid it could hold")
    return notes


def _list(value: object) -> list[object]:
    if isinstance(value, list):
        return list(value)
    return [value] if value else []


def _number(value: object, default: float) -> float:
    return default if not isinstance(value, (int, float)) else float(value)


def _text(value: object) -> str | None:
    return str(value) if value else None


def _other(value: object, own: int) -> str | None:
    """Return a user or group that gunicorn would become, where that is not who it is already."""
    return None if value is None or str(value) == str(own) else str(value)


# -- as its arguments say -------------------------------------------------------------------------------------------


def _of_arguments(reading: Reading) -> Line:
    """Return what the command line alone comes to."""
    options = _options(reading)
    count = options.number("-w", "--workers")
    workers = int(count) if count else _concurrency(reading)
    graceful, timeout = options.number("--graceful-timeout"), options.number("-t", "--timeout")
    keepalive, backlog = options.number("--keep-alive"), options.number("--backlog")
    certificate = options.last("--certfile")
    fields: dict[str, object] = {
        "way": HostWay.HOSTED,
        "engine": "gunicorn",
        "argv": reading.args,
        "bind": _held(reading, _binds(reading, options)) or ("127.0.0.1:8000",),
        "block_timeout": _DEFAULT_TIMEOUT if timeout is None else timeout or _NEVER,
        "keepalive": _DEFAULT_KEEPALIVE if keepalive is None else keepalive,
        "backlog": int(backlog or _DEFAULT_BACKLOG),
        "tls": certificate is not None,
        "ssl_certfile": reading.path(certificate),
        "ssl_keyfile": reading.path(options.last("--keyfile")),
    }
    return Line(
        fields=fields,
        workers=max(1, workers),
        workers_from=_workers_from(reading, workers),
        graceful=_DEFAULT_GRACE if graceful is None else graceful,
        graceful_from="gunicorn's graceful_timeout",
        preload=True if options.has("--preload") else None,
        notes=("its configuration was not asked for: this is what its command line says",),
    )


def _concurrency(reading: Reading) -> int:
    said = reading.environ.get("WEB_CONCURRENCY", "").strip()
    return int(said) if said.isdigit() else 1


def _options(reading: Reading) -> Options:
    """Return the arguments, with those of GUNICORN_CMD_ARGS before them."""
    try:
        more = tuple(shlex.split(reading.environ.get("GUNICORN_CMD_ARGS", "")))
    except ValueError:
        more = ()
    own = Options(reading.args, GUNICORN_VALUED)
    both = Options((*more, *reading.args), GUNICORN_VALUED)
    # Addresses do not add up: those of the command line take the place of the others.
    for names in (("-b", "--bind"),):
        if own.has(*names):
            for name in names:
                both.values.pop(name, None)
                if name in own.values:
                    both.values[name] = own.values[name]
    return both


def _binds(reading: Reading, options: Options) -> list[str]:
    said = options.every("-b", "--bind")
    port = reading.environ.get("PORT", "")
    return said or [f"0.0.0.0:{port}" if port.isdigit() else "127.0.0.1:8000"]


def _held(reading: Reading, texts: list[str]) -> tuple[str, ...]:
    """Return the addresses to hold; none where one of them cannot be held."""
    if reading.socket is not None:
        return (reading.socket,)
    binds = addresses(texts)
    if len(binds) != len(texts) or not all(_may_be_held(bind) for bind in binds):
        return ()
    return tuple(absolute_bind(bind, reading.working_dir) for bind in binds)


def _may_be_held(bind: Bind) -> bool:
    return bool(bind.path) or bind.port > 0


# -- by descriptor --------------------------------------------------------------------------------------------------


def _by_descriptor(reading: Reading, why: str) -> Line:
    """Return what is made of a gunicorn that cannot be hosted, where its addresses are on its command line."""
    options = _options(reading)
    said = options.every("-b", "--bind")
    config = options.has("-c", "--config") or os.path.exists(os.path.join(reading.working_dir, _DEFAULT_CONFIG))
    if not said and config and reading.socket is None:
        return untouched(f"{why}; and its addresses are in its configuration file")
    binds = _held(reading, _binds(reading, options))
    return _with_descriptors(reading, binds, why) if binds else untouched(why)


def _with_descriptors(reading: Reading, binds: tuple[str, ...], why: str) -> Line:
    """Return gunicorn run by itself; it takes descriptors only where all of its addresses are some."""
    kept = without(reading.args, GUNICORN_VALUED, "-b", "--bind")
    listeners = [*(f"fd://{{fd:{index}}}" for index in range(len(binds))), "fd://{private}"]
    flags = [word for listener in listeners for word in ("--bind", listener)]
    # An old and a new arbiter would fight for one pid file.
    alone = Options(reading.args, GUNICORN_VALUED).has("-p", "--pid")
    line = passed(reading, "gunicorn", (*flags, *kept), binds, overlap=not alone)
    return Line(fields=line.fields, notes=(f"run by itself, with its listeners as descriptors: {why}",))
