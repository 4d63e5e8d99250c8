"""Tables on a terminal and off it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.cli import ctl_show as show

ROWS = [["NAME", "WHY"], ["one", "a very long explanation of what happened"], ["two", "-"]]


@pytest.fixture
def terminal(monkeypatch):
    """Makes the output a terminal of so many columns."""

    def of(columns):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        monkeypatch.setenv("COLUMNS", str(columns))

    return of


def test_off_a_terminal_nothing_is_cut():
    assert show.table(ROWS)[1] == "one   a very long explanation of what happened"


def test_on_one_the_widest_column_gives_way(terminal):
    terminal(24)
    assert show.table(ROWS) == ["NAME  WHY", "one   a very long expla…", "two   -"]
    assert show.table(ROWS, "  ")[1] == "  one   a very long exp…"
    terminal(80)
    assert show.table(ROWS)[1] == "one   a very long explanation of what happened"


def test_wide_characters_take_two_columns(terminal):
    rows = [["NAME", "X"], ["模型模型", "1"], ["e\u0301", "2"]]
    assert show.table(rows) == ["NAME      X", "模型模型  1", "e\u0301         2"]
    terminal(11)
    assert show.table([["模型模型模型", "1"]]) == ["模型模…   1"]


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=60)), min_size=1), st.integers(1, 100))
def test_lines_fit_where_they_can(rows, columns):
    widths = [max(show._cells(cell) for cell in column) for column in zip(*rows, strict=True)]
    show._narrow(widths, columns - 2)
    for row in rows:
        cells = [show._filled(cell, width) for cell, width in zip(row, widths, strict=True)]
        assert [show._cells(cell) for cell in cells] == widths
    assert sum(widths) <= max(columns - 2, 2 * show.NARROWEST)
