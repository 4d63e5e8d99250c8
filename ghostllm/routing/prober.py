"""Looks at the backends beside their traffic: whether they are there, and how busy they are.

Liveness is a page that a server answers for nothing (`Looks.probe`); its load is on others (`Looks.pages`),
asked more often and given less time. A backend is looked at by one question at a time. Each look has a
connection of its own and closes it: some servers spend a thread on every connection that is open.

Not looked at are backends that are asleep, since they would wake, and those whose kind is still open.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from ghostllm.config import traffic
from ghostllm.errors import UpstreamError, UpstreamProtocolError, UpstreamRefused, UpstreamTimeout
from ghostllm.net.client import Client
from ghostllm.net.fetch import Fetched, fetch_by
from ghostllm.ports import Observed, Page
from ghostllm.routing.presence import Probe, merged
from ghostllm.routing.upstream import Upstream

LOAD_TIMEOUT = 0.5
"""Seconds for each page. What comes later is too old to be of use."""

PAGE_LIMIT = 2 << 20
"""Bytes of the largest page. Reading one takes time that every stream waits for."""

FOLLOW = 1.0
"""Seconds until a backend that was added or woken is noticed."""

RETURN = 2.0
"""Seconds, at most, between two probes of a backend that failed the last: it may be back in a moment."""

JITTER = 0.2
"""Share by which a period varies, so that several gateways do not look at the same moment."""

LOCKED = (401, 403)
PASSING = (408, 429)
"""Refusals that say nothing about the next time."""

Report = Callable[[str, Probe], None]


class Prober:
    """upstreams: looked at as it is at each moment. report: takes the backend's name and what was seen."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        settings: traffic.Health,
        report: Report,
        chance: random.Random,
    ) -> None:
        self._upstreams = upstreams
        self._settings = settings
        self._report = report
        self._chance = chance
        self._watches: dict[str, _Watch] = {}

    def __repr__(self) -> str:
        return f"<Prober of {len(self._watches)}>"

    def retune(self, settings: traffic.Health) -> None:
        """Other settings: every backend is looked at anew."""
        if settings != self._settings:
            self._settings = settings
            for watch in self._watches.values():
                if watch.task is not None:
                    watch.task.cancel()
            self._watches.clear()

    async def run(self) -> None:
        """Looks at every backend, until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._follow(group)
                await asyncio.sleep(FOLLOW)

    async def probe_now(self, name: str) -> Probe:
        """Looks at both presence and load at once. Raises KeyError if there is no such backend."""
        upstream = self._upstreams[name]
        watch = self._watches.get(name)
        if watch is None or watch.upstream is not upstream:
            watch = _Watch(upstream, self._settings, self._told, self._chance)
        return await watch.asked()

    def _follow(self, group: asyncio.TaskGroup) -> None:
        for name, watch in list(self._watches.items()):
            if self._upstreams.get(name) is not watch.upstream:
                del self._watches[name]
                if watch.task is not None:
                    watch.task.cancel()
        if not self._settings.interval and not self._settings.load:
            return
        for name, upstream in self._upstreams.items():
            if name not in self._watches:
                watch = self._watches[name] = _Watch(upstream, self._settings, self._told, self._chance)
                watch.task = group.create_task(watch.run())

    def _told(self, upstream: Upstream, probe: Probe) -> None:
        if self._upstreams.get(upstream.name) is upstream:  # it may have gone while it was being asked
            self._report(upstream.name, probe)


class _Watch:
    """One backend, and what its earlier looks found out about asking it."""

    def __init__(
        self,
        upstream: Upstream,
        settings: traffic.Health,
        report: Callable[[Upstream, Probe], None],
        chance: random.Random,
    ) -> None:
        self.upstream = upstream
        self.task: asyncio.Task[None] | None = None
        self._settings = settings
        self._report = report
        self._chance = chance
        self._turn = asyncio.Lock()
        self._absent: set[str] = set()  # pages that this process of the server does not have
        self._keyed = False  # its pages want a key
        self._started: float | None = None

    async def run(self) -> None:
        clock, settings = asyncio.get_running_loop().time, self._settings
        probe_at = clock() if settings.interval else math.inf
        load_at = clock() if settings.load else math.inf
        while True:
            wait = FOLLOW if self._hindrance else min(probe_at, load_at) - clock()
            if wait > 0:
                await asyncio.sleep(min(wait, FOLLOW))
            elif probe_at <= load_at:
                probe = await self._look(presence=True)
                away = probe.passed is False
                probe_at = clock() + self._spread(
                    min(settings.interval, RETURN) if away else settings.interval
                )
            else:
                await self._look(load=True)
                load_at = clock() + self._spread(settings.load)

    async def asked(self) -> Probe:
        """A look at everything, for somebody who waits for it."""
        if self._hindrance:
            return self._seen(None, self._hindrance)
        return await self._look(presence=True, load=True, asked=True)

    @property
    def _hindrance(self) -> str:
        """Why it cannot be looked at; empty if it can."""
        if self.upstream.asleep:
            return "asleep until a request comes"
        return "" if self.upstream.known else "not identified yet"

    def _spread(self, period: float) -> float:
        return period * self._chance.uniform(1 - JITTER, 1 + JITTER)

    async def _look(self, *, presence: bool = False, load: bool = False, asked: bool = False) -> Probe:
        async with self._turn:
            client = self.upstream.beside()
            try:
                probe = await self._probe(client, asked=asked) if presence else self._seen(None)
                if load and probe.passed is not False:
                    probe = await self._with_load(client, probe)
            finally:
                await client.close()
        if probe.passed is not None or probe.observed is not None:
            self._report(self.upstream, probe)
        return probe

    # --- presence

    async def _probe(self, client: Client, *, asked: bool) -> Probe:
        """asked: a server without a page for it is asked for its models, which may cost or count."""
        upstream, translator = self.upstream, self.upstream.translator
        path = translator.looks().probe
        if path:
            request = translator.look_request(path)
        elif asked:
            client, request = upstream.client, translator.inventory_request()
        else:
            return self._seen(None)
        try:
            answer = await fetch_by(client, request, seconds=self._settings.timeout, limit=PAGE_LIMIT)
        except UpstreamError as error:
            return self._failed(error)
        # Whatever is no server error comes from a server that lives: 401 wants a key, 404 is said by a proxy
        # that lets nothing through but the API.
        if answer.status < 500 or answer.status == 501:
            return self._seen(True)
        self._absent.clear()
        return self._seen(False, translator.failure(answer.status, answer.headers, answer.body).message)

    def _failed(self, error: UpstreamError) -> Probe:
        silent = isinstance(error, UpstreamTimeout)
        if not silent:
            self._absent.clear()  # who comes back may be another
        refused = isinstance(error, UpstreamRefused)
        return replace(self._seen(False, error.message), silent=silent, refused=refused)

    def _seen(self, passed: bool | None, reason: str = "") -> Probe:
        now = asyncio.get_running_loop().time()
        return Probe(backend=self.upstream.name, at=now, passed=passed, reason=reason, started=self._started)

    # --- load

    async def _with_load(self, client: Client, probe: Probe) -> Probe:
        """`probe`, and what the server says of its load. Failing to learn that is no failure, except where
        nothing listens.
        """
        try:
            observed = await self._load(client)
        except UpstreamRefused as error:
            return self._failed(error) if self._settings.interval else probe
        began = self._started
        if observed.started is not None:
            self._started = observed.started
        if began not in (None, self._started):  # another process, so it has to be looked at as one
            self._absent.clear()
            if probe.passed is None and self._settings.interval:
                probe = await self._probe(client, asked=False)
        return replace(probe, observed=observed if observed != Observed() else None, started=self._started)

    async def _load(self, client: Client) -> Observed:
        """Raises UpstreamRefused."""
        parts: list[Observed] = []
        before = ""
        for page in self.upstream.translator.looks().pages:
            spare = not page.spare or (before in self._absent and self.upstream.in_flight > 0)
            before = page.path
            if page.path in self._absent or not spare:
                continue
            try:
                part = await self._read(client, page)
            except UpstreamRefused:
                raise
            except UpstreamError:
                break  # whatever keeps it from answering this, keeps it from answering the next
            parts.append(part)
            if part.sleeping:
                break  # older versions of llama.cpp wake for their metrics
        return merged(parts)

    async def _read(self, client: Client, page: Page) -> Observed:
        """Raises UpstreamError if no answer came."""
        try:
            answer = await self._ask(client, page.path)
            if answer.status in LOCKED and not self._keyed:
                self._keyed = True
                answer = await self._ask(client, page.path)
        except UpstreamProtocolError:
            self._absent.add(page.path)
            raise
        if answer.status == 200:
            part = page.read(answer.headers, answer.body)
            if part == Observed() and answer.body:
                self._absent.add(page.path)  # something else has this path here
            return part
        if answer.status not in PASSING and (answer.status < 500 or answer.status == 501):
            self._absent.add(page.path)
        return Observed()

    async def _ask(self, client: Client, path: str) -> Fetched:
        request = self.upstream.translator.look_request(path, keyed=self._keyed)
        return await fetch_by(client, request, seconds=LOAD_TIMEOUT, limit=PAGE_LIMIT)
