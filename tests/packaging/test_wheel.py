"""The wheel holds what the folder holds: a file that setuptools was not told of would be missing from it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.fakes.fake import ROOT


@pytest.mark.timeout(120)
def test_the_wheel_is_whole(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel"]
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "ghostllm.py"):
        (source / name).write_bytes((ROOT / name).read_bytes())
    files = {path for path in (ROOT / "ghostllm").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    for path in files:
        copy = source / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("ghostllm-*-py3-none-any.whl")
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("ghostllm/")}
    assert inside == {path.relative_to(ROOT).as_posix() for path in files}
