"""One executable with Python inside: built by PyInstaller, run with nothing on its PATH."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import ghostllm
from tests.fakes import raw
from tests.fakes.fake import ROOT, Fake, until
from tests.packaging.launch import BARE, Launched

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def binary() -> Path:
    subprocess.run([ROOT / "scripts" / "build-binary"], check=True, stdin=subprocess.DEVNULL)
    return ROOT / "dist" / "ghostllm"


def test_it_says_its_version(binary: Path, tmp_path: Path) -> None:
    said = subprocess.run([binary, "version"], cwd=tmp_path, env={**BARE, "PATH": ""}, capture_output=True)
    assert said.stdout.decode() == f"ghostllm {ghostllm.__version__}\n"


def test_it_serves_with_its_native_modules(binary: Path, tmp_path: Path) -> None:
    with (
        Fake("openai", "packed") as fake,
        Launched([binary, "serve"], tmp_path, "--backend", fake.url) as gateway,
    ):
        until(lambda: raw.ask(gateway.address, "GET", "/ready").status == 200, "the executable is ready")
        version = raw.ask(gateway.address, "GET", "/version").json()
        assert (version["loop"], version["json"]) == ("uvloop", "orjson")
        call = {"model": "packed", "messages": [{"role": "user", "content": "Hi"}]}
        assert raw.ask(gateway.address, "POST", "/v1/chat/completions", call).status == 200
