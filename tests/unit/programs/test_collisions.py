"""Two processes on one address."""

from __future__ import annotations

import pytest

from oxherd.errors import ConfigError
from oxherd.programs.probes import BLIND


@pytest.fixture
def refused(compiled):
    """Compile an oxfile and return the addresses that are refused, as (line, message)."""

    def _refused(text: str):
        try:
            compiled(text, probes=BLIND)
        except ConfigError as error:
            return [(item.line, item.message) for item in error.problems if item.code == "OX106"]
        return []

    return _refused


@pytest.mark.parametrize(
    ("first", "second", "collide"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "localhost:80", True),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", ":80", True),
        ("[::]:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("unix:/a", "unix:/a", True),
        ("unix:/a", "unix:/b", False),
        ("unix:/a", "127.0.0.1:80", False),
    ],
)
def test_two_apps_on_one_address(refused, first, second, collide):
    text = f'[processes.a]\napp = "m:a"\nbind = "{first}"\n[processes.b]\napp = "m:b"\nbind = "{second}"\n'
    expected = [(6, f"{second} is taken: a binds {first}")] if collide else []
    assert refused(text) == expected


def test_an_app_and_a_command_on_one_address(refused):
    text = '[processes.a]\ncommand = "uvicorn m:a"\n[processes.b]\napp = "m:b"\n[processes.c]\ncommand = "daphne m:c"\n'
    assert refused(text) == [
        (3, "127.0.0.1:8000 is taken: a binds 127.0.0.1:8000"),
        (6, "127.0.0.1:8000 is taken: a binds 127.0.0.1:8000"),
    ]


def test_a_socket_that_is_taken(refused):
    text = '[processes.a]\napp = "m:a"\n[processes.b]\ncommand = "x"\nsocket = "127.0.0.1:8000"\n'
    assert refused(text) == [(5, "127.0.0.1:8000 is taken: a binds 127.0.0.1:8000")]


def test_one_process_that_claims_an_address_twice(refused):
    text = '[processes.a]\napp = "m:a"\nbind = ["127.0.0.1:80", "127.0.0.1:80"]\n'
    assert refused(text) == [(3, "127.0.0.1:80 is taken: a binds 127.0.0.1:80")]


def test_what_is_disabled_or_holds_nothing_claims_nothing(refused):
    assert refused('[processes.a]\napp = "m:a"\n[processes.b]\napp = "m:b"\ndisabled = true\n') == []
    untouched = '[processes.b]\ncommand = "uvicorn m:b"\nadopt = false\n'
    assert refused('[processes.a]\napp = "m:a"\n' + untouched) == []
