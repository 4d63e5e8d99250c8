"""The servers behind a DNS name, looked up again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from ghostllm.config.finding import DnsSource
from ghostllm.net.lookup import addresses
from ghostllm.routing.discovery.source import Condition, Found, Report, backend_at, once_each, pause


@dataclass(slots=True, frozen=True)
class Place:
    """One server: its address or name, its port, and its weight, 1.0 being ordinary."""

    host: str
    port: int
    weight: float = 1.0


@dataclass(slots=True, frozen=True)
class Answer:
    """places: none where the name is there and has no such record. ttl: seconds it holds; None: not said."""

    places: Sequence[Place]
    ttl: float | None = None


Lookup = Callable[[DnsSource], Awaitable[Answer]]
"""Raises OSError when there is no answer, or no such name."""

LEAST_TTL = 1.0


class DnsWatch:
    """interval: seconds between two looks; the record's own time to live, where it is known and shorter."""

    def __init__(
        self, source: DnsSource, interval: float, report: Report, lookup: Lookup | None = None
    ) -> None:
        self.name = f"dns {source.name}"
        self._source = source
        self._interval = interval
        self._lookup = lookup or (by_srv if source.record == "srv" else by_address)
        self._condition = Condition(self.name, report)
        self._known = False
        self._empty = 0  # answers without a server, in a row

    def __repr__(self) -> str:
        return f"<DnsWatch {self._source.host} {self._condition!r}>"

    async def run(self, found: Found) -> None:
        while True:
            ttl: float | None = None
            try:
                answer = await self._lookup(self._source)
            except OSError as error:
                self._condition.fails(f"{self._source.host}: {error.strerror or error}")
            else:
                self._take(answer, found)
                ttl = answer.ttl
            await pause(next_look(self._interval, ttl), known=self._known)

    def _take(self, answer: Answer, found: Found) -> None:
        if not answer.places:
            # Servers in the middle of a change have answered so for a moment: once is not yet believed.
            self._empty += 1
            self._condition.fails(f"{self._source.host}: no addresses")
            if self._empty < 2:
                return
        else:
            self._empty = 0
            self._known = True
            self._condition.works()
        backends = (backend_at(self._source, place.host, place.port, place.weight) for place in answer.places)
        found(self.name, once_each(backends))


def next_look(interval: float, ttl: float | None) -> float:
    """Seconds to the next look; 0: there is none."""
    return interval if not interval or ttl is None else min(interval, max(LEAST_TTL, ttl))


async def by_address(source: DnsSource) -> Answer:
    """A and AAAA, as the system's resolver has it: it does not say for how long."""
    return Answer([Place(host, source.port) for host in await addresses(source.host)])


async def by_srv(source: DnsSource) -> Answer:
    """SRV: of the records those of the lowest priority, which is the one to be used first."""
    try:
        from ghostllm.routing.discovery.srv import lookup
    except ImportError:
        raise OSError(None, "SRV records need an extra: pip install 'ghostllm[dns]'") from None
    records, ttl = await lookup(source.host)
    return Answer(places_of(records), ttl)


def places_of(records: Sequence[tuple[int, int, int, str]]) -> list[Place]:
    """records: priority, weight, port, target. Weights are relative to each other (RFC 2782): the ordinary
    one comes to 1, and 0 to next to nothing, unless it is all there is.
    """
    first = min((priority for priority, *_ in records), default=0)
    group = sorted(
        (target.rstrip("."), port, weight) for priority, weight, port, target in records if priority == first
    )
    group = [(target, port, weight) for target, port, weight in group if target and port]
    total = sum(weight for _, _, weight in group)
    if not total:
        return [Place(target, port) for target, port, _ in group]
    return [
        Place(target, port, max(LEAST_WEIGHT, weight * len(group) / total)) for target, port, weight in group
    ]


LEAST_WEIGHT = 0.01
