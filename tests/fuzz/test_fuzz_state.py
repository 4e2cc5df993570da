"""Files that a crash, a full disk or a hand has spoilt are set aside or skipped; the supervisor begins all the same."""

from __future__ import annotations

import json
import os
import tempfile

from hypothesis import example, given
from hypothesis import strategies as st

from oxherd.config.codec import decode
from oxherd.config.model import Oxfile
from oxherd.control.paths import Home
from oxherd.daemon.eventlog import EventLog
from oxherd.daemon.journal import Journal
from oxherd.host.meters import SIZE, Meters
from oxherd.system.identity import ProcStat
from oxherd.system.logs.index import IndexReader

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
RECORD = {"key": "h:x/web/0", "pid": 5, "ticks": 7, "incarnation": 1, "state": "running", "restarts": 0, "failures": 0}
LINE = st.builds(
    lambda record, cut: json.dumps(record).encode()[: cut or None], JSON | st.just(RECORD), st.integers(0, 40)
)
LINES = st.lists(LINE | st.binary(max_size=30), max_size=6).map(b"\n".join)


def home_in(folder):
    home = Home(runtime=os.path.join(folder, "run"), state=os.path.join(folder, "state"))
    home.prepare()
    return home


@given(LINES)
def test_the_journal_of_instances(data):
    with tempfile.TemporaryDirectory() as folder:
        home = home_in(folder)
        with open(os.path.join(home.state, "instances.jsonl"), "wb") as file:
            file.write(data + b"\n")
        told = []
        journal = Journal(home, told.append)
        for key, record in journal.load_instances().items():
            assert isinstance(key, str)
            assert isinstance(record, dict)
        journal.save_instance("new", {"pid": 1})
        journal.close()
        assert Journal(home, told.append).load_instances()["new"]["pid"] == 1


@given(st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
def test_the_record_of_a_stack(data):
    with tempfile.TemporaryDirectory() as folder:
        home = home_in(folder)
        os.makedirs(home.stack("abc"))
        path = os.path.join(home.stack("abc"), "stack.json")
        with open(path, "wb") as file:
            file.write(data)
        told = []
        records = Journal(home, told.append).load_stacks()
        # Taken, or set aside and told.
        assert bool(records) != bool(told)
        assert os.path.exists(path) is bool(records)


@given(JSON)
@example({"path": "/x", "name": "x", "processes": [{"name": "web", "health": {}}]})
def test_a_record_of_another_version_is_refused_by_name(value):
    """What `StackKeeper.load` and the control server expect of `decode`."""
    if not isinstance(value, dict):
        return
    try:
        decode(Oxfile, value)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        assert not isinstance(error, AttributeError), error


@given(LINES)
@example(b"[" * 50_000)
def test_the_events_of_before(data):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "events.jsonl")
        with open(path, "wb") as file:
            file.write(data)
        log = EventLog(path, lambda: 1.0)
        log.publish("x", "y")
        assert log.last(1)[0]["text"] == "y"
        log.last(1000, "/a/stack")
        log.close()


@given(st.binary(max_size=200))
def test_the_index_of_a_log(data):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "x.idx")
        with open(path, "wb") as file:
            file.write(data)
        try:
            reader = IndexReader(path)
        except ValueError:
            return  # no index: the reader of logs goes without
        reader.records(0, 100)
        reader.first_at(5)
        reader.first_since(1.0)
        reader.close()


@given(st.binary(min_size=1, max_size=300), st.integers(0, SIZE))
def test_the_meters_of_a_worker_that_writes_what_it_likes(data, at):
    fd = os.memfd_create("fuzz")
    try:
        os.ftruncate(fd, SIZE)
        os.pwrite(fd, data[: SIZE - at], at)
        meters = Meters(fd)
        meters.read()
        for flight in meters.in_flight(1.0):
            assert isinstance(flight.text, str)
            assert flight.seconds >= 0
        meters.close()
    finally:
        os.close(fd)


@given(
    st.binary(max_size=120)
    | st.builds(lambda name, rest: b"1 (" + name + b") S " + rest, st.binary(max_size=20), st.binary(max_size=80))
)
def test_a_line_of_proc(line):
    try:
        ProcStat(1, line)
    except (ValueError, IndexError):
        return
