"""What granian's runtime calls for a request of a WSGI app: what it gets, and what is counted."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from oxherd.host.counting import Draining
from oxherd.host.engines.granian_calls import wsgi_call, wsgi_text
from oxherd.host.tally import Tally

SCOPE = {"REQUEST_METHOD": "GET", "PATH_INFO": "/base/a"}


class Proto:
    """Granian's side of a request; its client takes so many parts of an answer and goes."""

    def __init__(self, parts=10):
        self.parts = parts
        self.given = None

    def response_bytes(self, status, headers, body):
        self.given = (status, list(headers), body)

    def response_iter(self, status, headers, iterable):
        taken = []
        for _ in range(self.parts):
            try:
                taken.append(next(iterable))
            except StopIteration:
                break
        iterable.close()
        self.given = (status, list(headers), b"".join(taken))


class Served:
    """An app as granian calls it."""

    def __init__(self, app, prefix=""):
        self.tally = Tally(SimpleNamespace(), wsgi_text)
        self.draining = Draining()
        self.logged = []
        self.call = wsgi_call(
            app, prefix, tally=self.tally, draining=self.draining, log=lambda _, status, __: self.logged.append(status)
        )

    def ask(self, parts=10):
        proto = Proto(parts)
        self.call(proto, SCOPE)
        return proto.given

    @property
    def statuses(self):
        return [200] * len(self.tally.fine) + [status for status, _ in self.tally.over]


def answering(status, headers=(), body=(b"ok",)):
    def app(environ, start_response):
        start_response(status, list(headers))
        return list(body)

    return app


def standing():
    """Return what stands for a request while it is answered."""
    seen = []

    def app(environ, start_response):
        seen.extend(served.tally.flying)
        start_response("200 OK", [])
        return [b""]

    served = Served(app)
    served.ask()
    assert served.tally.busy == 0
    (one,) = seen
    return one


@pytest.mark.parametrize(
    ("line", "code"),
    [("200 OK", 200), ("404 Not Found", 404), ("503", 503), ("200 Of its own", 200), ("429 Too Many  Requests ", 429)],
)
def test_the_code_of_a_status_line(line, code):
    served = Served(answering(line, [("A", "b")]))
    # What is known of a line the first time is known the second.
    assert [served.ask(), served.ask()] == [(code, [("A", "b")], b"ok")] * 2
    assert served.statuses == served.logged == [code, code]


def test_status_lines_without_end_are_not_kept():
    lines = iter(f"200 this is number {number}" for number in range(1000))

    def app(environ, start_response):
        start_response(next(lines), [])
        return [b""]

    served = Served(app)
    for _ in range(1000):
        assert served.ask()[0] == 200
    assert served.tally.busy == 0
    assert len(type(standing())._codes) <= 200


def test_what_stands_for_a_request_says_what_is_asked():
    assert wsgi_text(standing()) == "GET /base/a"


def test_an_answer_that_was_never_started_is_what_granian_makes_of_it():
    served = Served(lambda environ, start_response: [b"a", b"b"])
    assert served.ask() == (200, [], b"ab")


def test_one_answer_says_nothing_of_the_next():
    answers = iter([("404 Not Found", [("X", "y")]), None])

    def app(environ, start_response):
        if (answer := next(answers)) is not None:
            start_response(*answer)
        return [b""]

    served = Served(app)
    assert [served.ask()[:2], served.ask()[:2]] == [(404, [("X", "y")]), (200, [])]


@pytest.mark.parametrize("status", ["", "fine", "2oo OK"])
def test_a_status_line_without_a_code_is_the_apps_error(status):
    served = Served(answering(status))
    with pytest.raises(ValueError, match="invalid literal"):
        served.ask()
    assert (served.statuses, served.tally.busy) == ([500], 0)


def test_a_part_of_an_answer_is_none():
    def app(environ, start_response):
        start_response("200 OK", [])
        return iter([b"a", b"b", b"c"])

    served = Served(app)
    assert [served.ask(parts=2)[2], served.ask()[2]] == [b"ab", b"abc"]
    assert sorted(served.statuses) == [0, 200]


def test_answers_of_a_lame_duck_close():
    served = Served(answering("200 OK", [("A", "b")]))
    served.draining.on = True
    assert served.ask()[1] == [("A", "b"), ("Connection", "close")]


def test_the_prefix_is_not_the_apps():
    seen = []

    def app(environ, start_response):
        seen.append((environ["SCRIPT_NAME"], environ["PATH_INFO"]))
        start_response("200 OK", [])
        return [b""]

    Served(app, "/base").ask()
    assert seen == [("/base", "/a")]
