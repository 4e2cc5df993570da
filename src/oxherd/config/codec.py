"""The model as plain data, for the control socket and the state directory.

`encode` and `decode` are each other's inverse for every type in `oxherd.config.model`. The supervisor uses them, so
they need neither a parser nor a validation library: what arrives was validated by the reader of the oxfile.
"""

from __future__ import annotations

from enum import Enum

from oxherd.config.model import (
    AppSpec,
    Command,
    DependencyCondition,
    DeploySpec,
    GitSpec,
    HealthSpec,
    HostSpec,
    HostWay,
    LimitSpec,
    LogFormat,
    LogSpec,
    Oxfile,
    ProcessKind,
    ProcessSpec,
    ProcessType,
    ScheduleSpec,
    StopSpec,
    WatchSpec,
    WebhookSpec,
)
from oxherd.core.restart import RestartMode, RestartPolicy
from oxherd.records import MISSING, shape_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    T = TypeVar("T")

__all__ = ["decode", "encode"]

# The fields of each type that hold more than plain data.
_NESTED: dict[type, dict[str, type]] = {
    Oxfile: {"processes": ProcessSpec, "deploys": DeploySpec, "webhook": WebhookSpec},
    ProcessSpec: {
        "kind": ProcessKind,
        "type": ProcessType,
        "command": Command,
        "app": AppSpec,
        "host": HostSpec,
        "restart": RestartPolicy,
        "stop": StopSpec,
        "health": HealthSpec,
        "limits": LimitSpec,
        "logs": LogSpec,
        "watch": WatchSpec,
        "schedule": ScheduleSpec,
        "pre_start": Command,
        "pre_reload": Command,
        "webhook": WebhookSpec,
        "git": GitSpec,
    },
    HealthSpec: {"command": Command},
    HostSpec: {"way": HostWay},
    RestartPolicy: {"mode": RestartMode},
    LogSpec: {"format": LogFormat},
}


def encode(value: object) -> object:
    """Return a model value as JSON-able data; fields that hold their default are left out."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    shape = shape_of(type(value))
    if shape is None:
        return value
    encoded: dict[str, object] = {}
    for name in shape.names:
        item = getattr(value, name)
        default = shape.defaults.get(name, MISSING)
        if type(item) is type(default) and item == default:
            continue
        encoded[name] = encode(item)
    return encoded


def decode(kind: type[T], data: dict[str, object]) -> T:
    """Return the model value that `encode` made ``data`` of.

    Raises:
        TypeError: A key is not a field of the type: the data is of another version.
    """
    nested = _NESTED.get(kind, {})
    arguments: dict[str, object] = {}
    for name, item in data.items():
        if name == "depends_on" and isinstance(item, list):
            arguments[name] = tuple((str(key), DependencyCondition(condition)) for key, condition in item)
        elif name in nested and item is not None:
            arguments[name] = _decode_nested(nested[name], item)
        else:
            arguments[name] = _freeze(item)
    return kind(**arguments)


def _decode_nested(kind: type, item: object) -> object:
    if isinstance(item, list):
        return tuple(_decode_nested(kind, element) for element in item)
    if isinstance(item, dict):
        return decode(kind, item)
    return kind(item)


def _freeze(item: object) -> object:
    return tuple(_freeze(element) for element in item) if isinstance(item, list) else item
