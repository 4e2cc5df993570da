"""What is written down of an instance is what is read of it: through a real journal line."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.config.model import Oxfile
from oxherd.core.adoption import Remembered
from oxherd.core.exits import ExitStatus
from oxherd.core.instance import Desired, Reason, State
from oxherd.daemon.handles import Pin
from oxherd.daemon.remembering import read_record, record_of
from oxherd.system.cgroups import CgroupHandle
from oxherd.system.placement import CgroupKind
from support.workbench import Workbench, spec


@pytest.fixture
def bench(tmp_path):
    bench = Workbench(tmp_path)
    yield bench
    bench.close()


def read(handle):
    return read_record(json.loads(json.dumps(record_of(handle))))


def test_an_instance_that_runs(bench):
    bench.system.tangible = True
    bench.up(spec("web"))
    handle = bench.instance("web")
    record = read(handle)
    assert record.remembered == Remembered.of(handle.machine)
    assert record.start_ticks == handle.start_ticks == handle.machine.pid * 10
    assert record.pipes == tuple(os.fstat(pipe.fd).st_ino for pipe in handle.pipes)
    assert (record.current, record.candidate, record.displaced) == (True, False, False)
    assert (record.private, record.door, record.sockets, record.cgroup) == ("", "", (), None)


def test_one_that_is_being_swept_keeps_the_number_its_main_process_had(bench):
    bench.system.obedient = False
    bench.up(spec("web"))
    (main,) = bench.system.living()
    left = bench.system.leave_behind(main)
    bench.ask("stop")
    bench.system.end(main, ExitStatus(code=0))
    handle = bench.instance("web")
    assert (handle.machine.state, read(handle).main_pid) == (State.SWEEPING, main.pid)
    assert read(handle).remembered.pid is None
    bench.system.end(left, ExitStatus(code=0))
    assert read(handle).main_pid == 0


def test_where_it_stood_among_the_others_of_its_slot(bench):
    bench.up(spec("web"))
    handle = bench.instance("web")
    process = handle.process
    handle.pinned = Pin.of(process)
    assert (read(handle).current, read(handle).candidate) == (True, True)
    del process.instances[0]
    process.others.append(handle)
    assert (read(handle).current, read(handle).candidate) == (False, True)
    handle.pinned = None
    process.others.remove(handle)
    process.instances[0] = handle


def test_a_stop_that_a_reload_asked_for_is_known_as_that(bench):
    bench.system.obedient = False
    bench.up(spec("beat", singleton=True))
    handle = bench.instance("beat")
    bench.ask("reload", spec("beat", singleton=True))
    assert handle.machine.desired is Desired.DOWN
    assert read(handle).displaced
    handle.retired = True
    assert not read(handle).displaced
    handle.retired = False
    bench.system.end(bench.system.living()[0], ExitStatus(code=0))
    bench.system.obedient = True
    bench.loop.advance(5)


def test_its_hard_limits(bench):
    bench.up(spec("web"))
    handle = bench.instance("web")
    handle.cgroup = CgroupHandle("x-1", (CgroupKind.V2,), ("/sys/fs/cgroup/x-1",))
    cgroup = read(handle).cgroup
    assert (cgroup.name, cgroup.kinds, cgroup.folders) == ("x-1", (CgroupKind.V2,), ("/sys/fs/cgroup/x-1",))
    handle.cgroup = None


def test_what_is_as_it_mostly_is_takes_no_room(bench):
    bench.up(spec("web"))
    assert not {"failures", "restarts", "killed", "exit", "beside", "candidate"} & set(record_of(bench.instance("web")))


statuses = st.one_of(
    st.none(),
    st.just(ExitStatus()),
    st.builds(ExitStatus, code=st.integers(0, 255)),
    st.builds(ExitStatus, signal=st.integers(1, 64), core_dumped=st.booleans(), oom=st.booleans()),
)


@given(
    fields=st.fixed_dictionaries(
        {
            "state": st.sampled_from(State),
            "desired": st.sampled_from(Desired),
            "reason": st.sampled_from(Reason),
            "incarnation": st.integers(0, 2**31),
            "generation": st.integers(0, 2**31),
            "pid": st.one_of(st.none(), st.integers(1, 2**22)),
            "failures": st.integers(0, 99),
            "restarts": st.integers(0, 99),
            "restart_pending": st.booleans(),
            "killed": st.booleans(),
            "unhealthy": st.booleans(),
            "completed": st.booleans(),
            "since": st.floats(0, 1e9),
            "started_at": st.one_of(st.none(), st.floats(0, 1e9)),
            "exit": statuses,
            "detail": st.text(),
        }
    )
)
def test_every_instance_comes_back_as_it_was(tmp_path_factory, fields):
    bench = Workbench(tmp_path_factory.mktemp("home"))
    try:
        bench.assembly.keeper.register(_oxfile(bench), {}, update_env=True)
        handle = bench.instance("web")
        for name, value in fields.items():
            object.__setattr__(handle.machine, name, value)
        assert read(handle).remembered == Remembered(**fields)
    finally:
        bench.loop.close()


def _oxfile(bench):
    return Oxfile(path=bench.path, name="shop", processes=(spec("web"),))


LEAST = {"state": "running", "desired": "up"}


def test_what_is_missing_is_as_it_mostly_is_and_what_is_unknown_is_passed_over():
    record = read_record({**LEAST, "colour": "green", "pipes": [1, "x", 2]})
    assert record.remembered == Remembered(state=State.RUNNING, desired=Desired.UP, generation=0)
    assert record.pipes == (1, 2)


@pytest.mark.parametrize(
    "damage",
    [
        {"state": "flying"},
        {"state": None},
        {"desired": "sideways"},
        {"reason": "whim"},
        {"pid": "12"},
        {"pid": -1},
        {"pid": True},
        {"incarnation": 1.5},
        {"ticks": "x"},
        {"main": -5},
        {"since": "now"},
        {"started": True},
        {"pipes": 5},
        {"sockets": "x"},
        {"exit": {"code": "x"}},
        {"exit": {"signal": -1}},
        {"cgroup": {"name": "x"}},
        {"cgroup": {"name": "x", "kinds": ["v9"], "folders": ["/a"]}},
        {"cgroup": {"name": "x", "kinds": [], "folders": ["/a"]}},
    ],
)
def test_what_cannot_be_an_instance_is_none(damage):
    with pytest.raises(ValueError, match=r"."):
        read_record({**LEAST, **damage})
