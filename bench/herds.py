"""The supervisors, each by its own commands and in its recommended settings: how to start, ask, restart and stop it."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from frame.places import BENCH, BIN, executable
from frame.processes import alive, free_port, wait_for
from herd import CLIENTS, Herd, HerdKind, Logs

__all__ = ["CIRCUS", "HERDS", "OXHERD", "OXMGR", "PM2", "SUPERVISORD"]


class Oxherd(Herd):
    """This project."""

    def configure(self) -> None:
        logs = self.logs
        options = f"[logging]\nmax_size_mb = {logs.max_mb}\nmax_files = {logs.files}\n" if logs else ""
        tables = [
            f'[processes.p{index}]\ncommand = {json.dumps(command)}\nrestart = "always"\n'
            for index, command in enumerate(self.commands)
        ]
        (self.folder / "oxfile.toml").write_text(options + "\n".join(tables))

    def launch(self) -> None:
        self.run(BIN / "oxherd", "start", "--quiet")

    def launch_empty(self) -> None:
        self.child = subprocess.Popen(
            [BIN / "oxherd", "daemon", "run"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def find(self) -> int:
        if not self.answers():
            return 0
        return int(json.loads(self.run(BIN / "oxherd", "daemon", "status", "--json").stdout)["pid"])

    def socket(self) -> Path:
        return next(self.folder.glob("home/**/control.sock"), self.folder / "none")

    def status(self) -> None:
        self.run(BIN / "oxherd", "status")

    def restart(self, index: int) -> None:
        self.run(BIN / "oxherd", "restart", f"p{index}")

    def stop(self) -> None:
        self.run(BIN / "oxherd", "stop")

    def quit(self) -> None:
        self.run(BIN / "oxherd", "daemon", "stop")
        if child := getattr(self, "child", None):
            child.wait()

    def rate(self, seconds: float) -> float:
        return self._client(BIN / "python", CLIENTS / "oxherd_rate.py", self.socket(), seconds)


class Supervisord(Herd):
    """supervisord 4: one section a program, its defaults."""

    def configure(self) -> None:
        folder, logs = self.folder, self.logs
        rotation = f"stdout_logfile_maxbytes={logs.max_mb}MB\nstdout_logfile_backups={logs.files}\n" if logs else ""
        sections = "".join(
            f"[program:p{index}]\ncommand={command}\nautorestart=true\n{rotation}"
            for index, command in enumerate(self.commands)
        )
        (folder / "s.conf").write_text(
            f"[supervisord]\nlogfile={folder}/s.log\npidfile={folder}/s.pid\nchildlogdir={folder}\nminfds=8192\n"
            f"[unix_http_server]\nfile={folder}/s.sock\n[supervisorctl]\nserverurl=unix://{folder}/s.sock\n"
            "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n"
            + sections
        )

    def launch(self) -> None:
        self.run(BIN / "supervisord", "-c", "s.conf")

    def find(self) -> int:
        return self._number(self.folder / "s.pid")

    def socket(self) -> Path:
        return self.folder / "s.sock"

    def _control(self, *words: str) -> None:
        self.run(BIN / "supervisorctl", "-c", "s.conf", *words, check=False)

    def status(self) -> None:
        self._control("status")

    def restart(self, index: int) -> None:
        self._control("restart", f"p{index}")

    def stop(self) -> None:
        self._control("stop", "all")

    def rate(self, seconds: float) -> float:
        return self._client(BIN / "python", CLIENTS / "supervisord_rate.py", self.socket(), seconds)


class Circus(Herd):
    """circusd: one watcher a program, without its pause between starts (``warmup_delay``), without which it sleeps."""

    def configure(self) -> None:
        folder, logs = self.folder, self.logs
        sections = []
        for index, command in enumerate(self.commands):
            # Without a stream circusd leaves the output to whoever started it.
            rotation = (
                f"stdout_stream.class=FileStream\nstdout_stream.filename={folder}/p{index}.log\n"
                f"stdout_stream.max_bytes={logs.max_mb << 20}\nstdout_stream.backup_count={logs.files}\n"
                if logs
                else ""
            )
            sections.append(f"[watcher:p{index}]\ncmd={command}\nwarmup_delay=0\ncopy_env=True\n{rotation}")
        (folder / "c.ini").write_text(
            f"[circus]\nendpoint=ipc://{folder}/e\npubsub_endpoint=ipc://{folder}/p\nstatsd=False\nwarmup_delay=0\n"
            + "".join(sections)
        )

    def launch(self) -> None:
        self.run(
            *(BIN / "circusd", "--daemon", "--pidfile", self.folder / "c.pid"),
            *("--log-output", self.folder / "c.log", "c.ini"),
        )

    def find(self) -> int:
        return self._number(self.folder / "c.pid")

    def socket(self) -> Path:
        return self.folder / "e"

    def _control(self, *words: str) -> None:
        self.run(BIN / "circusctl", "--timeout", "60", "--endpoint", f"ipc://{self.folder}/e", *words)

    def status(self) -> None:
        self._control("status")

    def restart(self, index: int) -> None:
        self._control("restart", f"p{index}")

    def stop(self) -> None:
        self._control("stop")

    def quit(self) -> None:
        # SIGTERM is not heeded by one whose watchers are stopped.
        self._control("quit")
        wait_for(lambda: not alive(self.pid), "the end of circusd", deadline=20)

    def rate(self, seconds: float) -> float:
        return self._client(BIN / "python", CLIENTS / "circus_rate.py", self.socket(), seconds)


class Pm2(Herd):
    """PM2 in fork mode, started from an ecosystem file as its documentation says."""

    def configure(self) -> None:
        apps = [
            {"name": f"p{index}", "script": words[0], "args": list(words[1:]), "interpreter": "none", "cwd": "/"}
            for index, words in enumerate(self.argvs)
        ]
        (self.folder / "ecosystem.config.json").write_text(json.dumps({"apps": apps}))

    def _pm2(self, *words: object) -> None:
        program = executable("pm2")
        assert program is not None  # missing() has looked
        self.run(program, *words)

    def launch(self) -> None:
        self._pm2("start", "ecosystem.config.json")

    def launch_empty(self) -> None:
        self._pm2("ping")  # starts the daemon if there is none

    def find(self) -> int:
        return self._number(self.folder / "pm2" / "pm2.pid")

    def socket(self) -> Path:
        return self.folder / "pm2" / "rpc.sock"

    def status(self) -> None:
        self._pm2("status")

    def restart(self, index: int) -> None:
        self._pm2("restart", f"p{index}")

    def stop(self) -> None:
        self._pm2("stop", "all")

    def quit(self) -> None:
        self._pm2("kill")

    def rate(self, seconds: float) -> float:
        return self._client("node", CLIENTS / "pm2_rate.js", BENCH / "node_modules" / "pm2", seconds)


class Oxmgr(Herd):
    """Oxmgr by its own dialect of the oxfile, controlled over TCP on the loopback, at ports of its own."""

    def __init__(self, folder: Path, commands: Sequence[Sequence[str]], logs: Logs | None) -> None:
        """Give it its ports."""
        super().__init__(folder, commands, logs)
        self.address = f"127.0.0.1:{free_port()}"
        self.env |= {"OXMGR_DAEMON_ADDR": self.address, "OXMGR_API_ADDR": f"127.0.0.1:{free_port()}"}
        if logs:
            self.env |= {"OXMGR_LOG_MAX_SIZE_MB": str(logs.max_mb), "OXMGR_LOG_MAX_FILES": str(logs.files)}

    def configure(self) -> None:
        tables = [
            f'[[apps]]\nname = "p{index}"\ncommand = {json.dumps(command)}\nrestart_policy = "always"\n'
            for index, command in enumerate(self.commands)
        ]
        (self.folder / "oxfile.toml").write_text("version = 1\n" + "\n".join(tables))

    def _oxmgr(self, *words: object) -> None:
        self.run(BENCH / ".cargo" / "bin" / "oxmgr", *words)

    def launch(self) -> None:
        self._oxmgr("apply", "oxfile.toml")

    def launch_empty(self) -> None:
        self._oxmgr("list")  # starts the daemon if there is none

    def find(self) -> int:
        # It keeps its pid nowhere: it is the one with our home.
        home = f"OXMGR_HOME={self.env['OXMGR_HOME']}".encode()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it may end while it is looked at
                daemon = entry.name.isdecimal() and (entry / "cmdline").read_bytes().endswith(b"oxmgr\0daemon\0run\0")
                if daemon and home in (entry / "environ").read_bytes().split(b"\0"):
                    return int(entry.name)
        return 0

    def answers(self) -> bool:
        host, _, port = self.address.partition(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except OSError:
            return False
        return True

    def status(self) -> None:
        self._oxmgr("list")

    def restart(self, index: int) -> None:
        self._oxmgr("restart", f"p{index}")

    def stop(self) -> None:
        # It has no word for all.
        for index in range(len(self.commands)):
            self._oxmgr("stop", f"p{index}")

    def quit(self) -> None:
        self._oxmgr("daemon", "stop")

    def rate(self, seconds: float) -> float:
        return self._client(BIN / "python", CLIENTS / "oxmgr_rate.py", self.address, seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class OxmgrKind(HerdKind):
    """Oxmgr is looked for where it is installed to only: Oxherd answers to that name too."""

    def missing(self) -> str | None:
        """Return why it cannot be measured here, None if it can."""
        if (BENCH / ".cargo" / "bin" / "oxmgr").exists():
            return None
        note = BENCH / ".skipped" / "oxmgr"
        return note.read_text().strip() if note.exists() else "oxmgr is not installed"


OXHERD = HerdKind(name="oxherd", program="oxherd", herd=Oxherd)
SUPERVISORD = HerdKind(name="supervisord", program="supervisord", herd=Supervisord, package="supervisor")
CIRCUS = HerdKind(name="circus", program="circusd", herd=Circus, package="circus")
PM2 = HerdKind(name="pm2", program="pm2", herd=Pm2)
OXMGR = OxmgrKind(name="oxmgr", program="oxmgr", herd=Oxmgr)
HERDS = (OXHERD, SUPERVISORD, CIRCUS, PM2, OXMGR)
