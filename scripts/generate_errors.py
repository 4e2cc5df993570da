"""The error catalogue, ``docs/reference/errors.md``, read from the source: every code, every text, every hint."""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["Code", "page", "scan"]

SOURCE = Path(__file__).resolve().parent.parent / "src" / "oxherd"

HEAD = """# Error codes

<!-- Written by ./scripts/generate; change the source and run it again. -->

Every error has a stable code. It stands at the end of the message in square brackets, and as `code` in `--json` and in
the answers of the control socket. The first digit says what kind of error it is; each kind has an exit code.

| Codes | What went wrong | Exit code |
|---|---|---|
"""
FAMILIES = (
    ("OX1", "The oxfile, or an env_file", "2; warnings (OX150 and above) change no exit code"),
    ("OX2", "The command line or a request", "2"),
    ("OX3", "No supervisor answers, and none is wanted", "3"),
    ("OX4", "An operation was tried and did not work", "1"),
    ("OX5", "The other end of the control socket", "1"),
    ("OX6", "The machine refused: permissions, limits, disk", "1"),
    ("OX0", "Anything else", "1"),
)


@dataclass
class Code:
    """One error code and where it is used.

    Attributes:
        code: ``OX101``.
        modules: The modules that use it, relative to the package.
        classes: The names of the error classes whose default it is.
        meaning: One line from a ``CATALOGUE``, or "".
        texts: The messages, ``{placeholders}`` where values stand.
        hints: What the errors say should be done.
    """

    code: str
    modules: set[str] = field(default_factory=set)
    classes: set[str] = field(default_factory=set)
    meaning: str = ""
    texts: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)


def scan(source: Path = SOURCE) -> dict[str, Code]:
    """Return every code that the source uses, by code."""
    codes: dict[str, Code] = {}
    for path in sorted(source.rglob("*.py")):
        module = str(path.relative_to(source))
        for node in ast.walk(ast.parse(path.read_text())):
            _visit(node, module, codes)
    return dict(sorted(codes.items()))


def _entry(codes: dict[str, Code], code: str, module: str) -> Code:
    entry = codes.setdefault(code, Code(code))
    entry.modules.add(module)
    return entry


def _visit(node: ast.AST, module: str, codes: dict[str, Code]) -> None:
    match node:
        case ast.ClassDef():
            for statement in node.body:
                code = _assigned_code(statement)
                if code:
                    entry = _entry(codes, code, module)
                    entry.classes.add(node.name)
                    entry.meaning = entry.meaning or (ast.get_docstring(node) or "").partition("\n")[0].rstrip(".")
        case ast.Assign(targets=[ast.Name(id="CATALOGUE")], value=ast.Dict() as table):
            for key, value in zip(table.keys, table.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Constant):
                    _entry(codes, str(key.value), module).meaning = str(value.value)
        case ast.Call():
            _visit_call(node, module, codes)


def _assigned_code(statement: ast.stmt) -> str:
    match statement:
        case ast.Assign(targets=[ast.Name(id="code")], value=ast.Constant(value=str(code))) if code.startswith("OX"):
            return code
    return ""


def _visit_call(node: ast.Call, module: str, codes: dict[str, Code]) -> None:
    keywords = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
    positional = list(node.args)
    code = keywords.get("code")
    if code is None and positional and _is_code(positional[0]):
        # A helper that takes the code first: the text follows after the place.
        code = positional.pop(0)
        positional = [argument for argument in positional if _template(argument)]
    if code is None or not _is_code(code):
        return
    assert isinstance(code, ast.Constant)
    entry = _entry(codes, str(code.value), module)
    text = keywords.get("message") or (positional[0] if positional else None)
    for found, kept in ((text, entry.texts), (keywords.get("hint"), entry.hints)):
        template = _template(found) if found is not None else ""
        if template and template not in kept:
            kept.append(template)


def _is_code(node: ast.expr) -> bool:
    value = node.value if isinstance(node, ast.Constant) else None
    return isinstance(value, str) and len(value) == 5 and value.startswith("OX") and value[2:].isdigit()


def _template(node: ast.expr) -> str:
    """Return a text with its values as ``{placeholders}``; "" where it is no literal text."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_template(part) for part in parts)
        case ast.FormattedValue(value=ast.Constant(value=value)):
            return str(value)
        case ast.FormattedValue(value=value):
            return "{" + _placeholder(value) + "}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _template(left) + _template(right)
        case ast.IfExp(body=body, orelse=orelse):
            return _template(body) or _template(orelse)
    return ""


def _placeholder(node: ast.expr) -> str:
    """Name a value by the last word of its expression: ``error.strerror`` is strerror, ``len(names)`` is names."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name.lower().strip("_").replace("_", " ")
        case ast.GeneratorExp(generators=[first, *_]) | ast.ListComp(generators=[first, *_]):
            return _placeholder(first.iter)
        case ast.Call(args=[first, *_]):
            return _placeholder(first)
        case ast.Call(func=function):
            return _placeholder(function)
        case ast.Subscript(value=value):
            return _placeholder(value)
    return "value"


def page() -> str:
    """Return the whole page."""
    codes = scan()
    lines = [HEAD.rstrip("\n")]
    lines += [f"| {prefix}xx | {what} | {exit_code} |" for prefix, what, exit_code in FAMILIES]
    for prefix, what, _ in FAMILIES:
        family = [entry for code, entry in codes.items() if code.startswith(prefix)]
        if family:
            lines += ["", f"## {prefix}xx: {what[0].lower()}{what[1:]}"]
        for entry in family:
            lines += ["", *_section(entry)]
    return "\n".join(lines) + "\n"


def _section(entry: Code) -> list[str]:
    lines = [f"### {entry.code}"]
    if entry.meaning:
        lines += ["", f"{entry.meaning[0].upper()}{entry.meaning[1:]}."]
    if entry.texts:
        lines += ["", *(f"- `{_code_span(text)}`" for text in entry.texts)]
    if entry.hints:
        lines += ["", "What to do:", "", *(f"- {_escape(hint)}" for hint in entry.hints)]
    return lines


def _code_span(text: str) -> str:
    return text.replace("`", "'").replace("\n", " ")


def _escape(text: str) -> str:
    return text.replace("\n", " ").replace("<", "&lt;")
