"""Limits, budgets and the usage ledger of a running gateway: made, loaded, kept in order, measured.

Part of the composition root: it joins policy, state and observe.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from ghostllm.config.schema import Config
from ghostllm.observe.exposition import Sample
from ghostllm.observe.log import Logger
from ghostllm.observe.metrics import Metrics
from ghostllm.policy.accounts import Accounts
from ghostllm.policy.budgets import Crossed
from ghostllm.policy.prices import MICRO, shown
from ghostllm.state.calendar import Calendar
from ghostllm.state.database import Database
from ghostllm.state.ledger import Ledger

SWEEP_SECONDS = 15.0
PURGE_SECONDS = 600.0


@dataclass(slots=True, frozen=True)
class Money:
    """ledger: None where nothing is written down."""

    accounts: Accounts
    ledger: Ledger | None
    calendar: Calendar
    log: Logger

    def adopt(self, config: Config) -> None:
        """After a reload. The calendar, the currency and the ledger itself stay as they were at the start."""
        self.accounts.adopt(config)

    async def load(self) -> None:
        """What the ledger says was spent this month. Raises GhostError when it cannot be read."""
        if self.ledger is not None:
            now = time.time()
            self.accounts.budgets.load(await self.ledger.spent(self.calendar.at(now).month), now)

    async def keep_order(self) -> None:
        """Until it is cancelled: forgets who is idle, deletes records that are too old."""
        purged = 0.0
        while True:
            now = time.monotonic()
            self.accounts.limiter.sweep(now)
            if self.ledger is not None and now - purged >= PURGE_SECONDS:
                self.ledger.purge()
                purged = now
            await asyncio.sleep(SWEEP_SECONDS)


def build(config: Config, database: Database, log: Logger) -> Money:
    """Raises ConfigError for a time zone that is not known here."""
    usage = config.usage
    calendar = Calendar(usage.timezone)
    ledger = None
    if usage.enabled and database.path is not None:
        ledger = Ledger(database, calendar, currency=usage.currency, retention_days=usage.retention_days)
    if ledger is None and _any_budget(config):
        missing = "usage.enabled is false" if database.path is not None else "state.file is not set"
        log.warning("budgets begin anew at each start", reason=missing)

    def crossed(found: Crossed) -> None:
        log.warning(
            "soft budget spent",
            kind=found.subject.kind,
            name=found.subject.name,
            period=found.period,
            spent=shown(found.spent),
            budget=shown(found.budget),
            currency=usage.currency,
        )

    return Money(Accounts(config, calendar, ledger, crossed), ledger, calendar, log)


def _any_budget(config: Config) -> bool:
    budgets = [key.budget for key in config.keys] + [team.budget for team in config.teams]
    budgets += [one.budget for one in config.limits] + [model.budget for model in config.models]
    return any(budget.any for budget in budgets)


def add_money_gauges(metrics: Metrics, money: Money, database: Database, currency: str) -> None:
    accounts = money.accounts

    def refused() -> list[Sample]:
        return [({"kind": kind, "limit": what}, times) for (kind, what), times in accounts.refused.items()]

    def spent() -> list[Sample]:
        return [
            ({"model": model, "key": key, "currency": currency}, cost / MICRO)
            for (model, key), cost in accounts.spent.items()
        ]

    def soft() -> list[Sample]:
        return [({"kind": kind}, times) for kind, times in accounts.soft.items()]

    gauge, counter = metrics.gauge, metrics.counter
    counter("ghostllm_limit_refusals", "Requests refused: by whose limit, and which one.", refused)
    counter("ghostllm_spend", "Money spent, by the prices that are configured.", spent)
    counter("ghostllm_soft_budgets_spent", "Soft budgets that have been spent.", soft)
    gauge(
        "ghostllm_reservations_open",
        "Requests under way for which something is reserved.",
        lambda: [({}, accounts.open)],
    )
    gauge(
        "ghostllm_limit_subjects",
        "Clients and models whose use is remembered.",
        lambda: [({}, len(accounts.limiter))],
    )
    gauge(
        "ghostllm_state_records_waiting",
        "Records, the ledger's among them, that are not in the state file yet.",
        lambda: [({}, database.waiting)],
    )
    counter(
        "ghostllm_state_records_lost",
        "Records that could not be written to the state file.",
        lambda: [({}, database.lost)],
    )
