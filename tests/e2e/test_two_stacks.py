"""Two stacks with the same process names in one supervisor are two things."""

from __future__ import annotations

from support.harness import program

OXFILE = f'[processes.web]\ncommand = "{program("sleeper")}"\n'


def both(ox):
    first, second = ox.oxfile(OXFILE, folder="first"), ox.oxfile(OXFILE, folder="second")
    ox.ok("start", cwd=first)
    ox.ok("start", cwd=second)
    return first, second


def by_stack(ox) -> dict[str, str]:
    return {row["stack"]: row["status"] for row in ox.rows(everything=True)}


def test_stopping_one_leaves_the_other(ox):
    """`stop` in one folder is about that folder's stack alone."""
    first, _ = both(ox)
    ox.ok("stop", cwd=first)
    assert by_stack(ox) == {"first": "stopped", "second": "running"}
    ox.ok("delete", "web", cwd=first)
    assert by_stack(ox) == {"second": "running"}


def test_an_ambiguous_name_is_an_error_that_lists_the_stacks(ox):
    """Outside of any stack's folder a name that is in both is refused with exit 2; --config decides."""
    first, second = both(ox)
    outside = ox.base / "home"
    result = ox.cli("stop", "web", cwd=outside)
    assert result.code == 2
    assert str(first) in result.err
    assert str(second) in result.err
    assert by_stack(ox) == {"first": "running", "second": "running"}
    ox.ok("stop", "web", "--config", str(first), cwd=outside)
    assert by_stack(ox) == {"first": "stopped", "second": "running"}


def test_a_name_that_one_stack_has_is_found_from_anywhere(ox):
    """Outside of any folder a name that only one stack has means that stack."""
    both(ox)
    ox.oxfile(OXFILE.replace("web", "worker"), folder="third")
    ox.ok("start")
    ox.ok("stop", "worker", cwd=ox.base / "home")
    assert by_stack(ox) == {"first": "running", "second": "running", "third": "stopped"}


def test_status_shows_the_stack_of_the_folder_or_all(ox):
    """In a stack's folder its own rows, elsewhere and with --all every stack's."""
    first, _ = both(ox)
    assert {row["stack"] for row in ox.ok("status", "--json", cwd=first).json} == {"first"}
    assert {row["stack"] for row in ox.ok("status", "--json", "--all", cwd=first).json} == {"first", "second"}
    assert {row["stack"] for row in ox.ok("status", "--json", cwd=ox.base / "home").json} == {"first", "second"}


def test_logs_are_kept_apart(ox):
    """Each stack's process of the same name has a log of its own."""
    first, second = both(ox)
    assert ox.state_of_stack(first) != ox.state_of_stack(second)
    for folder in (first, second):
        ox.folder = folder
        assert ox.wait_log("web", b"ready").count(b"ready") == 1


def test_one_command_about_two_stacks(ox):
    """--config twice: one command stops both."""
    first, second = both(ox)
    ox.ok("stop", "-c", str(first), "-c", str(second))
    assert by_stack(ox) == {"first": "stopped", "second": "stopped"}
