"""What can only be seen with all processes side by side."""

from __future__ import annotations

import pytest


def stack(**tables: str) -> str:
    return "".join(f'[processes.{name}]\ncommand = "x"\n{body}\n' for name, body in tables.items())


@pytest.mark.parametrize(
    ("tables", "circle"),
    [
        ({"a": 'depends_on = ["a"]'}, "a -> a"),
        ({"a": 'depends_on = ["b"]', "b": 'depends_on = ["c"]', "c": 'depends_on = ["a"]'}, "a -> b -> c -> a"),
        ({"x": 'depends_on = ["a"]', "a": 'depends_on = ["b"]', "b": 'depends_on = { a = "started" }'}, "a -> b -> a"),
    ],
)
def test_a_circle_is_told_once_with_its_way(the_problem, tables, circle):
    problem = the_problem(stack(**tables))
    assert (problem.code, problem.found) == ("OX108", circle)


def test_a_diamond_is_no_circle(read):
    tables = {"a": 'depends_on = ["b", "c"]', "b": 'depends_on = ["d"]', "c": 'depends_on = ["d"]', "d": ""}
    assert len(read(stack(**tables)).oxfile.processes) == 4


def test_a_long_chain_needs_no_deep_stack(read):
    tables = {f"p{n}": f'depends_on = ["p{n + 1}"]' for n in range(1500)} | {"p1500": ""}
    assert len(read(stack(**tables)).oxfile.processes) == 1501


def test_one_process_may_write_both_streams_to_one_file(read):
    read(stack(a='log_file = "/l"\nerror_log_file = "/l"'))


@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/null"])
def test_devices_are_not_rotated_so_they_may_be_shared(read, path):
    read(stack(a=f'log_file = "{path}"', b=f'log_file = "{path}"'))


def test_two_names_of_one_log_file_are_one_file(refused):
    codes = refused(stack(a='log_file = "logs/a.log"', b='log_file = "./logs/../logs/a.log"'))
    assert [code for code, _, _ in codes] == ["OX106"]


def test_a_disabled_process_claims_nothing(read):
    read(stack(a='log_file = "/l"', b='log_file = "/l"\ndisabled = true'))


@pytest.mark.parametrize(("here", "missing"), [("ssl_certfile", "ssl_keyfile"), ("ssl_keyfile", "ssl_certfile")])
def test_a_certificate_and_its_key_come_together(the_problem, read, here, missing):
    app = '[processes.a]\napp = "m:a"\n'
    problem = the_problem(f'{app}{here} = "/x"\n')
    assert (problem.code, problem.line) == ("OX105", 3)
    assert problem.message == f'"{missing}" is missing'
    assert read(f'{app}{here} = "/x"\n{missing} = "/x"\n').oxfile.process("a").app.ssl_certfile == "/x"


def test_a_job_has_one_instance(refused):
    assert refused(stack(a='schedule = "@daily"\ninstances = 2')) == [("OX106", 4, "processes.a.instances")]


def test_a_job_is_not_restarted_by_the_clock(refused):
    assert refused(stack(a='schedule = "@daily"\ncron_restart = "@daily"')) == [
        ("OX106", 4, "processes.a.cron_restart")
    ]


def test_a_delay_above_its_ceiling_is_a_conflict(refused):
    text = stack(a="restart_delay_ms = 2000\nrestart_delay_max_ms = 1000")
    assert refused(text) == [("OX106", 4, "processes.a.restart_delay_max_ms")]


def test_a_health_type_that_does_not_fit_its_target(refused):
    text = stack(a='health = { type = "tcp", url = "http://h/" }')
    assert refused(text) == [("OX106", 3, "processes.a.health.type")]


@pytest.mark.parametrize(
    "pair",
    [
        'watch_ignore = ["x"]',
        "catch_up = true",
        'on_failure = "alert"',
        "limits.cpu_window_secs = 5",
        "limits.hard = true",
        'instance_var = "N"',
    ],
)
def test_a_setting_without_effect_is_a_warning(read, pair):
    (warning,) = read(stack(a=pair)).warnings
    assert warning.code == "OX157"


def test_defaults_may_hold_what_only_some_processes_use(read):
    """[defaults] is for all processes, so nothing in it is out of place."""
    text = (
        '[defaults]\nworkers = 4\nwatch_ignore = ["x"]\nhealth_interval_secs = 5\ntimeout = "9s"\n'
        + stack(a="")
        + '[processes.b]\napp = "m:b"\n'
    )
    loaded = read(text)
    assert loaded.warnings == ()
    assert loaded.oxfile.process("b").app.workers == 4
    assert loaded.oxfile.process("a").health is None


def test_a_command_inside_a_missing_folder_is_told_once(read):
    loaded = read('[processes.a]\ncommand = "/nowhere/bin/x"\nworking_dir = "/nowhere"\n')
    assert [warning.line for warning in loaded.warnings] == [3]


def test_a_command_elsewhere_that_is_missing_is_told(read):
    loaded = read('[processes.a]\ncommand = "/nowhere/bin/x"\npython = "/nowhere/python"\n')
    assert sorted(warning.line for warning in loaded.warnings) == [2, 3]


def test_a_file_that_only_its_owner_may_read_may_hold_secrets(read):
    assert read(stack(a='env = { API_TOKEN = "t" }')).warnings == ()


@pytest.mark.parametrize(
    ("base", "profile", "path", "expected"),
    [
        ("limits.memory_mb = 1", "max_memory_mb = 2", "limits.memory", 2 << 20),
        ("max_memory_mb = 1", "limits.memory_mb = 2", "limits.memory", 2 << 20),
        ('log_file = "/a"', 'logs.combined = "/b"', "logs.file", "/b"),
        ('logs.combined = "/a"', 'log_file = "/b"', "logs.file", "/b"),
        ('error_log_file = "/a"', "unified_logs = true", "logs.error_file", None),
        ("unified_logs = true", 'error_log_file = "/a"', "logs.error_file", "/a"),
    ],
)
def test_a_profile_wins_over_another_spelling_in_the_process(read, base, profile, path, expected):
    text = stack(a=f"{base}\n[processes.a.profiles.p]\n{profile}")
    spec = read(text, profile="p").oxfile.process("a")
    table, _, name = path.partition(".")
    assert getattr(getattr(spec, table), name) == expected


def test_a_version_that_is_to_come_is_refused(the_problem):
    problem = the_problem("version = 2\n" + stack(a=""))
    assert (problem.code, problem.expected) == ("OX104", "1, the only version there is")


@pytest.fixture
def folder_of(read, tmp_path):
    """Write files of a mode beside the oxfile and return the warnings about secrets."""

    def warnings(text, mode, **files):
        for name, content in files.items():
            path = tmp_path / f"{name}.env"
            path.write_text(content)
            path.chmod(mode)
        return [problem for problem in read(text).warnings if problem.code == "OX154"]

    return warnings


@pytest.mark.parametrize(("mode", "count"), [(0o644, 1), (0o604, 1), (0o600, 0), (0o640, 0)])
def test_an_env_file_with_secrets_that_everybody_may_read(folder_of, mode, count, tmp_path):
    """Told once, however many processes read it, with the line of the first secret and the command to type."""
    text = stack(a='env_file = "s.env"', b='env_file = ["s.env", "plain.env"]')
    found = folder_of(text, mode, s="PORT=1\nAPI_TOKEN=abc\nDATABASE_URL=redis://:pw@h\n", plain="PORT=1\n")
    assert [(problem.file, problem.line, problem.found, problem.hint) for problem in found] == [
        (f"{tmp_path}/s.env", 2, "API_TOKEN, DATABASE_URL", f"chmod 600 {tmp_path}/s.env")
    ] * count


def test_an_env_file_without_secrets_may_be_read(folder_of):
    assert folder_of(stack(a='env_file = "s.env"'), 0o644, s="PORT=1\nAPI_TOKEN=\n") == []
