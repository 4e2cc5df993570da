"""Secrets are never shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.config.redact import REDACTED, is_secret_key, redact_text, redact_value


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
