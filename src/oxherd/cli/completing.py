"""Names for the shell's completion. Reads the oxfile without judging it: completion must be quick and never fail."""

from __future__ import annotations

import tomllib

from oxherd.cli.where import oxfile_here

__all__ = ["process_names"]


def process_names() -> list[str]:
    """Return the names of the processes in this directory's oxfile; none where it cannot be read."""
    path = oxfile_here()
    if path is None:
        return []
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except (OSError, ValueError):
        return []
    processes, apps = document.get("processes"), document.get("apps")
    names = list(processes) if isinstance(processes, dict) else []
    for app in apps if isinstance(apps, list) else []:
        if isinstance(app, dict) and isinstance(app.get("name"), str):
            names.append(app["name"])
    return names
