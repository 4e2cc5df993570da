"""env_files, references and paths of one process."""

from __future__ import annotations

import pytest

from oxherd.config.effective import absolute

HEAD = '[processes.p]\ncommand = "x"\n'


def test_env_wins_over_env_files_and_a_later_file_over_an_earlier_one(read, write):
    write("A=1\nB=1\nC=1\n", "a.env")
    write("B=2\nC=2\n", "b.env")
    loaded = read(HEAD + 'env_file = ["a.env", "b.env"]\nenv = { C = "3" }', environ={"A": "caller"})
    spec = loaded.oxfile.process("p")
    assert spec.env == (("A", "1"), ("B", "2"), ("C", "3"))
    assert [path.rpartition("/")[2] for path in spec.env_files] == ["a.env", "b.env"]
    origins = loaded.origins["p"]
    assert (origins["env.A"], origins["env.B"], origins["env.C"]) == (
        "env_file a.env:1",
        "env_file b.env:1",
        "oxfile.toml:4",
    )


def test_lines_of_an_env_file_see_the_caller_and_the_lines_above(one, write):
    write("BASE=/srv\nLOGS=${BASE}/log\nHOST=${HOST_NAME}\nRAW='${BASE}'\nPRICE=5$\nODD=${\n", ".env")
    spec = one(HEAD + 'env_file = ".env"', environ={"HOST_NAME": "h"})
    assert dict(spec.env) == {
        "BASE": "/srv",
        "LOGS": "/srv/log",
        "HOST": "h",
        "RAW": "${BASE}",
        "PRICE": "5$",
        "ODD": "${",
    }


def test_a_variable_of_the_caller_sets_the_port(one):
    """PORT=8001 oxherd start --config oxfile.green.toml"""
    text = (
        '[processes.p]\ncommand = "run --port ${PORT:-8000}"\nhealth_check.endpoint = "http://localhost:${PORT:-8000}/"'
    )
    assert one(text).command.argv[-1] == "8000"
    spec = one(text, environ={"PORT": "8001"})
    assert spec.command.argv[-1] == "8001"
    assert spec.health.endpoint == "http://localhost:8001/"
    assert spec.command.text == "run --port ${PORT:-8000}", "what the user wrote is what is shown"


def test_a_command_sees_env_files_and_its_own_env(one, write):
    write("FILE=f\n", ".env")
    spec = one('[processes.p]\ncommand = "run ${FILE} ${OWN}"\nenv_file = ".env"\nenv = { OWN = "o-${FILE}" }')
    assert spec.command.argv == ("run", "f", "o-f")


@pytest.mark.parametrize(
    "pair",
    ['env = { A = "${NO}" }', 'working_dir = "/x/${NO}"', 'health_check.tcp = "h:${NO}"', 'watch = ["${NO}"]'],
)
def test_a_variable_without_a_value_is_an_error_wherever_it_stands(refused, pair):
    assert "OX109" in [code for code, _, _ in refused(HEAD + pair)]


def test_a_variable_that_a_missing_env_file_may_hold_is_no_error(read, refused):
    """The file alone is validated where it is written, not where it runs."""
    text = '[processes.p]\ncommand = "run ${SECRET}"\nenv_file = ".env"\nhealth_check.endpoint = "${URL}"\n'
    assert {w.code for w in read(text).warnings} == {"OX155"}
    assert [code for code, _, _ in refused(text, strict_files=True)] == ["OX110"]


def test_a_value_is_checked_after_its_references_are_replaced(the_problem, one):
    text = HEAD + 'stop_timeout = "${GRACE}"'
    assert one(text, environ={"GRACE": "45s"}).stop.timeout == 45.0
    problem = the_problem(text, environ={"GRACE": "soon"})
    assert (problem.code, problem.key) == ("OX104", "processes.p.stop_timeout")


def test_an_env_file_may_be_named_by_a_variable(one, write):
    write("A=1\n", "green.env")
    assert one(HEAD + 'env_file = "${COLOUR}.env"', environ={"COLOUR": "green"}).env == (("A", "1"),)


@pytest.mark.parametrize("content", [b"A=\xff\n", b"nonsense\n"])
def test_an_env_file_that_cannot_be_read_is_an_error_at_any_time(refused, tmp_path, content):
    (tmp_path / ".env").write_bytes(content)
    assert [code for code, _, _ in refused(HEAD + 'env_file = ".env"')] == ["OX110"]


def test_an_env_file_that_is_a_folder_is_an_error(refused, tmp_path):
    (tmp_path / ".env").mkdir()
    assert [code for code, _, _ in refused(HEAD + 'env_file = ".env"')] == ["OX110"]


def test_a_missing_env_file_beside_the_app_is_pointed_at(read, write, tmp_path):
    """Relative paths are the oxfile's; people often mean the app's folder."""
    write("", "app/.env")
    (warning,) = read(HEAD + 'env_file = ".env"\ncwd = "app"').warnings
    assert f'did you mean "{tmp_path}/app/.env"?' in warning.hint


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b", "/a/b"),
        ("b", "/base/b"),
        ("./b/../c", "/base/c"),
        ("~", "/home/me"),
        ("~/b", "/home/me/b"),
        ("a~b", "/base/a~b"),
        ("~root/x", "/root/x"),
    ],
)
def test_paths_are_made_absolute(path, expected):
    assert absolute(path, "/base", {"HOME": "/home/me"}) == expected


def test_instance_stays_for_the_supervisor(one, folder):
    spec = one(
        '[processes.p]\ncommand = "run -p 80{instance}"\nlog_file = "p-{instance}.log"\nenv = { N = "{instance}" }'
    )
    assert spec.command.argv[-1] == "80{instance}"
    assert spec.logs.file == f"{folder}/p-{{instance}}.log"
    assert spec.env == (("N", "{instance}"),)


def test_integers_and_booleans_of_env_become_strings(one):
    assert one(HEAD + "env = { PORT = 3000, DEBUG = true, OFF = false }").env == (
        ("DEBUG", "true"),
        ("OFF", "false"),
        ("PORT", "3000"),
    )


def test_dollar_names_are_literal_here_and_references_in_the_published_dialect(read):
    text = 'command = "x"\nenv = { A = "$HOME", B = "pa$$word", C = "5$" }'
    plain = read(f"[processes.p]\n{text}").oxfile.process("p")
    assert dict(plain.env) == {"A": "$HOME", "B": "pa$word", "C": "5$"}
    published = read(f'[[apps]]\nname = "p"\n{text}').oxfile.process("p")
    assert dict(published.env)["A"] == "/home/me"


def test_hooks_for_another_host_keep_their_dollar_signs(read):
    loaded = read(HEAD + '[deploy.prod]\npost_deploy = "echo $HOME ${NO}"\n')
    assert dict(loaded.oxfile.deploys[0].options) == {"post_deploy": "echo $HOME ${NO}"}


def test_an_interpreter_is_a_path_or_a_name_on_path(one, folder, tmp_path):
    (tmp_path / "bin").mkdir()
    named = tmp_path / "bin/python3.99"
    named.write_text("")
    named.chmod(0o755)
    assert one(HEAD + 'python = "python3.99"', environ={"PATH": f"{folder}/bin"}).python == str(named)
    assert one(HEAD + 'python = "python3.98"', environ={"PATH": f"{folder}/bin"}).python == f"{folder}/python3.98"
    assert one(HEAD + 'python = ".venv/bin/python"').python == f"{folder}/.venv/bin/python"
    assert one(HEAD + 'python = "~/v/bin/python"').python == "/home/me/v/bin/python"


def test_references_without_end_are_refused(refused):
    """Nesting is refused, never a reason to fall over."""
    count = 300
    nested = "${A:-" * count + "}" * count
    assert [code for code, _, _ in refused(HEAD + f"env = {{ X = '{nested}' }}")] == ["OX104"]
    chain = "\n".join(f'V{n} = "${{V{n + 1}}}"' for n in range(count))
    assert "OX104" in [code for code, _, _ in refused(HEAD + f"[processes.p.env]\n{chain}\nV{count} = 'x'")]


def test_one_missing_variable_is_told_once_a_key(refused):
    assert [code for code, _, _ in refused('[processes.p]\ncommand = "run ${NO} ${NO}"')] == ["OX109"]
