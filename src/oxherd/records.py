"""`dataclasses` as a supervisor can afford them: the same three names, and no code that is made at import.

The standard library writes and compiles six methods for each class, which a supervisor would hold a hundred times; here all
classes share one of each, and what differs is a table. That was a megabyte of sixteen, and a quarter of the time until the
supervisor is ready. Everything that the supervisor may import says ``from oxherd.records import dataclass``. To `dataclasses`
itself (`fields`, `asdict`, `replace`) such a class is one of its own.

What nothing here uses is left out: subclasses of a dataclass, ``InitVar``, ``ClassVar``, ordering.
"""

from __future__ import annotations

from operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

__all__ = ["MISSING", "FrozenError", "Shape", "dataclass", "field", "names_of", "replace", "shape_of"]

# Stands for "no default", as in `dataclasses`; not None, which is a good default.
MISSING = object()

_set = object.__setattr__


def _nothing(_value: object) -> None:
    """All values of a class without fields are the same."""


class FrozenError(AttributeError):
    """Somebody assigned to a field of a frozen value."""


class _Field:
    """What `field` says of one."""

    __slots__ = ("compare", "default", "factory")

    def __init__(self, *, default: object, factory: Callable[[], object] | None, compare: bool) -> None:
        self.default = default
        self.factory = factory
        self.compare = compare


class Shape:
    """What the methods that all classes share know of one of them; a value, not to be changed.

    Attributes:
        names: Its fields, in order.
        positional: Those that may be given without their name.
        defaults: Of those that have one.
        factories: What makes the default of those that need a new one for each value.
        compared: Returns the fields that tell two values apart, of a value.
        prepared: Whether there is a ``__post_init__``.
    """

    __slots__ = ("compared", "defaults", "factories", "names", "positional", "prepared")

    def __init__(self, cls: type, *, kw_only: bool) -> None:
        """Read the fields off a class that is being decorated."""
        self.names = tuple(cls.__annotations__)
        self.positional = () if kw_only else self.names
        given = {name: cls.__dict__[name] for name in self.names if name in cls.__dict__}
        told = {name: value for name, value in given.items() if isinstance(value, _Field)}
        self.factories = {name: value.factory for name, value in told.items() if value.factory is not None}
        self.defaults = {name: told[name].default if name in told else value for name, value in given.items()}
        for name, value in told.items():
            if value.default is MISSING:
                del self.defaults[name]
        compared = [name for name in self.names if name not in told or told[name].compare]
        self.compared = attrgetter(*compared) if compared else _nothing
        self.prepared = "__post_init__" in cls.__dict__


class _Fields:
    """``__dataclass_fields__``, by which `dataclasses` knows its own: made when it asks, which in a supervisor it does not."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: Mapping[str, object] | None = None

    def __get__(self, instance: object, owner: type) -> Mapping[str, object]:
        if self._made is None:
            import dataclasses  # noqa: PLC0415 - see the head of this module

            shape: Shape = owner.__dict__["__record__"]
            body: dict[str, object] = {"__annotations__": owner.__annotations__, "__module__": owner.__module__}
            body |= shape.defaults
            for name, factory in shape.factories.items():
                body[name] = dataclasses.field(default_factory=factory)
            twin: Any = dataclasses.dataclass(kw_only=not shape.positional)(type(owner.__name__, (), body))
            self._made = twin.__dataclass_fields__
        return self._made


def _init(self: object, /, *args: object, **given: object) -> None:
    """Take the fields by position or name."""
    shape: Shape = self.__record__  # type: ignore[attr-defined] # every class that has this method has one
    values = {**shape.defaults, **given}
    if args:
        if len(args) > len(shape.positional) or not given.keys().isdisjoint(shape.names[: len(args)]):
            raise TypeError(
                f"{type(self).__qualname__}() takes {len(shape.positional)} positional arguments, each once"
            )
        values.update(zip(shape.names, args, strict=False))
    for name, factory in shape.factories.items():
        if name not in values:
            values[name] = factory()
    if len(values) != len(shape.names):
        raise _misfit(self, shape, values)
    try:
        for name in shape.names:
            _set(self, name, values[name])
    except KeyError:
        raise _misfit(self, shape, values) from None
    if shape.prepared:
        self.__post_init__()  # type: ignore[attr-defined] # it was seen


def _misfit(self: object, shape: Shape, values: Mapping[str, object]) -> TypeError:
    if surplus := [name for name in values if name not in shape.names]:
        return TypeError(f"{type(self).__qualname__}() got an unexpected keyword argument {surplus[0]!r}")
    absent = ", ".join(repr(name) for name in shape.names if name not in values)
    return TypeError(f"{type(self).__qualname__}() misses {absent}")


def _eq(self: object, other: object) -> object:
    """Two values of one class with the same fields are the same."""
    if type(other) is not type(self):
        return NotImplemented
    shape: Shape = self.__record__  # type: ignore[attr-defined] # see _init
    return shape.compared(self) == shape.compared(other)


def _hash(self: object) -> int:
    """Equal values hash the same."""
    return hash(self.__record__.compared(self))  # type: ignore[attr-defined] # see _init


def _repr(self: object) -> str:
    """Return what would make it again."""
    fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__record__.names)  # type: ignore[attr-defined]
    return f"{type(self).__qualname__}({fields})"


def _frozen_set(self: object, name: str, _value: object) -> None:
    """Refuse."""
    raise FrozenError(f"{type(self).__qualname__} is frozen: cannot assign to {name!r}")


def _frozen_delete(self: object, name: str) -> None:
    """Refuse."""
    raise FrozenError(f"{type(self).__qualname__} is frozen: cannot delete {name!r}")


def _dataclass(*, frozen: bool = False, slots: bool, kw_only: bool = False) -> Callable[[type], type]:
    """Make a class of fields of the class that is decorated; see `dataclasses.dataclass`.

    Args:
        frozen: No field can be assigned to; the value has a hash.
        slots: Always true. A value without a dictionary is what this is for.
        kw_only: Fields are given by name.
    """
    assert slots

    def make(cls: type) -> type:
        shape = Shape(cls, kw_only=kw_only)
        body = {
            name: value
            for name, value in cls.__dict__.items()
            if name not in shape.names and name not in {"__dict__", "__weakref__"}
        }
        methods: dict[str, object] = {"__repr__": _repr, "__eq__": _eq, "__hash__": _hash if frozen else None}
        if frozen:
            methods |= {"__setattr__": _frozen_set, "__delattr__": _frozen_delete}
        made = {
            "__slots__": shape.names,
            "__record__": shape,
            "__match_args__": shape.positional,
            "__dataclass_fields__": _Fields(),
            "__qualname__": cls.__qualname__,
            "__init__": _init,
        }
        return type(cls)(cls.__name__, cls.__bases__, methods | body | made)

    return make


def _field(
    *, default: object = MISSING, default_factory: Callable[[], object] | None = None, compare: bool = True
) -> _Field:
    """Say more of a field than its default; see `dataclasses.field`."""
    return _Field(default=default, factory=default_factory, compare=compare)


def _replace(value: T, /, **changes: object) -> T:
    """Return the value with other fields; see `dataclasses.replace`."""
    shape = shape_of(type(value))
    assert shape is not None
    if shape.prepared:
        return type(value)(**{**{name: getattr(value, name) for name in shape.names}, **changes})
    other = object.__new__(type(value))
    for name in shape.names:
        _set(other, name, changes.pop(name) if name in changes else getattr(value, name))
    if changes:
        raise _misfit(value, shape, changes)
    return other


def names_of(kind: type) -> tuple[str, ...]:
    """Return the fields of a class of this module."""
    shape = shape_of(kind)
    assert shape is not None
    return shape.names


def shape_of(kind: type) -> Shape | None:
    """Return what is known of a class of this module, None of another one."""
    return kind.__dict__.get("__record__")


if TYPE_CHECKING:
    # A type checker knows those of the standard library by heart.
    from dataclasses import dataclass, field, replace
else:
    dataclass, field, replace = _dataclass, _field, _replace
