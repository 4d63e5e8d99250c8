"""Budgets over several nodes, on a real server."""

from __future__ import annotations

import asyncio
import time

from ghostllm.cluster.budgets import Exhausted, Held, Purse, SharedBudgets
from tests.cluster.redis_server import RedisServer
from tests.cluster.test_limits import LEASE, close, settled
from tests.cluster.test_link import back, linked

ENDS = time.time() + 86_400


def purse(subject="key:alice", period="2026-11", hard=1_000_000):
    return Purse(subject, period, ENDS, hard)


def nodes(server, count=2, lease=30.0):
    links = [linked(server) for _ in range(count)]
    return links, [SharedBudgets(link, lease) for link in links]


def test_however_many_ask_at_one_time_no_more_is_spent(server: RedisServer):
    async def main():
        links, budgets = nodes(server)
        answers = await asyncio.gather(*(budgets[at % 2].reserve([purse()], 30_000) for at in range(200)))
        held = [answer for answer in answers if isinstance(answer, Held)]
        assert len(held) == 33
        for one in held:
            one.settle(10_000)
            one.settle(10_000)
        await settled(links)
        over = await budgets[0].reserve([purse(hard=340_000)], 30_000)
        assert isinstance(over, Exhausted) and (over.spent, over.held) == (330_000, 0)
        again = await budgets[1].reserve([purse()], 670_000)
        assert isinstance(again, Held) and again.spent == [330_000]
        await close(links)

    asyncio.run(main())


def test_of_all_purses_or_of_none(server: RedisServer):
    async def main():
        links, (budgets, _) = nodes(server)
        day, team = purse(period="2026-11-26", hard=100), purse("team:red", hard=None)
        assert isinstance(await budgets.reserve([team, day], 60), Held)
        over = await budgets.reserve([team, day], 60)
        assert isinstance(over, Exhausted) and over.purse is day
        assert await links[0].ask("HGET", "{ghostllm}:budget:team:red:2026-11:gauge", "held") == b"60"
        await close(links)

    asyncio.run(main())


def test_a_budget_that_is_spent_admits_nothing_not_even_what_costs_nothing(server: RedisServer):
    async def main():
        links, (budgets, _) = nodes(server)
        (await budgets.reserve([purse(hard=100)], 0)).settle(100)
        await settled(links)
        assert isinstance(await budgets.reserve([purse(hard=100)], 0), Exhausted)
        await close(links)

    asyncio.run(main())


def test_what_a_dead_node_held_is_free_after_its_lease(server: RedisServer):
    async def main():
        links, (dead, alive) = nodes(server, lease=LEASE)
        small = purse(hard=100)
        assert isinstance(await dead.reserve([small], 60), Held)
        kept = await alive.reserve([small], 40)
        renewing = asyncio.create_task(alive.run())
        for _ in range(1000):
            if isinstance(await alive.reserve([small], 60), Held):
                break
            await asyncio.sleep(0.02)
        await asyncio.sleep(1.5 * LEASE)
        assert isinstance(await alive.reserve([small], 1), Exhausted)
        kept.settle(None)  # nobody knows: what was held
        await settled(links)
        assert (await alive.reserve([small], 1)).spent == 40
        renewing.cancel()
        await close(links)

    asyncio.run(main())


def test_a_server_that_forgot_is_told_what_the_ledgers_know(server: RedisServer):
    async def main():
        links, (budgets, other) = nodes(server)
        (await budgets.reserve([purse()], 0)).settle(700)
        await settled(links)
        server.kill()
        server.start()
        for link in links:
            await back(link)
        assert await budgets.at_least(purse("key:new"), 0) == 0
        assert await budgets.at_least(purse(), 700) == 700
        assert await other.at_least(purse(), 500) == 700
        assert other.add([purse()], 50) and await budgets.at_least(purse(), 0) != 0
        await settled(links)
        assert await budgets.at_least(purse(), 0) == 750
        keys = await links[0].ask("KEYS", "*")
        assert [0 < await links[0].ask("TTL", key) <= 86_400 + 172_800 + 1 for key in keys] == [True] * len(
            keys
        )
        await close(links)

    asyncio.run(main())
