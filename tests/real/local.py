"""A real llama.cpp server under the runner's care, for tests that want to look behind the gateway."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import threading
from collections.abc import Coroutine
from typing import Any
from urllib.request import urlopen

import pytest

from ghostllm.backends.gguf import GgufRunner
from ghostllm.config.schema import BackendConfig
from ghostllm.net import loop
from tests.fakes.fake import ROOT

MODEL = ROOT / "models" / "smollm2.gguf"


def require() -> None:
    """Skips where there is nothing to run, or nothing to run it with."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp is not installed: pip install -e '.[local]'")
    if not MODEL.exists():
        pytest.skip("models/smollm2.gguf is not there: run scripts/fetch-model")


class LlamaCpp:
    """Runs in a thread of its own, which the server's process is tied to."""

    def __init__(self) -> None:
        config = BackendConfig(
            name="smollm2", kind="gguf", path=str(MODEL), context=2048, parallel=2, threads=1
        )
        self.lines: list[str] = []
        self.runner = GgufRunner(config, lambda level, line: self.lines.append(line))
        self._loop = loop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.url = self._do(self.runner.ensure())
        """As an SDK wants it; the server's root is above."""

    def _do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(120)

    def look(self, path: str) -> Any:
        """A JSON page of the server itself, such as /slots."""
        with urlopen(self.url.removesuffix("/v1") + path, timeout=20) as answer:
            return json.load(answer)

    @property
    def busy(self) -> int:
        return sum(slot["is_processing"] for slot in self.look("/slots"))

    @property
    def released(self) -> list[int]:
        """For each request that has ended: the tokens in its slot."""
        found = [re.search(r"stop processing: n_tokens = (\d+)", line) for line in list(self.lines)]
        return [int(one[1]) for one in found if one]

    def close(self) -> None:
        self._do(self.runner.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
