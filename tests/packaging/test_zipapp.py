"""One file, bare Python: the zipapp serves where nothing else is installed."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ghostllm
from tests.fakes import raw
from tests.fakes.fake import ROOT, Fake, until
from tests.packaging.launch import BARE, Launched

PYTHON = Path(sys.base_prefix, "bin", f"python{sys.version_info.major}.{sys.version_info.minor}")


def build(target: Path) -> Path:
    subprocess.run([sys.executable, ROOT / "scripts" / "build-zipapp", target], check=True)
    return target


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("zipapp") / "ghostllm.pyz")


def bare(*arguments: str | Path) -> list[str | Path]:
    """An interpreter that sees neither this folder nor any installed package."""
    return [PYTHON, "-I", "-S", *arguments]


def test_the_same_sources_give_the_same_bytes(zipapp: Path, tmp_path: Path) -> None:
    assert build(tmp_path / "again.pyz").read_bytes() == zipapp.read_bytes()


def test_it_holds_the_package_and_pure_dependencies(zipapp: Path) -> None:
    names = set(zipfile.ZipFile(zipapp).namelist())
    package = {path for path in (ROOT / "ghostllm").rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {path.relative_to(ROOT).as_posix() for path in package} <= names
    assert {"__main__.py", "h11/__init__.py", "pynvml.py"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyd", ".pyc"))]


def test_it_starts_like_a_program(zipapp: Path, tmp_path: Path) -> None:
    assert zipapp.stat().st_mode & 0o111 == 0o111
    assert zipapp.read_bytes().startswith(b"#!/usr/bin/env python3\n")
    said = subprocess.run(bare(zipapp, "version"), cwd=tmp_path, env=BARE, capture_output=True, check=True)
    assert said.stdout.decode() == f"ghostllm {ghostllm.__version__}\n"


def test_data_files_can_be_read_from_it(zipapp: Path, tmp_path: Path) -> None:
    code = """if True:
        import sys
        from importlib.resources import files
        sys.path.insert(0, sys.argv[1])
        for one in files("ghostllm").iterdir():
            if one.is_file() and one.read_text() is not None:
                print(one.name)
    """
    listed = subprocess.run(bare("-c", code, zipapp), cwd=tmp_path, env=BARE, capture_output=True, check=True)
    assert {"py.typed", "message.py"} <= set(listed.stdout.decode().split())


def test_it_serves(zipapp: Path, tmp_path: Path) -> None:
    with (
        Fake("openai", "packed") as fake,
        Launched(bare(zipapp, "serve"), tmp_path, "--backend", fake.url + "/v1") as gateway,
    ):
        until(lambda: raw.ask(gateway.address, "GET", "/ready").status == 200, "the zipapp is ready")
        assert raw.ask(gateway.address, "GET", "/health").status == 200
        models = json.loads(raw.ask(gateway.address, "GET", "/v1/models").body)
        assert [model["id"] for model in models["data"]] == ["packed"]
        call = {"model": "packed", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
        answer = raw.ask(gateway.address, "POST", "/v1/chat/completions", call)
        assert answer.status == 200 and answer.body.rstrip().endswith(b"data: [DONE]")


def test_it_serves_without_any_backend(zipapp: Path, tmp_path: Path) -> None:
    with Launched(bare(zipapp, "serve"), tmp_path, "--set", "discovery.local=false") as gateway:
        assert raw.ask(gateway.address, "GET", "/health").status == 200
        assert json.loads(raw.ask(gateway.address, "GET", "/v1/models").body)["data"] == []
