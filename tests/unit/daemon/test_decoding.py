"""What has not changed since the last request is the very spec of then."""

from __future__ import annotations

import dataclasses
import json

import pytest

from oxherd.config.codec import decode, encode
from oxherd.config.model import Command, Oxfile, ProcessSpec
from oxherd.daemon.decoding import Decoder


def table(path="/srv/shop/oxfile.toml", **instances):
    processes = tuple(
        ProcessSpec(
            name=name, command=Command(text=f"sleep {name}", argv=("sleep", name)), working_dir="/", instances=count
        )
        for name, count in instances.items()
    )
    return json.loads(json.dumps(encode(Oxfile(path=path, name="shop", processes=processes))))


def specs(oxfile):
    return {spec.name: spec for spec in oxfile.processes}


def test_it_is_what_decoding_makes_of_it():
    decoder = Decoder()
    for sent in (table(web=1, worker=2), table(worker=2, web=3), table(), table(web=3)):
        assert decoder.decode(sent) == decode(Oxfile, sent)


def test_what_was_sent_before_is_not_made_anew():
    decoder = Decoder()
    before = specs(decoder.decode(table(web=1, worker=1)))
    after = specs(decoder.decode(table(web=2, worker=1)))
    assert after["worker"] is before["worker"]
    assert after["web"] == dataclasses.replace(before["web"], instances=2)
    assert specs(decoder.decode(table(web=1)))["web"] is not before["web"], "only the last request is remembered"


def test_stacks_are_told_apart_and_can_be_forgotten():
    decoder = Decoder()
    one = specs(decoder.decode(table(web=1)))
    other = specs(decoder.decode(table("/srv/other/oxfile.toml", web=1)))
    assert one["web"] is not other["web"]
    assert specs(decoder.decode(table(web=1)))["web"] is one["web"]
    decoder.forget("/srv/shop/oxfile.toml")
    assert specs(decoder.decode(table(web=1)))["web"] is not one["web"]


@pytest.mark.parametrize("processes", [{"web": {}}, ["web"], [None], [[]], "web"])
def test_what_is_no_oxfile_is_a_type_error(processes):
    with pytest.raises(TypeError):
        Decoder().decode({**table(), "processes": processes})
