"""The harness itself: it counts what is lost, and takes nothing for lost that is not."""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections import Counter

import pytest

from chaos.actions import ACTIONS
from chaos.events import EventFile
from chaos.logbook import LogBook, Tail
from chaos.report import LONG, TOLERANCE, as_json, growth, replay, table
from chaos.run import Options, Outcome, Violation, choose
from chaos.stack import Stack
from chaos.traffic import Kill, judge
from chaos.vitals import descriptors

# -- logs -----------------------------------------------------------------------------------------------------------


def lines(*numbers, name="7-1"):
    return b"".join(b"writer %b %d %b\n" % (name.encode(), number, b"." * (number % 61)) for number in numbers)


@pytest.fixture
def book(tmp_path):
    (tmp_path / "counters").mkdir()
    return LogBook(tmp_path / "writer.log", tmp_path / "counters")


def written(book, count, name="7-1"):
    (book._counters / name).write_bytes(struct.pack("<q", count))


def test_what_is_whole_has_no_findings(book, tmp_path):
    (tmp_path / "writer.log").write_bytes(lines(*range(200)) + b"oxherd: writer:0: killed by SIGKILL\n")
    written(book, 200)
    assert book.behind(book.written()) == {}
    assert (book.lost, book.doubled, book.findings, book.lines, book.beyond()) == (0, 0, [], 200, {})


@pytest.mark.parametrize(
    ("numbers", "lost", "doubled"),
    [([0, 1, 3], 1, 0), ([0, 1, 1, 2], 0, 1), ([2, 3], 2, 0), ([0, 1, 2, 0, 1, 2], 0, 3)],
)
def test_gaps_and_repetitions_are_counted(book, tmp_path, numbers, lost, doubled):
    (tmp_path / "writer.log").write_bytes(lines(*numbers))
    book.read()
    assert (book.lost, book.doubled) == (lost, doubled)
    assert book.findings


def test_a_line_that_is_cut_or_glued_is_torn(book, tmp_path):
    whole = lines(30)
    (tmp_path / "writer.log").write_bytes(lines(*range(30)) + whole[:-5] + b"\n" + whole[5:] + b"nonsense\n")
    book.read()
    assert len(book.torn) == 3


def test_what_is_not_there_yet_is_behind_and_what_nobody_wrote_is_beyond(book, tmp_path):
    (tmp_path / "writer.log").write_bytes(lines(0, 1, 2))
    written(book, 5)
    assert book.behind(book.written()) == {"7-1": 2}
    # The line between the write and the count may be there.
    written(book, 2)
    assert book.beyond() == {}
    written(book, 1)
    assert book.beyond() == {"7-1": 3}


def test_two_incarnations_are_two_accounts(book, tmp_path):
    (tmp_path / "writer.log").write_bytes(lines(0, 1, name="7-1") + lines(0, 1, 2, name="8-2"))
    book.read()
    assert (book.lost, book.doubled, book.lines) == (0, 0, 5)


def test_dropped_lines_are_those_that_oxherd_says(book, tmp_path):
    (tmp_path / "writer.log").write_bytes(lines(0, 1) + b"oxherd: 12 lines dropped\n" + lines(14))
    book.read()
    assert (book.lost, book.dropped) == (12, 12)


def test_what_a_dead_writer_left_unread_is_forgiven_to_it_alone(book, tmp_path):
    (tmp_path / "writer.log").write_bytes(lines(0, 1) + lines(0, name="77-1"))
    written(book, 4)
    written(book, 3, name="77-1")
    book.forgive(7)
    assert book.unread == 2
    assert book.behind(book.written()) == {"77-1": 2}


def test_a_log_is_read_through_all_its_rotations_once(tmp_path):
    path = tmp_path / "web.log"
    tail = Tail(path)
    assert tail.lines() == []
    path.write_bytes(b"1\n2\n3")
    assert tail.lines() == [b"1", b"2"]
    path.write_bytes(b"1\n2\n3\n4\n")
    path.rename(tmp_path / "web.log.1")
    (tmp_path / "web.log.2.gz").write_bytes(gzip.compress(b"5\n6\n"))
    path.write_bytes(b"7\n")
    assert tail.lines() == [b"3", b"4", b"5", b"6", b"7"]
    # What was read of the current file is not read again when it is rotated and compressed.
    (tmp_path / "web.log.3.gz").write_bytes(gzip.compress(b"7\n8\n"))
    path.write_bytes(b"9\n")
    assert tail.lines() == [b"8", b"9"]
    assert tail.lines() == []


# -- requests -------------------------------------------------------------------------------------------------------

KILLS = [Kill(at=10.0, gone=10.2, pid=7)]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({}, "allowed"),
        ({"class": "reset-fresh", "pid": None}, "allowed"),
        ({"begun": 10.1}, "allowed"),
        ({"begun": 10.3}, "disallowed"),
        ({"ended": 9.9}, "disallowed"),
        ({"pid": 8}, "disallowed"),
        ({"class": "refused"}, "disallowed"),
        ({"class": "wrong-status"}, "disallowed"),
        ({"class": "timeout"}, "disallowed"),
        ({"class": "client"}, "harness"),
    ],
)
def test_only_what_was_on_the_killed_process_may_fail(change, word):
    failure = {"class": "reset-reused-idle", "begun": 9.9, "ended": 10.1, "pid": 7, **change}
    assert judge(failure, KILLS, late=0.0, timeout=15.0) == word


def test_a_client_that_was_late_itself_says_nothing_of_a_timeout():
    failure = {"class": "timeout", "begun": 1.0, "ended": 16.0, "pid": None}
    assert judge(failure, [], late=14.0, timeout=15.0) == "harness"
    assert judge({**failure, "class": "refused"}, [], late=14.0, timeout=15.0) == "disallowed"


# -- events ---------------------------------------------------------------------------------------------------------


def test_events_are_read_once_through_a_change_of_their_file(tmp_path):
    path = tmp_path / "events.jsonl"
    events = EventFile(path)
    assert events.position() == 0

    def write(*kinds):
        with path.open("a") as file:
            file.writelines(json.dumps({"kind": kind, "text": kind, "name": "web"}) + "\n" for kind in kinds)

    write("a", "b")
    position = events.position()
    write("c")
    path.rename(tmp_path / "events.jsonl.1")
    write("d")
    assert [event["kind"] for event in events.since(position)] == ["c", "d"]
    assert events.matching(position, "d", "web", "d")
    assert not events.matching(position, "a")
    assert events.wait(position, "c", "web")["kind"] == "c"


# -- choosing -------------------------------------------------------------------------------------------------------


def test_a_seed_decides_and_each_action_comes_once_a_turn():
    names = list(ACTIONS)
    order = [choose(3, number, names) for number in range(1, 2 * len(names) + 1)]
    assert sorted(order[: len(names)]) == sorted(order[len(names) :]) == sorted(names)
    assert order == [choose(3, number, names) for number in range(1, 2 * len(names) + 1)]
    assert order != [choose(4, number, names) for number in range(1, 2 * len(names) + 1)]


def test_actions_are_chosen_and_left_out_by_name():
    assert Options(actions=("reload", "scale"), without=("scale",)).chosen() == ["reload"]
    assert Options().chosen() == list(ACTIONS)


# -- the stack ------------------------------------------------------------------------------------------------------


def test_the_oxfile_is_valid_in_every_shape(tmp_path):
    from oxherd.programs.compiled import compile_stack

    stack = Stack(tmp_path, spill=tmp_path)
    for _ in range(2):
        (tmp_path / "oxfile.toml").write_text(stack.oxfile())
        compiled = compile_stack(str(tmp_path / "oxfile.toml"), environ={})
        assert {process.name for process in compiled.oxfile.processes} >= {"web", "wsgi", "writer", "spiller", "single"}
        stack.extra, stack.remark = True, 1
        stack.turns = dict.fromkeys(["web", "writer", "single"], 1)


# -- the report -----------------------------------------------------------------------------------------------------


def outcome(**fields):
    phase = {"name": "1 reload", "requests": 30, "stall": {"seconds": 0.012}}
    return Outcome(
        **{
            "seed": 9,
            "actions": tuple(ACTIONS),
            "base": "/tmp/somewhere",
            "steps": [
                {
                    "step": 1,
                    "action": "reload",
                    "what": "/tmp/somewhere/x",
                    "failures": Counter(allowed=2),
                    "seconds": 1.0,
                    "violations": 0,
                }
            ],
            "reports": {"web": {"phases": [phase], "requests": 30}, "wsgi": {"phases": [phase], "requests": 30}},
            "logs": {"writer": {"lines": 5, "lost": 0, "doubled": 0, "dropped": 0, "unread": 0}},
            **fields,
        }
    )


def series(*memory):
    return [{"step": step, "era": 0, "descriptors": 70, "resident_bytes": bytes_} for step, bytes_ in enumerate(memory)]


def test_the_table_sums_an_action_over_services():
    assert "| reload | 1 | 60 | 2 | 0 | 0 | 12 | 0 |" in table(outcome())


def test_the_first_failure_says_how_to_come_back_to_it():
    failed = outcome(
        violations=[Violation(step=12, action="scale", whose="oxherd", text="too few")], kept="/tmp/somewhere"
    )
    assert replay(failed) == "./bench/chaos --seed 9 --steps 12"
    assert "seed 9, step 12" in table(failed)
    some = outcome(violations=failed.violations, actions=("reload", "scale"))
    assert replay(some) == "./bench/chaos --seed 9 --steps 12 --actions reload,scale"


def test_no_folder_of_the_machine_is_in_the_raw_data():
    text = as_json(outcome())
    assert "/tmp/somewhere" not in text
    assert json.loads(text)["actions"]["reload"]["requests"] == 60


@pytest.mark.parametrize(
    ("end", "steps", "flat"),
    [(0, LONG, True), (TOLERANCE, LONG, True), (TOLERANCE + 1, LONG, False), (9 * TOLERANCE, LONG - 1, True)],
)
def test_a_supervisor_is_flat_from_the_middle_of_its_life_on(end, steps, flat):
    """What is loaded when it is first used, early, is no growth; a short life says nothing."""
    third = steps // 3
    memory = [10**7] * third + [2 * 10**7] * (steps - 2 * third) + [2 * 10**7 + end] * third
    (era,) = growth(outcome(series=series(*memory)))
    assert era["flat"] is flat


def test_a_log_is_the_same_log_in_the_middle_of_its_rotation(tmp_path):
    log = tmp_path / "writer.log"
    with log.open("w"):
        before = descriptors(os.getpid())
        log.rename(tmp_path / "writer.log.7")
        assert descriptors(os.getpid()) == before
        assert before[str(log)] == 1
        with log.open("w"):
            assert descriptors(os.getpid())[str(log)] == 2
