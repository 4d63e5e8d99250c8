"""Every row of the micro-benchmark still finds what it times."""

from __future__ import annotations

import pytest

from bench import micro, micro_observe, micro_path, micro_routing

TABLES = micro_path.ROWS, micro_routing.ROWS, micro_observe.ROWS
ROWS = {row.name: row for table in TABLES for row in table}


@pytest.mark.parametrize("name", ROWS)
def test_the_row_can_be_timed(name: str) -> None:
    timed = ROWS[name].prepare()
    timed()
    timed()


def test_names_are_unique() -> None:
    assert len(ROWS) == sum(map(len, TABLES))


def test_a_row_whose_function_has_moved_fails_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    def gone() -> micro.Timed:
        raise ImportError("cannot import name 'scan'")

    rows = [micro.Row("wire: gone", gone, None, 1), micro.Row("wire: here", lambda: int, 1e6, 1)]
    assert micro.run(rows, 0.0001, 1) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("wire: gone  FAILED: ImportError: cannot import name 'scan'")
    assert lines[2].startswith("wire: here") and "over" not in lines[2]
