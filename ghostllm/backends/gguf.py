"""GhostLLM's own llama.cpp: one child process for one GGUF file, kept alive while it is wanted.

The gateway speaks HTTP to the child as to any llama.cpp server; here is only the child's life:

    stopped --ensure--> starting --answers--> ready --ends or hangs--> backoff --after the pause--> starting
                        starting --does not come up--> failed --ensure, after the pause--> starting

A child that had worked is brought back at once (a crash should not cost the next client the load); one that
never came up is tried again only when somebody asks. The pause doubles with every fall and is forgotten after
a healthy minute.

The child listens on loopback, where everybody on the machine can knock. So it answers only below a random
path that its gateway alone knows: no other user and no web page reaches the model around the gateway's keys.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ghostllm.backends.child import Child, without_secrets
from ghostllm.backends.gguf_child import INSTALL, Spec, choose_engine, command
from ghostllm.backends.gguf_header import MAGIC
from ghostllm.config.schema import BackendConfig
from ghostllm.errors import GhostError, UpstreamConnectError, UpstreamError, UpstreamTimeout
from ghostllm.net.fetch import fetch

State = Literal["stopped", "starting", "ready", "backoff", "failed"]
Log = Callable[[str, str], None]

_LEVEL = re.compile(r"[\d.]+ ([DIWE]) ")
_SPARE_CONNECTIONS = 8


class _Hopeless(UpstreamConnectError):
    """Another target may do; asking this one again at once is of no use."""

    repeatable = False


@dataclass(slots=True, frozen=True, kw_only=True)
class Pace:
    """All in seconds. patience: the longest pause that `ensure` sits out instead of raising. misses: probes
    without an answer that make a child a hung one.
    """

    pause: float = 0.5
    longest_pause: float = 30.0
    healthy: float = 60.0
    patience: float = 1.0
    poll: float = 0.05
    probe: float = 5.0
    probe_timeout: float = 10.0
    misses: int = 3
    grace: float = 5.0


class GgufRunner:
    """One model file, served on demand.

    model: the name that the server gives it. log: called with a level and a line, for what the child says and
    what happens to it. engine: as `choose_engine` gives it; None: chosen at each start.
    """

    def __init__(
        self, config: BackendConfig, log: Log, pace: Pace | None = None, engine: str | None = None
    ) -> None:
        self.config = config
        self.model = config.name
        self.state: State = "stopped"
        self._log = log
        self._pace = pace or Pace()
        self._engine = engine
        self._base_url = ""
        self._reason = ""
        self._pause = 0.0
        self._not_before = 0.0
        self._life: asyncio.Task[None] | None = None
        self._up: asyncio.Future[str] | None = None
        self._child: Child | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<GgufRunner {self.model} {self.state} {self._child!r}>"

    @property
    def pid(self) -> int | None:
        """The child's process id while there is one."""
        return self._child.pid if self._child is not None else None

    async def ensure(self) -> str:
        """The base URL of the server as SDKs mean it (`http://127.0.0.1:PORT/SECRET/v1`), started if need be.

        All callers share one start; it goes on when a caller is cancelled. Raises UpstreamConnectError (no
        such file, no engine, it does not come up) and UpstreamTimeout with limit "load".
        """
        if self.state == "ready":
            return self._base_url
        if self._closed:
            raise UpstreamConnectError(f"{self._label} is shut down")
        wait = self._not_before - time.monotonic()
        if self.state in ("backoff", "failed") and wait > self._pace.patience:
            raise UpstreamConnectError(f"{self._reason}; next try in {wait:.0f} s", retry_after=wait)
        if self._life is None or self._life.done():
            self._up = self._promise()
            self._life = asyncio.get_running_loop().create_task(self._live(), name=f"gguf {self.model}")
            self._life.add_done_callback(self._over)
        assert self._up is not None
        return await asyncio.shield(self._up)

    async def stop(self) -> None:
        """For good. On return no process is left; waiting callers have an error."""
        self._closed = True
        life, self._life = self._life, None
        if life is not None:
            life.cancel()
            await asyncio.gather(life, return_exceptions=True)
        self._settle(UpstreamConnectError(f"{self._label} is shut down"))
        self.state = "stopped"

    # --- the life of one child after another

    async def _live(self) -> None:
        """Until the model does not come up."""
        while True:
            await asyncio.sleep(self._not_before - time.monotonic())
            self.state = "starting"
            try:
                await self._run_one()
            except UpstreamError as error:
                self.state = "failed"
                if not isinstance(error, _Hopeless):  # which costs nothing to look at again
                    self._fall(error.message)
                self._settle(error)
                return

    async def _run_one(self) -> None:
        """One child from its start to its end. Raises UpstreamError if it never served."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self.config.load_timeout or None):
                url = await self._start()
        except TimeoutError:
            await self._end()
            raise UpstreamTimeout(
                f"{self._label} was not loaded within {self.config.load_timeout:g} s", limit="load"
            ) from None
        except BaseException:
            await self._end()
            raise
        try:
            self._base_url = f"{url}/v1"
            self.state = "ready"
            self._say("info", f"ready after {time.monotonic() - began:.1f} s, process {self.pid}")
            self._settle(self._base_url)
            reason = await self._watch(url)
        finally:
            self.state = "backoff"
            self._up = self._promise()
            await self._end()
        self._fall(reason)
        self._say("error", f"{reason}; next start in {self._pause:g} s")

    async def _start(self) -> str:
        """The root URL of a server that answers."""
        spec = await asyncio.to_thread(self._spec)
        self._say("info", f"loading {self.config.path} ({Path(spec['engine']).name})")
        try:
            self._child = child = await Child.spawn(
                command(),
                json.dumps(spec).encode() + b"\n",
                self._child_says,
                without_secrets(os.environ),
            )
        except OSError as error:
            raise UpstreamConnectError(
                f"{self._label}: no process could be started: {error.strerror}"
            ) from None
        await asyncio.wait((child.address, child.exited), return_when=asyncio.FIRST_COMPLETED)
        while not child.exited.done():
            url = child.address.result() + spec["prefix"]
            status = await self._probe(url, self._pace.probe_timeout)
            if status == 200:
                return url
            if status == 404:
                raise _Hopeless(
                    f"{self._label}: this llama-server is too old (it does not know --api-prefix)"
                )
            await asyncio.wait((child.exited,), timeout=self._pace.poll)
        raise UpstreamConnectError(f"{self._label} did not come up: {child.epitaph}")

    async def _watch(self, url: str) -> str:
        """Returns when the child has ended or hangs: what happened."""
        assert self._child is not None
        child, misses, since = self._child, 0, time.monotonic()
        while True:
            await asyncio.wait((child.exited,), timeout=self._pace.probe)
            if child.exited.done():
                return f"{self._label} ended unexpectedly: {child.epitaph}"
            if await self._probe(url, self._pace.probe_timeout) == 200:
                misses = 0
                if time.monotonic() - since >= self._pace.healthy:
                    self._pause = 0.0
                continue
            misses += 1
            if misses >= self._pace.misses and not child.exited.done():
                child.kill()
                return f"{self._label} did not answer {misses} probes and was killed"

    async def _probe(self, url: str, seconds: float) -> int | None:
        """The status of its health page; None: no answer. llama.cpp: 503 while it loads."""
        try:
            return (await fetch(url, "/health", seconds=seconds)).status
        except GhostError:
            return None

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            await child.stop(self._pace.grace)

    # --- small parts

    @property
    def _label(self) -> str:
        return f"local model {self.model}"

    def _spec(self) -> Spec:
        """Everything that can be wrong before a process is started. Raises UpstreamConnectError."""
        path = os.path.abspath(os.path.expanduser(self.config.path))
        try:
            with open(path, "rb") as file:
                magic = file.read(len(MAGIC))
        except OSError as error:
            raise _Hopeless(f"{self._label}: cannot read {path}: {error.strerror}") from None
        if magic != MAGIC:
            raise _Hopeless(f"{self._label}: {path} is not a GGUF file")
        engine = self._engine or choose_engine()
        if engine is None:
            raise _Hopeless(f"{self._label} needs llama.cpp: {INSTALL}")
        config = self.config
        return Spec(
            engine=engine,
            path=path,
            alias=self.model,
            context=config.context,
            parallel=config.parallel,
            threads=config.threads,
            gpu_layers=config.gpu_layers,
            connections=config.max_connections + _SPARE_CONNECTIONS,
            prefix="/" + secrets.token_urlsafe(24),
            parent=os.getpid(),
        )

    def _over(self, life: asyncio.Task[None]) -> None:
        """A mistake of ours ended it: nobody is left waiting."""
        if not life.cancelled() and (error := life.exception()) is not None:
            self.state = "failed"
            self._say("error", f"{self._label}: {error!r}")
            self._settle(UpstreamConnectError(f"{self._label} is not running: {error!r}"))

    def _fall(self, reason: str) -> None:
        """Sets the pause before the next start."""
        self._reason = reason
        self._pause = min(self._pause * 2 or self._pace.pause, self._pace.longest_pause)
        self._not_before = time.monotonic() + self._pause

    def _promise(self) -> asyncio.Future[str]:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        future.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may be waiting
        return future

    def _settle(self, result: str | UpstreamError) -> None:
        if self._up is None or self._up.done():
            return
        if isinstance(result, str):
            self._up.set_result(result)
        else:
            self._up.set_exception(result)

    def _child_says(self, line: str) -> None:
        """llama.cpp writes some lines for every request, and calls a client's mistake an error."""
        level = _LEVEL.match(line)
        self._log("warning" if level and level[1] == "E" else "debug", line)

    def _say(self, level: str, line: str) -> None:
        self._log(level, line)
