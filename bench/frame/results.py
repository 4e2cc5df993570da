"""The files of results: one a run and kind, compact, without a path of the machine."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from frame.session import FORMAT, Results

__all__ = ["newest", "write"]


def write(folder: Path, results: Results) -> Path:
    """Write the results of one kind and return the file. Those of a quick run, and of a part of what a kind measures, are
    named so and never reported on.

    One line a figure: compact, and a difference between two runs can still be read. What was there is replaced at once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp = time.strftime("%Y-%m-%d-%H%M", time.strptime(str(results["date"]), "%Y-%m-%d %H:%M"))
    suffix = ("-quick" if results["quick"] else "") + ("-part" if results["partial"] else "")
    path = folder / f"{results['kind']}-{stamp}{suffix}.json"

    def compact(value: object) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)

    heads = {key: value for key, value in results.items() if key != "figures"}
    lines = [f"{compact(key)}:{compact(value)}" for key, value in heads.items()]
    figures = ",\n".join(f"{compact(name)}:{compact(value)}" for name, value in results["figures"].items())
    fresh = path.with_suffix(".new")
    fresh.write_text("{" + ",\n".join([*lines, '"figures":{\n' + figures + "}"]) + "}\n")
    return fresh.replace(path)


def newest(folder: Path, kind: str) -> Results | None:
    """Return the newest complete results of a kind, None if there are none."""
    name = re.compile(rf"{re.escape(kind)}-\d{{4}}-\d\d-\d\d-\d{{4}}\.json")
    for path in sorted((path for path in folder.glob(f"{kind}-*.json") if name.fullmatch(path.name)), reverse=True):
        results: Results = json.loads(path.read_text())
        if results.get("format") == FORMAT:
            return results
    return None
