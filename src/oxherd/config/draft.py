"""What the text of an oxfile says, between TOML and the model: settings by canonical name, each with its place.

Both dialects become the same draft, so everything after it knows one dialect only.
"""

from __future__ import annotations

from oxherd.config.keys import Key
from oxherd.config.problems import Place
from oxherd.records import dataclass, field

__all__ = ["Draft", "DraftProcess", "EnvSetting", "Layer", "Setting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting as written.

    Attributes:
        key: Its key, which knows how to read it.
        value: The value as TOML has it.
        place: Where it stands.
        origin: The place as ``explain`` shows it: ``oxfile.toml:12``.
        rank: The layer: 0 for [defaults] and [logging], 1 for the process, 2 for its profile.
    """

    key: Key
    value: object
    place: Place
    origin: str
    rank: int

    @property
    def local(self) -> bool:
        """Whether the process itself says so, rather than the defaults of all."""
        return self.rank > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvSetting:
    """One variable of an env table; numbers and booleans have become strings."""

    value: str
    place: Place
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """The settings of one table and its sub-tables, by canonical name, and its env."""

    settings: dict[str, Setting] = field(default_factory=dict)
    env: dict[str, EnvSetting] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class DraftProcess:
    """One process before its layers are merged."""

    name: str
    place: Place
    layer: Layer
    profiles: dict[str, Layer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The whole file before merging."""

    name: str | None
    dialect: str
    defaults: Layer
    processes: tuple[DraftProcess, ...]
    deploys: dict[str, Layer]
    webhook: Layer
