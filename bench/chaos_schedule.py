"""What is done to the backends of the chaos: killed, frozen, restarted, moved, taken away, drained; by
chance, but the same for the same seed.
"""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bench.chaos_backends import Backend, publish
from bench.chaos_clients import Crowd
from tests.fakes.gateway import Gateway

GAP = 3.0
"""Seconds between two deeds, on average."""
AIM = 150
"""Looks for a stream to hit, 0.02 s apart, before a kill."""
LOOKS = 150
"""Looks at whether a backend is used again, 0.2 s apart, before it may be disturbed once more."""

DEEDS = {"kill": 4, "freeze": 3, "freeze and kill": 1, "restart": 2, "move": 1, "remove": 2, "drain": 2}
"""With their weights. move: killed, and what comes back is at another address. freeze: SIGSTOP."""


class Schedule:
    """done: how often what was done. struck: streams that were under way when their backend was killed."""

    def __init__(self, backends: Sequence[Backend], file: Path, gateway: Gateway, crowd: Crowd) -> None:
        self.done: Counter[str] = Counter()
        self.struck = 0
        self._backends = backends
        self._file = file
        self._gateway = gateway
        self._crowd = crowd
        self._busy: set[Backend] = set()
        self._began = 0.0

    async def run(self, seconds: float, seed: int) -> None:
        """Returns when everything that was begun in that time has been put right again. It begins with a
        kill, and one backend that the gateway can use is always left alone.
        """
        clock, chance = asyncio.get_running_loop().time, random.Random(seed)
        self._began = clock()
        end, kinds, weights = self._began + seconds, list(DEEDS), list(DEEDS.values())
        deed = "kill"
        async with asyncio.TaskGroup() as group:
            while True:
                free = [one for one in self._backends if one not in self._busy]
                if len(free) > 1:
                    backend = self._target(free, deed, chance)
                    self._busy.add(backend)
                    group.create_task(self._do(deed, backend, chance))
                    deed = chance.choices(kinds, weights)[0]
                await asyncio.sleep(GAP * chance.uniform(0.4, 1.6))
                if clock() > end:
                    return

    def _target(self, free: list[Backend], deed: str, chance: random.Random) -> Backend:
        """What kills goes where it hits most."""
        if deed in ("kill", "move"):
            return max(free, key=lambda one: len(self._crowd.streaming(one.name)))
        return chance.choice(free)

    async def _do(self, deed: str, backend: Backend, chance: random.Random) -> None:
        pause, clock = chance.uniform(0.5, 8.0), asyncio.get_running_loop().time
        began = clock()
        if deed in ("kill", "move"):
            await self._kill(backend)
            await asyncio.sleep(pause / 2)
            await backend.start(move=deed == "move")
        elif deed == "restart":
            await backend.end()
            await backend.start()
        elif deed == "remove":
            backend.listed = False
            self._publish()
            await asyncio.sleep(pause)
            backend.listed = True
        elif deed == "drain":
            await self._drain(backend, "drain")
            await asyncio.sleep(pause)
            await self._drain(backend, "undrain")
        else:
            await self._freeze(backend, pause, killed=deed != "freeze")
        self._publish()
        self.done[deed] += 1
        told = clock()
        await self._back(backend)
        print(
            f"{began - self._began:6.1f} s  {deed} {backend.name}: restored after {told - began:.1f} s, "
            f"in use after {clock() - began:.1f} s", flush=True,
        )  # fmt: skip
        self._busy.discard(backend)

    async def _back(self, backend: Backend) -> None:
        """Waits until the gateway sends it requests again, but not for ever: whether it does so in the end is
        looked at when all is over.
        """
        for _ in range(LOOKS):
            answer = await asyncio.to_thread(self._gateway.ask, "GET", "/admin/api/backends")
            row = next((row for row in answer.json()["backends"] if row["name"] == backend.name), {})
            if (row.get("state"), row.get("breaker")) == ("up", "closed"):
                return
            await asyncio.sleep(0.2)

    async def _kill(self, backend: Backend) -> None:
        for _ in range(AIM):
            if self._crowd.streaming(backend.name):
                break
            await asyncio.sleep(0.02)
        self.struck += len(self._crowd.streaming(backend.name))
        await backend.kill()

    async def _freeze(self, backend: Backend, seconds: float, *, killed: bool) -> None:
        backend.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        if killed:
            await backend.kill()
            await backend.start()
        else:
            backend.signal(signal.SIGCONT)

    async def _drain(self, backend: Backend, word: str) -> None:
        path = f"/admin/api/backends/{backend.name}/{word}"
        answer = await asyncio.to_thread(self._gateway.ask, "POST", path, None, {"x-ghostllm-admin": "1"})
        assert answer.status == 200, answer.body

    def _publish(self) -> None:
        publish(self._backends, self._file)
