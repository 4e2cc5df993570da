"""The rules of the house that a reader should not have to remember."""

from __future__ import annotations

import ast
import re

import pytest

LONGEST = 450
# Where sleeping blocks nobody but the sleeper: the satellites and the hosts, each a process of its own.
MAY_SLEEP = (
    "oxherd.cli",
    "oxherd.tui",
    "oxherd.console",
    "oxherd.host",
    "oxherd.satellites",
    "oxherd.control.client",
    "oxherd.system.logs.follow",
)
LEFT_OVERS = re.compile(r"\b(TO" r"DO|FIX" r"ME|X" r"XX|HA" r"CK)\b|NotImplemented" r"Error")


def calls_of_sleep(tree: ast.Module) -> list[int]:
    lines = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(args=[ast.Constant(value=0)]):
                continue  # one turn of an event loop, which waits for no time
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time" | "asyncio"), attr="sleep")):
                lines.append(node.lineno)
            case ast.Call(func=ast.Name(id="sleep")):
                lines.append(node.lineno)
    return lines


def test_a_module_is_one_noun(modules):
    """A module that passes the limit is split by noun."""
    long = {module.name: len(module.text.splitlines()) for module in modules}
    assert {name: lines for name, lines in long.items() if lines > LONGEST} == {}


def test_every_module_says_what_it_is(modules):
    """The first thing in a module is a docstring."""
    assert [module.name for module in modules if not ast.get_docstring(module.tree)] == []


def test_every_public_module_says_what_it_offers(modules):
    """`__all__` is the module's promise; everything else in it may change."""

    def names(module) -> set[str]:
        return {
            target.id
            for node in module.tree.body
            if isinstance(node, (ast.Assign, ast.AnnAssign))
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }

    assert [module.name for module in modules if not module.private and "__all__" not in names(module)] == []


def test_annotations_are_never_evaluated(modules):
    """Types are free at run time: every module with code postpones them."""
    late = [
        module.name
        for module in modules
        if any(isinstance(node, (ast.FunctionDef, ast.ClassDef)) for node in module.tree.body)
        and "from __future__ import annotations" not in module.text
    ]
    assert late == []


def test_nothing_sleeps_in_the_supervisor(modules):
    """One wait, in the loop; everything else is a timer."""
    sleepers = [
        f"{module.path.name}:{line}"
        for module in modules
        if not module.name.startswith(MAY_SLEEP)
        for line in calls_of_sleep(module.tree)
    ]
    assert sleepers == []


def test_no_test_sleeps(root):
    """A test waits for an event, with a deadline. Fixture programs may dawdle: that is what they are for."""
    sleepers = []
    for path in sorted((root / "tests").rglob("*.py")):
        place = path.relative_to(root)
        folders = place.parts[2:-1]
        if place.parts[1:2] == ("support",) or any(name.endswith(("apps", "fixtures", "programs")) for name in folders):
            continue
        sleepers += [f"{place}:{line}" for line in calls_of_sleep(ast.parse(path.read_text()))]
    assert sleepers == []


@pytest.mark.parametrize("folder", ["src", "scripts", "tests", "examples"])
def test_nothing_is_left_for_later(root, folder):
    """What is not done is not begun: no reminders in the source."""
    found = [
        f"{path.relative_to(root)}:{number}"
        for path in sorted((root / folder).rglob("*"))
        if path.is_file() and path.suffix in {".py", ".toml", ".md", ""} and "__pycache__" not in path.parts
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if LEFT_OVERS.search(line)
    ]
    assert found == []


def test_no_failure_is_swallowed_without_a_word(modules):
    """`except Exception: pass` hides what a person has to know."""
    silent = []
    for module in modules:
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.ExceptHandler):
                continue
            broad = node.type is None or (
                isinstance(node.type, ast.Name) and node.type.id in {"Exception", "BaseException"}
            )
            if broad and all(isinstance(statement, ast.Pass) for statement in node.body):
                silent.append(f"{module.name}:{node.lineno}")
    assert silent == []
