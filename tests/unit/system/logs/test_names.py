"""Names of log files."""

from __future__ import annotations

from pathlib import Path

from oxherd.system.logs.names import find_serials, for_instance, rotated


def test_a_retired_file_has_its_number_behind_the_name() -> None:
    assert rotated("/l/web.log", 7) == "/l/web.log.7"


def test_numbers_are_found_in_order_and_by_suffix(tmp_path: Path) -> None:
    for name in (
        "web.log",
        "web.log.10",
        "web.log.9",
        "web.log.3.gz",
        "web.log.07",
        "web.log.x",
        "web.log.4.gz.tmp",
        "other.log.1",
    ):
        (tmp_path / name).touch()
    path = str(tmp_path / "web.log")
    assert find_serials(path) == [9, 10]
    assert find_serials(path, ".gz") == [3]
    assert find_serials(path, ".gz.tmp") == [4]


def test_a_directory_that_is_not_there_has_no_numbers(tmp_path: Path) -> None:
    assert find_serials(str(tmp_path / "none" / "web.log")) == []


def test_instances_share_a_log_unless_its_path_says_otherwise() -> None:
    assert for_instance("/l/web.log", "/i/web.idx", 3) == ("/l/web.log", "/i/web.idx")
    assert for_instance("/l/web-{instance}.log", "/i/web.idx", 3) == ("/l/web-3.log", "/i/web-3.idx")
