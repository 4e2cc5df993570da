"""Reads the oxfile of a stack that is brought back: ``python -m oxherd.satellites.compile STACK.JSON``.

The argument is the record the supervisor keeps of the stack; the environment for ``${VAR}`` is the one kept there, not
this process's own. Prints one JSON object: ``{"oxfile": {...}}``, or ``{"problems": "..."}`` when the file cannot be used
as it is now.
"""

from __future__ import annotations

import json
import sys

from oxherd.config.codec import encode
from oxherd.errors import OxherdError
from oxherd.programs.compiled import compile_stack

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Compile the stack of a record and print what came of it."""
    (record_path,) = arguments
    with open(record_path, encoding="utf-8", errors="surrogateescape") as file:
        record = json.load(file)
    try:
        compiled = compile_stack(
            record["path"], profile=record.get("profile"), environ=record.get("env", {}), strict_files=True
        )
    except OxherdError as error:
        answer: dict[str, object] = {"problems": error.render()}
    else:
        answer = {"oxfile": encode(compiled.oxfile)}
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
