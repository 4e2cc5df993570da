"""A command line is exec'd as it is unless only a shell understands it."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oxherd.config.commandline import CommandLineError, read_command, shell_reason
from oxherd.config.expand import Expander


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("uvicorn main:app --port 8000", ["uvicorn", "main:app", "--port", "8000"]),
        ("gunicorn 'app:create_app()'", ["gunicorn", "app:create_app()"]),
        ("gunicorn app:create_app()", ["gunicorn", "app:create_app()"]),
        ("hypercorn --bind [::]:8000 app", ["hypercorn", "--bind", "[::]:8000", "app"]),
        ("echo 'a | b' \"c; d\" e\\&f", ["echo", "a | b", "c; d", "e&f"]),
        ("git show HEAD~1", ["git", "show", "HEAD~1"]),
        ("x --opt=A=b", ["x", "--opt=A=b"]),
        ("python -c 'print(\"$HOME\")'", ["python", "-c", 'print("$HOME")']),
        ("bash -c 'source v/bin/activate && run $X ${Y}'", ["bash", "-c", "source v/bin/activate && run $X ${Y}"]),
        ("/bin/sh -ec 'a | b'", ["/bin/sh", "-ec", "a | b"]),
        ("cost 5$", ["cost", "5$"]),
        ("worker-{instance} -n {instance}", ["worker-{instance}", "-n", "{instance}"]),
        ("  padded   words ", ["padded", "words"]),
    ],
)
def test_what_needs_no_shell_is_execd_directly(text, argv):
    command = read_command(text)
    assert (list(command.argv), command.shell, command.text) == (argv, False, text)
    assert shell_reason(text) == ""


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a | b", "a pipe"),
        ("a && b", "&&"),
        ("a || b", "||"),
        ("a &", "&"),
        ("a; b", "a semicolon"),
        ("a > out", "a redirection"),
        ("a < in", "a redirection"),
        ("a\nb", "a line break"),
        ("echo $HOME", "the shell variable $HOME"),
        ('echo "$HOME"', "the shell variable $HOME"),
        ("echo $1", "the shell variable $1"),
        ("echo $(date)", "a command substitution"),
        ("echo `date`", "a command substitution"),
        ("echo ${X%.py}", "a parameter expansion only a shell knows"),
        ("ls *.py", "the pattern character *"),
        ("ls a?", "the pattern character ?"),
        ("~/bin/run", "~"),
        ("(a)", "a subshell"),
        ("A=b run", "the assignment A= before the command"),
        ("cd /srv", "the shell builtin cd"),
        (". ./env", "the shell builtin ."),
        ("source env", "the shell builtin source"),
    ],
)
def test_what_needs_a_shell_says_why(text, reason):
    command = read_command(text)
    assert command.shell
    assert command.argv[:2] == ("/bin/sh", "-c")
    assert command.text == text
    assert shell_reason(text) == reason


@pytest.mark.parametrize("text", ["echo $HOME", "ls *.py", "run > log", "~/bin/run"])
def test_the_shell_of_a_single_command_becomes_that_command(text):
    """Signals have to reach the program; not every sh replaces itself on its own."""
    assert read_command(text).argv[2] == f"exec {text}"


@pytest.mark.parametrize("text", ["a | b", "a; b", "a && b", "A=b run", "cd /srv", "a\nb", "(a)", "a &"])
def test_a_list_of_commands_stays_as_it_is_written(text):
    assert read_command(text).argv[2] == text


@pytest.mark.parametrize("text", ["", "   ", "''", "echo 'open", 'echo "open', "a\0b", "\\"])
def test_what_is_no_command_line_is_refused(text):
    with pytest.raises(CommandLineError):
        read_command(text)


def expander(**environ):
    return Expander(environ=environ, files={}, env={}, short=False, missing=lambda name: f"<{name}>")


@pytest.mark.parametrize(
    ("text", "argv"),
    [
        ("run --port ${PORT}", ["run", "--port", "8001"]),
        ("run --port ${NONE:-8000}", ["run", "--port", "8000"]),
        ("run ${SPACED} x", ["run", "a b; c", "x"]),
        ("run '${PORT}'", ["run", "${PORT}"]),
        ('run "${PORT}"', ["run", "8001"]),
        ("run a$$b", ["run", "a$b"]),
        ("run pre${PORT}post", ["run", "pre8001post"]),
        ("${PROGRAM} x", ["/bin/x", "x"]),
        ("run ${NONE:-${PORT}}", ["run", "8001"]),
    ],
)
def test_references_are_replaced_inside_their_own_argument(text, argv):
    """A value with a space or a semicolon is still one argument and nothing else."""
    values = expander(PORT="8001", SPACED="a b; c", PROGRAM="/bin/x")
    assert list(read_command(text, values.reference).argv) == argv


@pytest.mark.parametrize("text", ["echo ${PORT} | cat", "bash -c 'echo ${PORT} $$'", "sh -c 'exec x ${PORT:-1}'"])
def test_a_shell_reads_its_references_itself(text):
    """The shell has the same variables, and its own rules of quoting."""
    assert "${PORT" in read_command(text, expander(PORT="8001").reference).argv[-1]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0", max_codepoint=0xFFFF)), min_size=1))
def test_quoted_words_come_back_as_they_were(words):
    """What shlex quotes is never read as shell syntax."""
    words[0] = f"./{words[0]}"
    command = read_command(shlex.join(words))
    assert (list(command.argv), command.shell) == (words, False)


@given(st.text(max_size=30))
def test_any_text_is_a_command_or_refused(text):
    try:
        command = read_command(text)
    except CommandLineError:
        return
    assert command.argv
