"""The backends of the chaos: real llama.cpp servers, each a process group of its own, and the file in which
the gateway is told of them.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from ghostllm.backends.child import Child
from ghostllm.backends.gguf_child import Spec, choose_engine, command
from ghostllm.errors import GhostError
from ghostllm.net.fetch import fetch
from tests.fakes.fake import ROOT

MODEL_FILE = ROOT / "models" / "smollm2.gguf"
SLOTS = 4
"""Answers that each computes at a time, and the gateway's max_inflight for it: more would wait out of its
sight.
"""
LOADING = 60.0
"""Seconds that a server may take to come up on a busy machine."""


def missing() -> str | None:
    """What there is to be done before it can run."""
    if choose_engine() is None:
        return "llama.cpp is not installed: pip install -e '.[local]'"
    if not MODEL_FILE.exists():
        return f"models/{MODEL_FILE.name} is not there: run scripts/fetch-model"
    return None


class Backend:
    """url: as the gateway is told; it outlives the process, as a service's address does. listed: whether it
    is in the file.
    """

    def __init__(self, name: str, alias: str) -> None:
        self.name = name
        self.url = ""
        self.listed = True
        self._alias = alias
        self._prefix = "/" + secrets.token_urlsafe(12)
        self._child: Child | None = None

    def __repr__(self) -> str:
        return f"<Backend {self.name} {self._child!r}>"

    @property
    def _port(self) -> int:
        return int(self.url.split("/")[2].rpartition(":")[2]) if self.url else 0

    async def start(self, *, move: bool = False) -> None:
        """On return it listens, with its model loaded. move: at another address than before."""
        engine = choose_engine()
        assert engine is not None and self._child is None
        spec = Spec(
            engine=engine, path=str(MODEL_FILE), alias=self._alias, context=512, parallel=SLOTS, threads=1,
            gpu_layers=0, connections=32, prefix=self._prefix, parent=os.getpid(),
            port=0 if move else self._port,
        )  # fmt: skip
        child = await Child.spawn(command(), json.dumps(spec).encode() + b"\n", lambda line: None)
        self._child = child
        await asyncio.wait(
            (child.address, child.exited), timeout=LOADING, return_when=asyncio.FIRST_COMPLETED
        )
        if not child.address.done() or child.address.cancelled():
            tail = "\n".join(child.tail)
            await self.end()
            raise RuntimeError(f"{self.name} does not come up:\n{tail}")
        root = child.address.result() + self._prefix
        async with asyncio.timeout(LOADING):
            while await self._status(root) != 200:
                await asyncio.wait((child.exited,), timeout=0.05)
        self.url = f"{root}/v1"

    async def _status(self, root: str) -> int:
        try:
            return (await fetch(root, "/health", seconds=10)).status
        except GhostError:
            return 0

    async def kill(self) -> None:
        """SIGKILL. On return it is gone."""
        self.signal(signal.SIGKILL)
        if self._child is not None:
            await self._child.exited
            self._child = None

    async def end(self) -> None:
        """SIGTERM, as at a restart of the service."""
        if self._child is not None:
            self.signal(signal.SIGCONT)
            await self._child.stop(5.0)
            self._child = None

    def signal(self, number: signal.Signals) -> None:
        """To the whole process group."""
        if self._child is not None and not self._child.exited.done():
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, number)


def publish(backends: Iterable[Backend], path: Path) -> None:
    """Replaces the file in one step: nobody sees half of it."""
    listed = [
        {"name": one.name, "kind": "llamacpp", "url": one.url, "max_inflight": SLOTS}
        for one in backends
        if one.listed
    ]
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"backends": listed}))
    os.replace(part, path)
