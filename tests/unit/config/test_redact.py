"""Secrets are never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.config.redact import (
    REDACTED,
    Mask,
    holds_secret,
    is_secret_key,
    redact_text,
    redact_value,
    redact_words,
)


@pytest.mark.parametrize(
    "name",
    [
        "SECRET_KEY",
        "API_TOKEN",
        "DB_PASSWORD",
        "PASSWD",
        "AWS_SECRET_ACCESS_KEY",
        "api-key",
        "PRIVATE_KEY",
        "KEY",
        "MY_PASS",
        "SENTRY_DSN",
        "secret",
        "pull_secret",
        "STRIPE_KEY",
        "APIKEY",
        "DB_PWD",
        "SESSION_COOKIE",
    ],
)
def test_names_of_secrets(name):
    assert is_secret_key(name)
    assert redact_value(name, "hunter2") == REDACTED


@pytest.mark.parametrize(
    "name",
    ["PORT", "DEBUG", "KEYBOARD", "MONKEY_MODE", "PWD", "PATH", "DATABASE_URL", "COMPASS", "SSL_KEYFILE", "KEY_PATH"],
)
def test_names_of_no_secrets(name):
    assert not is_secret_key(name)
    assert redact_value(name, "plain") == "plain"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("postgresql://user:pw@host/db", "postgresql://user:***@host/db"),
        ("redis://:pw@host:6379/0", "redis://:***@host:6379/0"),
        ("a redis://u:p@h b amqp://x:y@z", "a redis://u:***@h b amqp://x:***@z"),
        ("postgres://u:p@ss@host/db", "postgres://u:***@host/db"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("http://user@host", "http://user@host"),
        ("http://localhost:8000/health", "http://localhost:8000/health"),
        ("no url: at all @ here", "no url: at all @ here"),
    ],
)
def test_passwords_in_urls(text, expected):
    assert redact_text(text) == expected


def test_an_empty_secret_is_shown_as_empty():
    """That a secret is not set is worth knowing, and gives nothing away."""
    assert redact_value("SECRET_KEY", "") == ""


@given(st.text("abcdef", min_size=8), st.text(max_size=20))
def test_a_password_never_survives(password, around):
    shown = redact_text(f"{around} amqp://user:{password}9@host/x {around}")
    assert f"{password}9" not in shown.replace(around, "")


@given(st.text(max_size=60))
def test_redaction_is_done_once(text):
    assert redact_text(redact_text(text)) == redact_text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app --password hunter22 --port 80", "app --password *** --port 80"),
        ("app --secret-key=hunter22 x", "app --secret-key=*** x"),
        ("app --api-token 'hunter 22' x", "app --api-token '***' x"),
        ('TOKEN="a b" exec app', 'TOKEN="***" exec app'),
        ("API_KEY=hunter22; exec app", "API_KEY=***; exec app"),
        ("TOKEN='never closed", "TOKEN='***"),
        ("http://h/x?token=a&page=2&api_key=b", "http://h/x?token=***&page=2&api_key=***"),
        ("https://ghp_0123456789abcdefghij@github.com/x", "https://***@github.com/x"),
        (
            "app --ssl-keyfile key.pem --keyfile=a --no-auth --port 1",
            "app --ssl-keyfile key.pem --keyfile=a --no-auth --port 1",
        ),
        ("app --password", "app --password"),
        ("app --password ; ls", "app --password ; ls"),
        ("TOKEN= x", "TOKEN= x"),
        ("a == b", "a == b"),
    ],
)
def test_secrets_in_command_lines(text, expected):
    assert redact_text(text) == expected


def test_an_argument_is_hidden_by_the_option_before_it():
    words = ("app", "--password", "a b c", "--token", "--port", "80", "--key=x y", "redis://:pw@h")
    assert redact_words(words) == (
        "app",
        "--password",
        REDACTED,
        "--token",
        "--port",
        "80",
        "--key=***",
        "redis://:***@h",
    )


@pytest.mark.parametrize(
    ("name", "value", "holds"),
    [("API_TOKEN", "x", True), ("API_TOKEN", "", False), ("DB", "redis://:p@h", True), ("OPTIONS", "token=x", False)],
)
def test_a_variable_holds_a_secret_by_its_name_or_in_a_url(name, value, holds):
    assert holds_secret(name, value) is holds


class TestMask:
    """What a program said is looked through for the values that its process really has."""

    MASK = Mask(
        {
            "API_TOKEN": "hunter22",
            "LONG_TOKEN": "hunter22-and-more",
            "SHORT_KEY": "dev",
            "DATABASE_URL": "postgres://u:pa55word@h/db",
            "PRIVATE_KEY": "-----BEGIN-----\nabcdefghijklmnopqrst\n-----END-----",
            "PORT": "8000-8000",
        },
        ["app", "--password", "swordfish", "--token=trombone"],
    )

    @pytest.mark.parametrize(
        ("said", "shown"),
        [
            ("login with hunter22 failed", "login with *** failed"),
            ("hunter22-and-more", "***"),
            ("port 8000-8000 of a dev server", "port 8000-8000 of a dev server"),
            ("pa55word is wrong", "*** is wrong"),
            ("line abcdefghijklmnopqrst", "line ***"),
            ("swordfish, trombone", "***, ***"),
            ("of another's redis://u:pw@h", "of another's redis://u:***@h"),
            ("sorted(things, key=name)", "sorted(things, key=name)"),
        ],
    )
    def test_values_are_hidden_and_code_is_left(self, said, shown):
        assert self.MASK.text(said) == shown

    def test_what_holds_nothing_is_the_same(self):
        assert Mask({}).text("x") == "x"


@given(st.text(max_size=80))
def test_a_secret_is_never_half_hidden(text):
    """Whatever stands around it."""
    assert "hunter22" not in Mask({"TOKEN": "hunter22"}).text(f"{text}hunter22{text}").replace(text, "")


@given(st.lists(st.text("abc=- '\"&;://@?", max_size=12), max_size=6))
def test_command_lines_are_redacted_once(words):
    once = redact_words(words)
    assert redact_words(once) == once
    assert len(once) == len(words)
