"""The layer table: who may import whom, what pure code may not touch, and how long a module may get."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ghostllm"
RANKS = {
    0: ("__init__", "message", "errors", "jsonx"),
    1: ("ports", "config", "wire", "api"),
    2: ("net", "state"),
    3: ("routing", "backends", "policy", "cache", "cluster", "gpu", "models", "chain", "observe"),
    4: ("gateway",),
    5: ("admin",),
    6: ("app",),
    7: ("cli",),
    8: ("__main__",),
}
RANK = {part: rank for rank, parts in RANKS.items() for part in parts}
IMPURE = {
    "asyncio", "concurrent", "io", "multiprocessing", "os", "pathlib", "select", "selectors", "shutil",
    "signal", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "uvloop",
}  # fmt: skip
"""What wire and api do without. `from time import gmtime` is calendar arithmetic, no clock, and allowed."""
SOFT, HARD = 300, 500

MODULES = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
"""Path inside the package -> file."""


def part_of(module: str) -> str:
    """`wire/h1.py` -> `wire`, `errors.py` -> `errors`."""
    return module.split("/")[0].removesuffix(".py")


def imports(module: str) -> Iterator[str]:
    """Dotted names of what it imports, `from x import y` as x.y; relative imports are not used here."""
    for node in ast.walk(ast.parse(MODULES[module].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}:{node.lineno}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_parts(module: str) -> Iterator[str]:
    """The parts of the package that it imports."""
    for name in imports(module):
        words = name.split(".")
        if words[0] == "ghostllm":
            inside = len(words) > 1 and (PACKAGE / words[1]).with_suffix(".py").exists()
            yield words[1] if inside or (len(words) > 1 and (PACKAGE / words[1]).is_dir()) else "__init__"


def outside(module: str) -> set[str]:
    """Top-level names of everything else that it imports."""
    return {name.split(".")[0] for name in imports(module)} - {"ghostllm"}


@pytest.mark.parametrize("module", MODULES)
def test_layers(module: str) -> None:
    part = part_of(module)
    assert part in RANK, f"{module}: give {part} a rank in ARCHITECTURE's table and here"
    allowed = {other for other, rank in RANK.items() if rank < RANK[part]} | {part}
    if RANK[part] == 0:
        allowed |= set(RANKS[0])
        assert outside(module) <= sys.stdlib_module_names | {"orjson"}
    if part in ("config", "wire", "api"):
        allowed.add("ports")  # a module of interfaces, no folder: it depends on none of them
    if part in ("wire", "api"):
        assert not {name.split(".")[0] for name in imports(module) if name != "time.gmtime"} & IMPURE
    if part == "gateway":
        allowed -= set(RANKS[3]) - {"routing"}
    if module.startswith("cli/ctl"):  # it knows the gateway's HTTP interface only
        allowed = {"__init__", "cli"}
        inside = [name for name in imports(module) if name.startswith("ghostllm.cli")]
        assert all(name.startswith("ghostllm.cli.ctl") for name in inside)
    assert set(own_parts(module)) <= allowed


def test_sockets_and_loops_are_nets() -> None:
    owners = {part_of(module) for module in MODULES if outside(module) & {"socket", "ssl", "uvloop"}}
    assert owners <= {"net"}


def test_each_third_party_package_is_imported_in_one_module() -> None:
    users = defaultdict(set)
    for module in MODULES:
        for name in outside(module) - sys.stdlib_module_names:
            users[name].add(module)
    assert {name: modules for name, modules in users.items() if len(modules) > 1} == {}


def test_modules_are_short(capsys: pytest.CaptureFixture[str]) -> None:
    lines = {module: len(path.read_text("utf-8").splitlines()) for module, path in MODULES.items()}
    if long := [f"{module} ({count})" for module, count in lines.items() if count > SOFT]:
        with capsys.disabled():
            print(f"\nmodules over {SOFT} lines: {', '.join(long)}")
    assert {module: count for module, count in lines.items() if count > HARD} == {}
