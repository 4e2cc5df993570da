"""Imports go downwards only; the core is pure; what an export needs runs on any machine."""

from __future__ import annotations

import sys

# From the top. Parts of one rank do not import each other.
LAYERS = (
    {"cli", "tui", "console", "satellites"},
    {"daemon", "export"},
    {"system", "control"},
    {"programs"},
    {"config"},
    {"core"},
    {"errors", "units"},
    {"deferred", "jsons", "records"},
)
# What runs inside the interpreter of an app, where nothing of Oxherd is installed.
ISLANDS = {"host", "kit"}
IMPURE = {"asyncio", "logging", "os", "pathlib", "random", "signal", "socket", "subprocess", "threading", "time"}


def rank(part: str) -> int:
    return next(len(LAYERS) - index for index, layer in enumerate(LAYERS) if part in layer)


def parts_imported(module) -> set[str]:
    names = {name for name in module.imports() if name.split(".")[0] == "oxherd" and "." in name}
    parts = {name.split(".")[1] for name in names}
    return parts - {"__version__", module.part}


def test_every_part_has_a_layer(modules):
    """A new package has to be given its place before anything may import it."""
    known = set().union(*LAYERS) | ISLANDS | {"", "__main__"}
    assert {module.part for module in modules} <= known


def test_imports_go_downwards_only(modules):
    """cli|tui|console|satellites > daemon|export > system|control > programs > config > core > errors|units."""
    upwards = [
        f"{module.name} imports oxherd.{part}"
        for module in modules
        if module.part not in ISLANDS | {"", "__main__"}
        for part in parts_imported(module)
        if part not in ISLANDS and rank(part) >= rank(module.part)
    ]
    assert not upwards


def test_an_export_works_on_any_machine(modules):
    """Exports are pure functions of the model: no syscalls, no supervisor."""
    wrong = [
        f"{module.name} imports oxherd.{part}"
        for module in modules
        if module.part == "export"
        for part in parts_imported(module)
        if part in {"system", "control", "daemon"}
    ]
    assert not wrong


def test_the_core_and_the_protocol_are_pure(modules):
    """No clock, OS, I/O, randomness or logging: they are arguments."""
    pure = [module for module in modules if module.part == "core" or module.name == "oxherd.control.protocol"]
    assert len(pure) > 3
    impure = [
        f"{module.name} imports {name}" for module in pure for name in module.imports() if name.split(".")[0] in IMPURE
    ]
    assert not impure


def is_engine(module) -> bool:
    """An engine's own module is imported where that engine is installed and used, and nowhere else."""
    return module.name.startswith("oxherd.host.engines.") and module.name != "oxherd.host.engines.base"


def test_the_islands_import_the_standard_library_only(modules):
    """`host` and `kit` run inside the interpreter of an app, where nothing of Oxherd is installed."""
    foreign = [
        f"{module.name} imports {name}"
        for module in modules
        if module.part in ISLANDS and not is_engine(module)
        for name in module.imports()
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith(f"oxherd.{module.part}")
    ]
    assert not foreign
