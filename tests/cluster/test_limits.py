"""Limits over several nodes, on a real server: never one too many, and nothing lost to those that died."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from ghostllm.cluster.away import Away
from ghostllm.cluster.limits import Bounds, Refusal, Reservation, SharedLimits
from tests.cluster.redis_server import RedisServer
from tests.cluster.test_link import back, linked, until

LEASE = 1.5
"""Seconds: of those who live, it is renewed three times in it, also on a busy machine."""


def nodes(server, count, lease=30.0, **more):
    links = [linked(server, **more) for _ in range(count)]
    return links, [SharedLimits(link, lease) for link in links]


async def close(links):
    for link in links:
        await link.close()


def kinds(answers):
    return [answer.kind if isinstance(answer, Refusal) else "admitted" for answer in answers]


async def settled(links):
    """Waits until what was posted has been done: one connection has one order."""
    for link in links:
        await link.ask("PING")


@pytest.mark.parametrize("count", [1, 2, 3])
def test_200_at_one_time_on_50_requests_a_minute(server: RedisServer, count):
    async def main():
        links, limits = nodes(server, count)
        bounds = [Bounds("key:alice", requests=50)]
        begun = time.monotonic()
        answers = await asyncio.gather(*(limits[at % count].reserve(bounds, 10) for at in range(200)))
        admitted = kinds(answers).count("admitted")
        assert 50 <= admitted <= 50 + int((time.monotonic() - begun) * 50 / 60)
        waits = [answer.retry_after for answer in answers if isinstance(answer, Refusal)]
        assert all(0 < wait <= 1.2 for wait in waits)
        await close(links)

    asyncio.run(main())


def test_200_at_one_time_on_100_tokens_a_minute(server: RedisServer):
    async def main():
        links, limits = nodes(server, 2)
        bounds = [Bounds("key:alice", tokens=100)]
        answers = await asyncio.gather(*(limits[at % 2].reserve(bounds, 7) for at in range(200)))
        admitted = [answer for answer in answers if isinstance(answer, Reservation)]
        assert len(admitted) == 14  # held tokens do not drain, so time adds none
        for reservation in admitted:
            reservation.settle(1)
        await settled(links)
        answers = await asyncio.gather(*(limits[at % 2].reserve(bounds, 43) for at in range(10)))
        assert kinds(answers).count("admitted") == 2  # 86 are free, and 14 used
        await close(links)

    asyncio.run(main())


def test_at_one_time(server: RedisServer):
    async def main():
        links, limits = nodes(server, 2)
        bounds = [Bounds("key:alice", concurrent=8)]
        answers = await asyncio.gather(*(limits[at % 2].reserve(bounds, 0) for at in range(100)))
        assert kinds(answers).count("admitted") == 8 and kinds(answers).count("concurrent") == 92
        running = [answer for answer in answers if isinstance(answer, Reservation)]
        for reservation in running[:3]:
            reservation.settle(5)
            reservation.settle(5)  # once is all
        await settled(links)
        answers = await asyncio.gather(*(limits[at % 2].reserve(bounds, 0) for at in range(10)))
        assert kinds(answers).count("admitted") == 3
        assert len(limits[0].holds) + len(limits[1].holds) == 8
        await close(links)

    asyncio.run(main())


def test_all_subjects_or_none(server: RedisServer):
    async def main():
        links, (limits,) = nodes(server, 1)
        wide, narrow = (
            Bounds("key:alice", requests=100, tokens=1000, concurrent=50),
            Bounds("team:red", requests=3),
        )
        answers = [await limits.reserve([wide, narrow], 10) for _ in range(10)]
        assert kinds(answers)[:3] == ["admitted"] * 3 and answers[5].bounds is narrow
        (again,) = (await limits.reserve([wide], 10)).rooms
        assert 96 <= again.requests <= 97 and again.tokens == 960  # as if the refused ones had never come
        await close(links)

    asyncio.run(main())


def test_what_is_left_is_told(server: RedisServer):
    async def main():
        links, (limits,) = nodes(server, 1)
        bounds = [Bounds("key:alice", requests=60, tokens=600), Bounds("model:m")]
        mine, models = (await limits.reserve(bounds, 100)).rooms
        assert (mine.requests, mine.tokens) == (59, 500)
        assert 0.9 < mine.requests_reset <= 1.0 and 9.9 < mine.tokens_reset <= 10.0
        assert (models.requests, models.tokens) == (None, None)
        await close(links)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("bounds", "tokens", "kind", "waits"),
    [
        (Bounds("k", requests=0), 1, "requests", False),
        (Bounds("k", tokens=0), 1, "tokens", False),
        (Bounds("k", tokens=50), 51, "tokens", False),
        (Bounds("k", concurrent=0), 1, "concurrent", False),
    ],
)
def test_what_never_fits_is_told_so(server: RedisServer, bounds, tokens, kind, waits):
    async def main():
        links, (limits,) = nodes(server, 1)
        refusal = await limits.reserve([bounds], tokens)
        assert (refusal.kind, refusal.retry_after is not None) == (kind, waits)
        await close(links)

    asyncio.run(main())


def test_more_than_was_held_is_a_debt(server: RedisServer):
    async def main():
        links, (limits,) = nodes(server, 1)
        bounds = [Bounds("key:alice", tokens=600)]
        (await limits.reserve(bounds, 10)).settle(1200)
        await settled(links)
        refusal = await limits.reserve(bounds, 10)
        assert refusal.kind == "tokens" and 58 < refusal.retry_after <= 61
        await close(links)

    asyncio.run(main())


def test_retry_after_is_true(server: RedisServer):
    async def main():
        links, (limits,) = nodes(server, 1)
        bounds = [Bounds("key:alice", requests=600, tokens=60_000)]
        while isinstance(answer := await limits.reserve(bounds, 1), Reservation):
            answer.settle(1)
        await asyncio.sleep(answer.retry_after)
        assert isinstance(await limits.reserve(bounds, 1), Reservation)
        await close(links)

    asyncio.run(main())


def test_the_slots_of_a_dead_node_are_free_after_its_lease(server: RedisServer):
    async def main():
        links, (dead, alive) = nodes(server, 2, lease=LEASE)
        bounds = [Bounds("key:alice", tokens=100, concurrent=4)]
        lost = [await dead.reserve(bounds, 20) for _ in range(2)]
        kept = [await alive.reserve(bounds, 20) for _ in range(2)]
        renewing = asyncio.create_task(alive.run())  # the dead one does not
        assert all(isinstance(answer, Reservation) for answer in lost + kept)
        assert isinstance(await alive.reserve(bounds, 20), Refusal)
        got = []

        async def room():
            while len(got) < 2:
                answer = await alive.reserve(bounds, 20)
                got.extend([answer] if isinstance(answer, Reservation) else [])
                await asyncio.sleep(0.02)

        await asyncio.wait_for(room(), 20)
        await asyncio.sleep(1.5 * LEASE)  # those that live hold on
        assert isinstance(await alive.reserve(bounds, 1), Refusal)
        refused = await alive.reserve([Bounds("key:alice", tokens=100)], 21)
        assert refused.kind == "tokens"
        lost[0].settle(100)  # it was not dead after all: what it used counts
        await settled(links)
        for reservation in kept:
            reservation.settle(0)
        await settled(links)
        assert (await alive.reserve(bounds, 1)).kind == "tokens"
        renewing.cancel()
        await close(links)

    asyncio.run(main())


def test_whatever_comes_and_goes_the_sums_are_right(server: RedisServer):
    """Reservations of random sizes, settled in random order by three nodes: held is what is open."""
    chance = random.Random(7)

    async def main():
        links, limits = nodes(server, 3)
        bounds = [Bounds("key:alice", tokens=1000, concurrent=40), Bounds("team:red", concurrent=1000)]
        running = []
        for _ in range(60):
            asked = [
                limits[chance.randrange(3)].reserve(bounds, chance.randint(0, 60))
                for _ in range(chance.randint(1, 8))
            ]
            running += [answer for answer in await asyncio.gather(*asked) if isinstance(answer, Reservation)]
            chance.shuffle(running)
            for _ in range(min(len(running), chance.randint(0, 8))):
                running.pop().settle(0)
            await settled(links)
            held = sum(int(reservation.member.rpartition(":")[2]) for reservation in running)
            for subject in ("key:alice", "team:red"):
                gauge = f"{{ghostllm}}:limit:{subject}"
                assert int(await links[0].ask("HGET", f"{gauge}:gauge", "held") or 0) == held <= 1000
                assert await links[0].ask("ZCARD", f"{gauge}:holds") == len(running) <= 40
        await close(links)

    asyncio.run(main())


def test_nothing_is_left_behind_for_good(server: RedisServer):
    """Subjects can be made up by clients: addresses, for one."""

    async def main():
        links, (limits,) = nodes(server, 1)
        for number in range(20):
            answer = await limits.reserve(
                [Bounds(f"address:{number}", requests=5, tokens=50, concurrent=2)], 5
            )
            if number % 2:
                answer.settle(None)
        await settled(links)
        keys = await links[0].ask("KEYS", "*")
        lives = [await links[0].ask("PTTL", key) for key in keys]
        assert len(keys) >= 30 and all(0 < life <= 150_000 for life in lives)
        await close(links)

    asyncio.run(main())


def test_killed_and_started_again_under_load_nothing_is_over(server: RedisServer):
    """While it is away every reservation says so. A server that was started anew knows nothing of the past,
    so what it admits in each of its lives is within the limit.
    """

    async def main():
        links, limits = nodes(server, 2)
        bounds = [Bounds("key:alice", concurrent=25)]
        lives = [0]
        away = [0]
        stop = asyncio.Event()

        async def client(number):
            while not stop.is_set():
                life = lives[-1]
                try:
                    answer = await limits[number % 2].reserve(bounds, 1)
                    if isinstance(answer, Reservation) and lives[-1] == life:
                        admitted[life] = admitted.get(life, 0) + 1
                except Away:
                    away[0] += 1
                await asyncio.sleep(0.003)

        admitted = {}
        clients = [asyncio.create_task(client(number)) for number in range(40)]
        for life in (1, 2):
            await until(lambda life=life: admitted.get(life - 1, 0) >= 25)
            before = away[0]
            server.kill()
            lives.append(life)
            await until(lambda before=before: away[0] > before + 10)
            server.start()
        await until(lambda: admitted.get(2, 0) >= 25)
        stop.set()
        await asyncio.gather(*clients)
        assert set(admitted.values()) == {25}
        await back(links[0])
        await close(links)

    asyncio.run(main())
