"""Reading health check URLs and addresses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oxherd.core.endpoint import Address, parse_address, parse_endpoint


@pytest.mark.parametrize(
    ("text", "tls", "address", "target", "host"),
    [
        ("http://localhost:8000/health", False, Address(host="localhost", port=8000), "/health", "localhost:8000"),
        ("http://localhost", False, Address(host="localhost", port=80), "/", "localhost"),
        ("HTTP://127.0.0.1:80?deep=1", False, Address(host="127.0.0.1", port=80), "/?deep=1", "127.0.0.1:80"),
        ("https://[::1]/a/b?c=d&e#part", True, Address(host="::1", port=443), "/a/b?c=d&e", "[::1]"),
        ("https://[::1]:8443/", True, Address(host="::1", port=8443), "/", "[::1]:8443"),
        ("http+unix://%2Frun%2Fapp.sock/health", False, Address(path="/run/app.sock"), "/health", "localhost"),
        ("https+unix://%2Frun%2Fapp.sock", True, Address(path="/run/app.sock"), "/", "localhost"),
        ("unix:/run/app.sock:/health", False, Address(path="/run/app.sock"), "/health", "localhost"),
        ("unix:/run/app.sock", False, Address(path="/run/app.sock"), "/", "localhost"),
        ("http://h:1/caf\u00e9 x", False, Address(host="h", port=1), "/caf%C3%A9%20x", "h:1"),
    ],
)
def test_urls_that_are_read(text, tls, address, target, host):
    endpoint = parse_endpoint(text)
    assert (endpoint.tls, endpoint.address, endpoint.target, endpoint.host_header) == (tls, address, target, host)


def test_a_password_is_used_and_never_shown():
    endpoint = parse_endpoint("http://ops:p%40ss:w@localhost:8000/health?token=abc&full=1")
    assert endpoint.userinfo == "ops:p@ss:w"
    assert endpoint.host_header == "localhost:8000"
    assert endpoint.shown == "http://ops:***@localhost:8000/health?token=***&full=1"


def test_a_secret_in_the_query_of_a_unix_socket_is_not_shown_either():
    assert parse_endpoint("unix:/run/a.sock:/health?api_key=abc").shown == "unix:/run/a.sock:/health?api_key=***"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost:8000/health",
        "ftp://localhost/health",
        "http://localhost:0/",
        "http://localhost:65536/",
        "http://localhost:http/",
        "http://lo calhost/",
        "http://loc\r\nalhost/",
        "http://[::1/",
        "http://[nope]:1/",
        "http://[::1]x/",
        "http+unix://relative/health",
        "http+unix://%2/health",
        "http+unix://%FF%FE/health",
        "unix:relative:/health",
        "unix:/" + "x" * 107,
    ],
)
def test_what_is_no_url_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="a URL such as"):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:5432", Address(host="localhost", port=5432)),
        ("tcp://db:5432", Address(host="db", port=5432)),
        ("tcp://db:5432/", Address(host="db", port=5432)),
        ("[::1]:6379", Address(host="::1", port=6379)),
        (":6379", Address(host="localhost", port=6379)),
        ("6379", Address(host="localhost", port=6379)),
        ("unix:/run/redis.sock", Address(path="/run/redis.sock")),
    ],
)
def test_addresses_that_are_read(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize(
    "text", ["", "localhost", "localhost:", "localhost:0", "a:b:c", "::1", "unix:x", "[::1]", "/a:1"]
)
def test_what_is_no_address_is_refused_with_examples(text):
    with pytest.raises(ValueError, match="an address such as"):
        parse_address(text)


@pytest.mark.parametrize("text", ["localhost:5432", "[::1]:5432", "unix:/run/redis.sock"])
def test_an_address_is_written_as_it_is_read(text):
    assert parse_address(text).text == text


@settings(deadline=None)
@given(st.text(), st.sampled_from(["", "http://", "https://", "http+unix://", "unix:", "http://a:1/"]))
def test_any_text_is_read_or_refused_and_nothing_slips_into_the_request(text, prefix):
    try:
        endpoint = parse_endpoint(prefix + text)
    except ValueError:
        return
    for part in (endpoint.target, endpoint.host_header):
        assert not any(char <= " " or char == "\x7f" for char in part)
    assert endpoint.target.startswith("/")
    assert endpoint.target.isascii()
