"""What is asked of a process whose listeners the supervisor holds."""

from __future__ import annotations

import subprocess
import sys

import pytest

from oxherd.config.model import HealthSpec, HostSpec, ProcessSpec
from oxherd.core.endpoint import parse_endpoint
from oxherd.programs.hosting import private_endpoint, private_readiness, same_address, url_of_bind


def spec(health: HealthSpec | None, *binds: str) -> ProcessSpec:
    host = HostSpec(bind=binds) if binds else None
    return ProcessSpec(name="web", working_dir="/", host=host, health=health)


@pytest.mark.parametrize(
    ("bind", "asked", "same"),
    [
        ("127.0.0.1:8000", "http://localhost:8000/", True),
        ("127.0.0.1:8000", "http://127.0.0.1:8000/", True),
        ("0.0.0.0:8000", "http://localhost:8000/health", True),
        ("0.0.0.0:8000", "http://0.0.0.0:8000/", True),
        ("[::]:8000", "http://[::1]:8000/", True),
        (":8000", "http://LOCALHOST.:8000/", True),
        ("localhost:8000", "http://127.0.0.1:8000/", True),
        ("10.0.0.5:8000", "http://10.0.0.5:8000/", True),
        ("shop.example:80", "http://shop.example/", True),
        ("10.0.0.5:8000", "http://localhost:8000/", False),
        ("0.0.0.0:8000", "http://shop.example:8000/", False),
        ("127.0.0.1:8000", "http://127.0.0.1:8001/", False),
        ("unix:/run/a.sock", "http+unix://%2Frun%2Fa.sock/health", True),
        ("unix:/run/a.sock", "unix:/run/b.sock:/health", False),
        ("127.0.0.1:80", "unix:/run/b.sock:/health", False),
    ],
)
def test_whether_an_url_reaches_a_listener(bind, asked, same):
    assert same_address(bind, parse_endpoint(asked).address) is same
    assert private_endpoint(spec(HealthSpec(endpoint=asked), bind)) is same
    assert private_readiness(spec(HealthSpec(tcp="h:1", readiness=asked), bind)) is same


def test_a_check_of_the_port_is_private_too():
    assert private_endpoint(spec(HealthSpec(tcp="127.0.0.1:81"), "0.0.0.0:80", "0.0.0.0:81"))
    assert not private_endpoint(spec(HealthSpec(tcp="127.0.0.1:5432"), "0.0.0.0:80"))


def test_what_is_never_private():
    own = HealthSpec(endpoint="http://127.0.0.1:80/", readiness="http://127.0.0.1:80/")
    assert not private_endpoint(spec(own))
    assert not private_readiness(spec(own))
    assert not private_endpoint(spec(None, "127.0.0.1:80"))
    assert not private_readiness(spec(HealthSpec(tcp="127.0.0.1:80"), "127.0.0.1:80"))


@pytest.mark.parametrize(
    ("bind", "tls", "url"),
    [
        ("127.0.0.1:8000", False, "http://127.0.0.1:8000/h"),
        ("0.0.0.0:8000", True, "https://127.0.0.1:8000/h"),
        (":8000", False, "http://127.0.0.1:8000/h"),
        ("[::]:8000", False, "http://[::1]:8000/h"),
        ("[fe80::1]:8000", False, "http://[fe80::1]:8000/h"),
        ("unix:/run/a%b.sock", False, "http+unix://%2Frun%2Fa%25b.sock/h"),
    ],
)
def test_the_url_of_a_listener_leads_back_to_it(bind, tls, url):
    assert url_of_bind(bind, "/h", tls=tls) == url
    assert same_address(bind, parse_endpoint(url).address)


def test_the_supervisor_may_import_it():
    script = (
        "import sys; before = set(sys.modules); import oxherd.programs.hosting\n"
        "print(sorted((set(sys.modules) - before) & {'typing', 'subprocess', 'json', 'tomllib', 'shutil', 'shlex'}))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
