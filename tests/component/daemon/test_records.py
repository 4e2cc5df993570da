"""The record of a stack: one write a turn, on the disk before anybody is told."""

from __future__ import annotations

import errno
import json
import os
import socket

import pytest

from oxherd.config.model import StopSpec
from oxherd.control.protocol import request_line
from oxherd.control.request import Request
from oxherd.daemon.records import other_specs
from oxherd.errors import UsageError
from support.workbench import Answer, Workbench, spec


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(tmp_path)
    yield bench
    bench.close()


def record(bench: Workbench) -> dict[str, object]:
    (stack,) = bench.supervisor.stacks.values()
    with open(os.path.join(bench.home.stack(stack.identity), "stack.json")) as file:
        return json.load(file)


def test_a_hundred_commands_of_one_turn_are_one_write(bench, monkeypatch):
    """An fsync can take tens of milliseconds, in which the supervisor hears nothing."""
    bench.up(spec("a"), spec("b"))
    written = []
    save = bench.assembly.journal.save_stack
    monkeypatch.setattr(bench.assembly.journal, "save_stack", lambda *args: written.append(args) or save(*args))
    for number in range(100):
        args = {"stack": bench.path, "names": ["a"]}
        verb = "stop" if number % 2 else "restart"
        bench.assembly.verbs.dispatch(Request(id=number, verb=verb, args=args), Answer())
    assert written == []
    bench.loop.advance(0)
    assert len(written) == 1
    assert record(bench)["processes"]["a"]["wanted"] is False
    assert record(bench)["processes"]["b"]["wanted"] is True


def test_a_record_the_disk_has_refused_is_written_as_soon_as_it_can_be(bench, monkeypatch):
    """Nothing changes meanwhile, and the trouble is told once."""
    bench.up(spec("a"))
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def refuse(*_args, **_kwargs):
        raise full

    with monkeypatch.context() as patched:
        patched.setattr("oxherd.daemon.journal.replace_file", refuse)
        bench.ask("stop")
        bench.loop.advance(60)
    assert record(bench)["processes"]["a"]["wanted"] is True
    assert len([text for text in bench.events("state-trouble") if "stack.json" in text]) == 1
    bench.loop.advance(10)
    assert record(bench)["processes"]["a"]["wanted"] is False
    timers = bench.loop.timers
    bench.loop.advance(60)
    assert bench.loop.timers <= timers


def test_what_an_answer_says_is_on_the_disk_before_it_is_sent(bench):
    """Whoever pulls the plug after the answer to a stop does not find the process running after the reboot."""
    bench.up(spec("a"))
    bench.assembly.open()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(bench.home.socket)
        client.setblocking(False)
        lines = [request_line(identity=1, version="test", verb="ping", args={})]
        lines.append(request_line(identity=2, version="test", verb="stop", args={"stack": bench.path, "names": []}))
        client.sendall(b"".join(lines))
        told = bytearray()

        def answered() -> bool:
            try:
                told.extend(client.recv(65536))
            except BlockingIOError:
                return False
            return True

        bench.loop.run_until(answered)
        assert record(bench)["wanted"] is False
    bench.assembly._server.close()


def test_a_stack_that_is_forgotten_in_the_turn_in_which_it_changed_stays_forgotten(bench):
    """The write that was due for it must not bring it back."""
    bench.up(spec("a"))
    (stack,) = bench.supervisor.stacks.values()
    bench.ask("stop")
    bench.loop.advance(10)
    bench.assembly.records.save(stack)
    assert bench.assembly.keeper.forget(stack, ["a"]) == ["a"]
    bench.loop.advance(0)
    assert not os.path.exists(os.path.join(bench.home.stack(stack.identity), "stack.json"))
    bench.up(spec("a"))


def test_what_is_started_while_it_is_deleted_is_not_forgotten(bench):
    """A program nobody knows of any more could never be stopped."""
    bench.up(spec("a"), spec("b"))
    bench.system.obedient = False
    delete = bench.ask("delete", names=["a"])
    start = bench.ask("start", names=["a"])
    bench.loop.advance(60)
    assert delete.value["deleted"] == []
    assert delete.failed == {"a": "it was started again meanwhile"}
    assert start.failed == {}
    assert bench.status() == {"a": "running", "b": "running"}


def test_settings_that_an_instance_still_runs_under_are_kept_until_its_end(bench):
    """Whoever supervises it next stops it by its own stop timeout, not by that of an oxfile it does not run under yet."""
    old = spec("web", instances=2, stop=StopSpec(timeout=77.0))
    bench.up(old)
    new = spec("web", instances=2, stop=StopSpec(timeout=5.0))
    answer = bench.ask("start", new)
    assert "older settings" in str(answer.value or answer.steps)
    stack = bench.assembly.keeper.stack(bench.path)
    process = stack.processes["web"]
    process.spec = new
    bench.assembly.records.save(stack)
    bench.loop.advance(0)
    keys = {handle.key for handle in process.instances.values()}
    assert other_specs(record(bench), "web") == dict.fromkeys(keys, old)
    assert other_specs(record(bench), "none") == {}
    assert other_specs({}, "web") == {}
    bench.ask("restart", names=["web:0"])
    bench.loop.advance(1)
    assert other_specs(record(bench), "web") == {process.instances[1].key: old}
    bench.ask("restart")
    bench.loop.advance(1)
    assert "others" not in record(bench)["processes"]["web"]


@pytest.mark.parametrize(
    "damage",
    [[], {"web": []}, {"web": {"others": []}}, {"web": {"others": {"key": 1}}}, {"web": {"others": {"key": {}}}}],
)
def test_settings_that_cannot_be_read_are_an_error_and_no_guess(damage):
    with pytest.raises((TypeError, ValueError, KeyError, UsageError)):
        other_specs({"processes": damage}, "web")
