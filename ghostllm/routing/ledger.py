"""What the gateway knows of its own traffic, kept together: backlogs, prefix index, measured rates. Ask it
for the order of targets, and tell it what becomes of the request:

    choices = ledger.order(targets, prompt, condition, now, chance)
    sent = ledger.dispatched(choices[0].target, prompt, now)
    ledger.first_token(sent, now)          # at the first content
    ledger.ended(sent)                     # however it ended; unsent=True if the backend never took it
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count

from ghostllm.routing import smart
from ghostllm.routing.backlog import Backlog, BytesPerToken, PrefillRate
from ghostllm.routing.catalog import Target
from ghostllm.routing.prefix import BLOCK, Chain, Inserted, PrefixIndex


@dataclass(slots=True)
class Prompt:
    """model: whose bytes per token count. size: bytes of the rendered prompt. blocks: its chain."""

    model: str
    size: int
    blocks: Chain


@dataclass(slots=True)
class Sent:
    """One request on its way to one backend."""

    number: int
    target: Target
    since: float
    uncached: float
    alone: bool
    inserted: Inserted


NOTHING: dict[str, int] = {}
UNCHANGED = Inserted((), ())


class Ledger:
    """capacity: blocks of prefix index for a backend that was not given its own by `resize`. `PrefillRate`s
    are kept for each target: what a token costs depends on the model too.
    """

    def __init__(self, settings: smart.Settings = smart.DEFAULTS, *, capacity: int = 4096) -> None:
        self.index = PrefixIndex()
        self._settings = settings
        self._capacity = capacity
        self._backlogs: dict[str, Backlog] = {}
        self._rates: dict[tuple[str, str], PrefillRate] = {}
        self._ratios: dict[str, BytesPerToken] = {}
        self._numbers = count(1)

    def __repr__(self) -> str:
        return f"<Ledger {self._backlogs} {self.index!r}>"

    def resize(self, backend: str, capacity: int) -> None:
        """How many blocks a backend's real cache holds: its tokens x bytes per token / BLOCK."""
        self.backlog(backend)
        self.index.resize(backend, capacity)

    def hold(self, backend: str, tokens: int) -> None:
        """A backend's cache holds so many tokens."""
        self.resize(backend, max(1, int(tokens * BytesPerToken().value / BLOCK)))

    def drop(self, backend: str) -> None:
        """The configuration has it no more. Requests still under way may end as usual."""
        self.index.drop(backend)
        self._backlogs.pop(backend, None)
        self._rates = {key: rate for key, rate in self._rates.items() if key[0] != backend}

    def backlog(self, backend: str) -> Backlog:
        backlog = self._backlogs.get(backend)
        if backlog is None:
            backlog = self._backlogs[backend] = Backlog()
            self.index.resize(backend, self._capacity)
        return backlog

    def rate(self, target: Target) -> PrefillRate:
        key = target.backend, target.model
        rate = self._rates.get(key)
        if rate is None:
            rate = self._rates[key] = PrefillRate()
        return rate

    def ratio(self, model: str) -> BytesPerToken:
        ratio = self._ratios.get(model)
        if ratio is None:
            ratio = self._ratios[model] = BytesPerToken()
        return ratio

    def order(
        self,
        targets: Sequence[Target],
        prompt: Prompt,
        condition: Callable[[Target], smart.Condition],
        now: float,
        chance: random.Random,
    ) -> list[smart.Choice]:
        """Changes nothing but hidden first tokens that are taken to have come."""
        ratio = self.ratio(prompt.model).value
        tokens = prompt.size / ratio
        held = self.index.match(prompt.blocks) if prompt.blocks else NOTHING
        choices = []
        for target in targets:
            backlog = self._backlogs.get(target.backend) or self.backlog(target.backend)
            rate = self._rates.get((target.backend, target.model)) or self.rate(target)
            cached = 0.0
            if held:
                cached = min(prompt.size, held.get(target.backend, 0) * BLOCK) / ratio
            choices.append(
                smart.Choice(
                    target,
                    tokens,
                    backlog.wait(now),
                    cached,
                    rate.seconds,
                    backlog.decoding,
                    condition(target),
                )
            )
        return smart.order(choices, chance=chance, settings=self._settings)

    def dispatched(self, target: Target, prompt: Prompt, now: float, *, hidden: bool = False) -> Sent:
        """hidden: the answer is not streamed, so its first token will not be seen."""
        backlog = self.backlog(target.backend)
        cached = self.index.match(prompt.blocks)[target.backend] * BLOCK if prompt.blocks else 0
        uncached = max(0, prompt.size - cached) / self.ratio(prompt.model).value
        number = next(self._numbers)
        alone = backlog.dispatched(number, self.rate(target).work(uncached), now, hidden=hidden)
        inserted = self.index.insert(target.backend, prompt.blocks) if prompt.blocks else UNCHANGED
        return Sent(number, target, now, uncached, alone and not hidden, inserted)

    def first_token(self, sent: Sent, now: float) -> None:
        backlog = self._backlogs.get(sent.target.backend)
        if backlog is None:
            return
        # Who came after it may have shared the prefill with it: nothing is learned unless it is still alone.
        if sent.alone and backlog.in_flight == 1:
            self.rate(sent.target).observed(sent.uncached, now - sent.since)
        sent.alone = False
        backlog.first_token(sent.number, now)

    def ended(self, sent: Sent, *, unsent: bool = False) -> None:
        """unsent: it failed before the backend had the prompt, whose blocks are therefore not cached."""
        if (backlog := self._backlogs.get(sent.target.backend)) is not None:
            backlog.left(sent.number)
        if unsent:
            self.index.undo(sent.target.backend, sent.inserted)
            sent.inserted = UNCHANGED

    def measured(self, prompt: Prompt, tokens: int) -> None:
        """tokens: the prompt's length as its backend reported it."""
        self.ratio(prompt.model).observed(prompt.size, tokens)
