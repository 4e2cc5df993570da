"""Reloads of more than one process, of programs that cannot overlap, of certificates, and by signal."""

from __future__ import annotations

import os
import shutil
import signal
import ssl

import pytest
import trustme

from oxherd.control.paths import stack_id
from support.eventstream import EventStream
from support.harness import program
from support.services import unused_port
from support.waiting import DEADLINE, wait_gone, wait_until
from support.web import APPS, Gates, ask, left_of, server_pids, try_ask, write_code

APP = """
[processes.{name}]
app = "{module}:app"
bind = "127.0.0.1:{port}"
workers = 2
{more}
"""


class Pair:
    """Two hosted processes of one stack: ``api`` needs ``web``."""

    def __init__(self, ox):
        Gates(ox)
        self.ox, self.ports = ox, (unused_port(), unused_port())
        self.folder = ox.oxfile(
            APP.format(name="web", module="web_app", port=self.ports[0], more="")
            + APP.format(name="api", module="api_app", port=self.ports[1], more='depends_on = ["web"]')
        )
        for name in ("web", "api"):
            text = (APPS / "hosted.py").read_text().replace("from release import", f"from {name}_release import")
            (self.folder / f"{name}_app.py").write_text(text)
            self.write(name, "VERSION = 1\n")
        ox.ok("start")

    def write(self, name, text):
        write_code(self.folder / f"{name}_release.py", text)

    def versions(self):
        return [{ask(port, "/").json["version"] for _ in range(8)} for port in self.ports]


def test_several_processes_are_reloaded_as_one(ox):
    pair = Pair(ox)
    for name in ("web", "api"):
        pair.write(name, "VERSION = 2\n")
    done = ox.ok("reload", "--json").json
    assert {fact["process"]: fact["result"] for fact in done["reloads"]} == {"web": "done", "api": "done"}
    assert pair.versions() == [{2}, {2}]


def test_if_one_of_them_does_not_work_all_stay_as_they_were(ox):
    pair = Pair(ox)
    before = ox.pids()
    pair.write("web", "VERSION = 2\n")
    pair.write("api", "raise ValueError('no tea')\n")
    result = ox.cli("reload")
    assert result.code == 1
    assert "no tea" in result.err
    assert ox.pids() == before
    assert pair.versions() == [{1}, {1}]


def test_a_program_with_a_port_of_its_own_is_replaced_and_taken_back(ox):
    """Without overlap: the old one goes first; if the new one does not come up, the old settings come back."""
    port = unused_port()
    oxfile = '[processes.web]\ncommand = "{command}"\ninstances = 2\n[processes.web.health_check]\ntcp = "127.0.0.1:{port}{{instance}}"\n'
    port = int(str(port)[:4])
    good = program("answers", f"{port}{{instance}}", "nothing")
    ox.oxfile(oxfile.format(command=good, port=port))
    ox.ok("start")
    first = ox.pids()
    ox.ok("reload")
    second = ox.pids()
    assert not set(first.values()) & set(second.values())
    ox.oxfile(oxfile.format(command=program("exits", 3), port=port))
    result = ox.cli("reload")
    assert result.code == 1
    assert "exited with 3" in result.err
    third = ox.pids()
    assert third["web:1"] == second["web:1"]
    assert third["web:0"] not in {None, second["web:0"]}
    assert {row["status"] for row in ox.rows()} == {"running"}
    assert try_ask(int(f"{port}0"), "/").status == 200


def test_settings_and_the_number_of_workers_come_with_a_reload(ox):
    Gates(ox)
    port, other = unused_port(), unused_port()
    text = APP.format(name="web", module="hosted", port=port, more="")
    folder = ox.oxfile(text)
    shutil.copy(APPS / "hosted.py", folder)
    write_code(folder / "release.py", "VERSION = 1\n")
    ox.ok("start")
    old = set(ox.pids().values())
    ox.oxfile(text.replace("workers = 2", "workers = 3").replace(str(port), str(other)))
    ox.ok("reload")
    assert server_pids(other, 3) == set(ox.pids().values())
    assert left_of(old) == []
    assert try_ask(port, "/") is None


def test_a_renewed_certificate_is_served_by_workers_that_replace_the_old_ones(ox):
    Gates(ox)
    port = unused_port()
    authority = trustme.CA()
    more = 'ssl_certfile = "cert.pem"\nssl_keyfile = "key.pem"\n'
    folder = ox.oxfile(APP.format(name="web", module="hosted", port=port, more=more))
    shutil.copy(APPS / "hosted.py", folder)
    write_code(folder / "release.py", "VERSION = 1\n")

    def renew():
        issued = authority.issue_cert("localhost")
        for pem, name in ((issued.private_key_pem, "key.pem"), (issued.cert_chain_pems[0], "cert.pem")):
            pem.write_to_path(str(folder / f"{name}.new"))
            os.replace(folder / f"{name}.new", folder / name)

    def served():
        return ssl.get_server_certificate(("127.0.0.1", port))

    renew()
    ox.ok("start")
    first = served()
    old = set(ox.pids().values())
    renew()
    wait_until(lambda: not old & set(ox.pids().values()), "new workers")
    wait_until(lambda: served() != first, "the new certificate")
    assert "cert.pem" in ox.wait("recycle", name="web")["text"]


@pytest.fixture
def run(ox):
    """A hosted process under `oxherd run`, its events, and the process itself."""
    Gates(ox)
    port = unused_port()
    folder = ox.oxfile(APP.format(name="web", module="hosted", port=port, more=""))
    shutil.copy(APPS / "hosted.py", folder)
    write_code(folder / "release.py", "VERSION = 1\n")
    process = ox.popen("run")
    path = ox.home.run_socket(stack_id(ox.stack))
    wait_until(lambda: os.path.exists(path), "the run to take connections")
    events = EventStream(path)
    events.wait("ready", count=2, name="web")
    yield process, events, port, folder
    events.close()


def supervisor_of(events):
    return int(events.wait("supervisor-started")["pid"])


def test_a_run_reloads_and_scales_by_signal(run):
    process, events, port, folder = run
    supervisor = supervisor_of(events)
    write_code(folder / "release.py", "VERSION = 2\n")
    os.kill(supervisor, signal.SIGHUP)
    events.wait("reloaded", name="web")
    assert {ask(port, "/").json["version"] for _ in range(8)} == {2}
    os.kill(supervisor, signal.SIGTTIN)
    assert len(server_pids(port, 3)) == 3
    os.kill(supervisor, signal.SIGTTOU)
    events.wait("stopped", name="web", instance=2)
    write_code(folder / "release.py", "VERSION = 3 +\n")
    os.kill(supervisor, signal.SIGHUP)
    assert "SyntaxError" in events.wait("reload-failed", name="web")["text"]
    assert {ask(port, "/").json["version"] for _ in range(8)} == {2}
    os.kill(supervisor, signal.SIGQUIT)
    output, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, output
    wait_gone(supervisor)


def test_blue_and_green_are_two_stacks_side_by_side(ox):
    """Two oxfiles, one app, another port: what was learned from one is not forgotten by the other."""
    Gates(ox)
    blue, green = unused_port(), unused_port()
    folder = ox.oxfile(APP.format(name="web", module="hosted", port=blue, more=""))
    shutil.copy(APPS / "hosted.py", folder)
    write_code(folder / "release.py", "VERSION = 1\n")
    (folder / "oxfile.green.toml").write_text(
        'name = "green"\n' + APP.format(name="web", module="hosted", port="${PORT}", more="")
    )
    ox.ok("start")
    write_code(folder / "release.py", "VERSION = 2\n")
    ox.ok("start", "--config", "oxfile.green.toml", env={"PORT": str(green)})
    assert ask(blue, "/").json["version"] == 1
    assert ask(green, "/").json["version"] == 2
    ox.ok("stop")
    assert try_ask(blue, "/") is None
    assert ask(green, "/").json["version"] == 2
    ox.ok("stop", "--config", "oxfile.green.toml")
