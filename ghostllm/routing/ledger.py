"""What the gateway knows of its own traffic, kept together: backlogs, prefix index, measured rates. Ask it
for the order of targets, and tell it what becomes of the request:

    seats = [ledger.seat(target) for target in targets]
    choices, tied = ledger.order(seats, prompt, conditions, now, chance)
    sent = ledger.dispatched(choices[0][1], prompt, now)
    ledger.first_token(sent, now)          # at the first content
    ledger.ended(sent)                     # however it ended; unsent=True if the backend never took it
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from ghostllm.routing import smart
from ghostllm.routing.backlog import Backlog, BytesPerToken, PrefillRate, Seat
from ghostllm.routing.catalog import Target
from ghostllm.routing.prefix import BLOCK, Chain, Inserted, PrefixIndex
from ghostllm.routing.smart import READY, Choice, Condition


@dataclass(slots=True)
class Prompt:
    """model: whose bytes per token count. size: bytes of the rendered prompt. blocks: its chain."""

    model: str
    size: int
    blocks: Chain


class Sent:
    """One request on its way to one backend."""

    __slots__ = ("alone", "inserted", "number", "seat", "since", "uncached")

    def __init__(
        self, number: int, seat: Seat, since: float, uncached: float, alone: bool, inserted: Inserted
    ) -> None:
        self.number = number
        self.seat = seat
        self.since = since
        self.uncached = uncached
        self.alone = alone
        self.inserted = inserted

    def __repr__(self) -> str:
        return f"<Sent {self.number} to {self.seat.target.backend}>"


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

    def retune(self, settings: smart.Settings) -> None:
        self._settings = settings

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

    def seat(self, target: Target) -> Seat:
        return Seat(target, self.backlog(target.backend), self.rate(target))

    def order(
        self,
        seats: Sequence[Seat],
        prompt: Prompt,
        conditions: Sequence[Condition] | None,
        now: float,
        chance: random.Random,
    ) -> tuple[list[Choice], int]:
        """The targets, best first, and how many of the first are equals (see smart.arrange). Changes nothing
        but hidden first tokens that are taken to have come. conditions: of each seat; None: all are READY.
        """
        ratio = (self._ratios.get(prompt.model) or self.ratio(prompt.model)).value
        size = prompt.size
        tokens = size / ratio
        settings = self._settings
        if conditions is None and not prompt.blocks and not settings.decode:
            # The ordinary small request: what `score` would say, without asking it.
            plain = settings.affinity * tokens
            choices: list[Choice] = []
            for seat in seats:
                backlog = seat.backlog
                # How far the first in line has come is not looked at: that is worth less than the look.
                wait = backlog.wait(now) if backlog.others else backlog.work
                choices.append((wait + plain * seat.rate.seconds, seat, wait, 0.0, tokens, READY))
        else:
            choices = self._choices(seats, prompt, tokens, conditions, now)
        return choices, smart.arrange(choices, chance=chance, settings=settings)

    def _choices(
        self,
        seats: Sequence[Seat],
        prompt: Prompt,
        tokens: float,
        conditions: Sequence[Condition] | None,
        now: float,
    ) -> list[Choice]:
        choices: list[Choice] = []
        ratio = self.ratio(prompt.model).value
        held = self.index.match(prompt.blocks) if prompt.blocks else NOTHING
        for at, seat in enumerate(seats):
            backlog = seat.backlog
            cached = 0.0
            if held:
                cached = min(prompt.size, held.get(seat.target.backend, 0) * BLOCK) / ratio
            condition = READY if conditions is None else conditions[at]
            wait = backlog.wait(now)
            value = smart.score(
                wait, tokens - cached, seat.rate.seconds, backlog.decoding, condition, self._settings
            )
            choices.append((value, seat, wait, cached, tokens, condition))
        return choices

    def dispatched(self, seat: Seat, prompt: Prompt, now: float, *, hidden: bool = False) -> Sent:
        """hidden: the answer is not streamed, so its first token will not be seen."""
        size, blocks, rate = prompt.size, prompt.blocks, seat.rate
        inserted = UNCHANGED
        if blocks:
            backend = seat.target.backend
            size = max(0, size - self.index.match(blocks)[backend] * BLOCK)
            inserted = self.index.insert(backend, blocks)
        uncached = size / (self._ratios.get(prompt.model) or self.ratio(prompt.model)).value
        number = next(self._numbers)
        work = rate.overhead + rate.seconds * uncached
        alone = seat.backlog.dispatched(number, work, now, hidden)
        return Sent(number, seat, now, uncached, alone and not hidden, inserted)

    def first_token(self, sent: Sent, now: float) -> None:
        backlog = sent.seat.backlog
        # Who came after it may have shared the prefill with it: nothing is learned unless it is still alone.
        if sent.alone and backlog.in_flight == 1:
            sent.seat.rate.observed(sent.uncached, now - sent.since)
        sent.alone = False
        backlog.first_token(sent.number, now)

    def ended(self, sent: Sent, *, answered: float | None = None, unsent: bool = False) -> None:
        """answered: when, if it was answered in full. unsent: it failed before the backend had the prompt,
        whose blocks are therefore not cached.
        """
        sent.seat.backlog.left(sent.number, answered)
        if unsent:
            self.index.undo(sent.seat.target.backend, sent.inserted)
            sent.inserted = UNCHANGED

    def measured(self, prompt: Prompt, tokens: int) -> None:
        """tokens: the prompt's length as its backend reported it. Not for prompts without blocks: of short
        ones it is mostly the words that the model's template puts around them.
        """
        self.ratio(prompt.model).observed(prompt.size, tokens)
