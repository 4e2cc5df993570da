"""A stack with one hosted process, its app in a folder of the test's own."""

from __future__ import annotations

import shutil

from support.services import unused_port
from support.web import APPS, Gates, ask, write_code

__all__ = ["Hosted"]

OXFILE = """
[processes.web]
app = "hosted:app"
bind = "127.0.0.1:{port}"
workers = {workers}
{more}
[processes.web.health_check]
endpoint = "http://127.0.0.1:{port}/health"
readiness = "http://127.0.0.1:{port}/ready"
interval_secs = 1
"""


class Hosted:
    """A stack with one hosted process, its app in a folder of the test's own."""

    def __init__(self, ox, *, workers=2, more=""):
        self.ox, self.port = ox, unused_port()
        self.gates = Gates(ox)
        folder = ox.oxfile(OXFILE.format(port=self.port, workers=workers, more=more))
        shutil.copy(APPS / "hosted.py", folder)
        self.release = folder / "release.py"
        self.write("VERSION = 1\n")

    def write(self, text):
        """Write the part of the app that changes from release to release."""
        write_code(self.release, text)

    def start(self):
        self.ox.ok("start")
        return self

    def ask(self, path="/"):
        return ask(self.port, path).json

    def versions(self, count=12):
        return {self.ask()["version"] for _ in range(count)}

    def pids(self):
        return set(self.ox.pids().values())

    def zygote(self):
        """The pid of the zygote: the parent of the workers."""
        return self.ask()["parent"]
