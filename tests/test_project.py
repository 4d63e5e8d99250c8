"""What the project says of itself is true: version, commands, first steps; nothing unfinished is shipped."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import ghostllm

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
README = (ROOT / "README.md").read_text("utf-8")
FIRST_SCREEN = "\n".join(README.splitlines()[:40])

UNFINISHED = re.compile(r"\b(?:TO" "DO|FIX" "ME|X" "XX)\\b")
MACHINE = re.compile(
    r"(?<![\w.:/])/(?:work|root|home/\w+)/|/tmp/\w|\b(?:pypi\.org|pythonhosted\.org|registry\.npmjs|proxy\.golang|deb\.debian\.org)"
)
"""Paths of one person's machine, and package registries: their clients are configured, not told."""


def shipped() -> list[Path]:
    """Text files that are, or are about to be, in the repository. Without git: nothing to check."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in files if path.is_file() and b"\0" not in path.read_bytes()[:4096]]


@pytest.mark.parametrize("pattern", [UNFINISHED, MACHINE], ids=["unfinished", "machine"])
def test_nothing_is_left_behind(pattern: re.Pattern[str]) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]}"
        for path in shipped()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if (match := pattern.search(line))
    ]
    assert found == []


def test_the_changelog_opens_with_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    top = re.search(r"^## (\S+)", changelog, re.MULTILINE)
    assert top is not None and top[1] == ghostllm.__version__


def test_console_scripts_are_there() -> None:
    scripts = PROJECT["project"]["scripts"]
    assert set(scripts) == {"ghostllm", "ghostctl"}
    for place in scripts.values():
        module, _, function = place.partition(":")
        assert callable(getattr(import_module(module), function))


def test_the_core_needs_four_packages() -> None:
    names = {re.split(r"[^\w-]", one)[0] for one in PROJECT["project"]["dependencies"]}
    assert names == {"uvloop", "h11", "orjson", "nvidia-ml-py"}


def test_every_declared_extra_is_explained() -> None:
    missing = [extra for extra in PROJECT["project"]["optional-dependencies"] if f"`{extra}`" not in README]
    assert missing == []


def test_every_path_and_metric_is_in_the_readme() -> None:
    table = (ROOT / "ghostllm" / "gateway" / "gateway.py").read_text("utf-8")
    paths = re.findall(r'Route\("\w+", "(/[^"]*)"', table)
    observing = "".join(path.read_text("utf-8") for path in (ROOT / "ghostllm" / "observe").glob("*.py"))
    metrics = re.findall(r'"(ghostllm_[a-z_]+)"', observing)
    assert len(paths) > 5 and len(metrics) > 5
    assert [name for name in paths + metrics if name not in README] == []


def test_the_readme_starts_with_first_steps() -> None:
    for step in ("scripts/serve", "scripts/test", "curl "):
        assert step in FIRST_SCREEN


def test_what_the_readme_points_to_exists() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    scripts = re.findall(r"\bscripts/[\w-]+", README)
    assert [name for name in links + scripts if not (ROOT / name).exists()] == []


def test_the_entry_file_has_no_logic() -> None:
    assert len((ROOT / "ghostllm.py").read_text("utf-8").splitlines()) <= 10
