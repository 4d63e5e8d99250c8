"""The first of the two commands, on a fresh copy of the sources with an empty home: to a real answer."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fakes import raw
from tests.fakes.fake import ROOT, until
from tests.real.local import MODEL, require

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.environ.get("GHOSTLLM_PURE") == "1", reason="the script installs what it needs"),
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path with a space in it: scripts forget their quotes."""
    require()
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout.decode().split("\0")
    target = tmp_path_factory.mktemp("fresh") / "ghost llm"
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target.parent / "home").mkdir()
    return target


@contextmanager
def served(checkout: Path) -> Iterator[tuple[str, Path]]:
    """scripts/serve, called from somewhere else, once it listens: its address and its output."""
    log = checkout.parent / "log"
    environment = {**os.environ, "HOME": str(checkout.parent / "home")}
    command = [checkout / "scripts" / "serve", "--listen", "127.0.0.1:0", "--log-format", "json"]
    with log.open("wb") as output:
        script = subprocess.Popen(
            command, cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        mark = '"event":"listening","address":"'
        until(lambda: mark in log.read_text() or script.poll() is not None, "it listens", 800)
        assert script.poll() is None, log.read_text()
        yield log.read_text().partition(mark)[2].partition('"')[0], log
        script.send_signal(signal.SIGTERM)
        assert script.wait(30) == 0
    finally:
        script.kill()
        script.wait()


def test_one_command_leads_to_a_streamed_answer(checkout: Path) -> None:
    with served(checkout) as (address, log):
        body = {
            "model": "smollm2",
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 8,
            "stream": True,
        }
        answer = raw.ask(address, "POST", "/v1/chat/completions", body)
        assert answer.status == 200 and answer.body.endswith(b"data: [DONE]\n\n")
        assert "Downloading" in log.read_text()  # it says what it is doing all that time
    assert (checkout / "models" / MODEL.name).stat().st_size == MODEL.stat().st_size


def test_the_second_start_does_nothing_twice(checkout: Path) -> None:
    installed = (checkout / ".venv" / "pyvenv.cfg").stat().st_mtime_ns
    began = time.time()
    with served(checkout) as (address, log):
        assert raw.ask(address, "GET", "/v1/models").status == 200
        assert "Downloading" not in log.read_text() and "nstalling" not in log.read_text()
    assert (checkout / ".venv" / "pyvenv.cfg").stat().st_mtime_ns == installed
    assert (checkout / "models" / MODEL.name).stat().st_mtime < began
