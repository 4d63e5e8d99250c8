"""OpenAI's client for JavaScript in front of any backend."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import KINDS
from tests.fakes.behaviour import TEXT
from tests.fakes.fake import ROOT
from tests.fakes.gateway import Gateway

FOLDER = Path(ROOT) / ".cache" / "npm"
WHOLE = "".join(TEXT)


@pytest.fixture(scope="module")
def package() -> Path:
    """A folder that has the npm package `openai`, installed once."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no node and npm here")
    FOLDER.parent.mkdir(exist_ok=True)
    with (FOLDER.parent / "npm.lock").open("w") as lock:  # several runs may be on their way
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (FOLDER / "installed").exists():
            command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(FOLDER)]
            try:
                done = subprocess.run([*command, "openai"], capture_output=True, text=True, timeout=50)
            except subprocess.TimeoutExpired:
                pytest.skip("npm cannot install openai: its registry does not answer")
            if done.returncode:
                pytest.skip(f"npm cannot install openai: {(done.stdout + done.stderr).strip()[-200:]}")
            (FOLDER / "installed").touch()
    return FOLDER


@pytest.mark.parametrize("model", ["m", *KINDS])
def test_chat_and_responses(gateway: Gateway, package: Path, model: str) -> None:
    script = Path(__file__).with_name("openai_client.mjs")
    command = ["node", str(script), f"{gateway.url}/v1", model]
    done = subprocess.run(command, cwd=package, capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [said[name] for name in ("chat", "stream", "response", "responseStream")] == [WHOLE] * 4
    assert said["tokens"] == 6
    assert said["error"] == ["NotFoundError", 404, "model_not_found", "string"]
