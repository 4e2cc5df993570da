"""The source as data: every module of the package, read and parsed once, never imported."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True)
class Module:
    """One module of the package."""

    path: Path
    name: str
    text: str
    tree: ast.Module

    @property
    def part(self) -> str:
        """The layer's name: ``core`` of ``oxherd.core.restart``, ``errors`` of ``oxherd.errors``, "" of ``oxherd``."""
        return self.name.split(".")[1] if "." in self.name else ""

    @property
    def private(self) -> bool:
        return self.path.stem.startswith("_")

    def imports(self) -> set[str]:
        """Every module it imports, those for typing and those inside functions included."""
        package = self.name if self.path.stem == "__init__" else self.name.rpartition(".")[0]
        found: set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parents = package.split(".")
                    base = ".".join([*parents[: len(parents) - node.level + 1], *([base] if base else [])])
                # `from oxherd import errors` names a module, `from oxherd.errors import X` does not; the layer of
                # both is the same, so the longer name is kept only where the base is the package itself.
                found.update({f"{base}.{alias.name}" for alias in node.names} if base == "oxherd" else {base})
        return found


def load(package: Path) -> list[Module]:
    modules = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text()
        modules.append(Module(path, name, text, ast.parse(text)))
    return modules


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def modules() -> list[Module]:
    found = load(ROOT / "src" / "oxherd")
    assert len(found) > 20, "the package was not found where it should be"
    return found
