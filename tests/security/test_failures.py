"""Every named failure has a test, and every test that is named is there."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.security.failures import BACKENDS, CVES, ELSEWHERE, TABLE

TESTS = Path(__file__).parents[1]
CHECKLIST = {"F": 11, "E": 6, "U": 8, "T": 8, "A": 6, "R": 6, "O": 5, "C": 2, "TO": 4, "RF": 9, "B": 8,
             "L": 8, "K": 4, "P": 8, "S": 6}  # fmt: skip
"""How many items each part of the checklist has."""

ROWS = [
    *((name, tests) for name, (_, tests) in CVES.items()),
    *TABLE.items(),
    *BACKENDS.items(),
]


@cache
def functions(file: str) -> frozenset[str]:
    """The tests of `wire/bodies`: names without `test_`."""
    folder, _, name = file.rpartition("/")
    tree = ast.parse((TESTS / folder / f"test_{name}.py").read_text("utf-8"))
    return frozenset(
        node.name.removeprefix("test_")
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_")
    )


@pytest.mark.parametrize(("failure", "tests"), ROWS, ids=[name for name, _ in ROWS])
def test_what_shows_it_is_there(failure: str, tests: tuple[str, ...]) -> None:
    assert tests
    for test in tests:
        file, _, name = test.partition(": ")
        assert name in functions(file), f"{failure}: no test {name!r} in {file}"


def test_nothing_of_the_checklist_is_left_out() -> None:
    items = {f"{part}{number}" for part, count in CHECKLIST.items() for number in range(1, count + 1)}
    assert items - set(TABLE) - set(ELSEWHERE) == set()
    assert set(TABLE) & set(ELSEWHERE) == set(), "it is there by now"
