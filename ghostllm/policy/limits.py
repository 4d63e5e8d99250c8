"""Limits by reservation: requests and tokens a minute, requests at one time, for each of several subjects.

    reservation = limiter.reserve(((subject, limits), ...), tokens, now)   # or RateLimited
    ...
    reservation.settle(used, now)                                          # exactly once, however it ended

A reservation holds for all subjects or for none. Tokens are reserved by an estimate before anything is sent
and settled with what was used, so requests at the same time cannot exceed a limit together. A request counts
as one from the moment it is admitted, whatever becomes of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from ghostllm.config.money import RateLimits
from ghostllm.policy.account import Account, Shortage
from ghostllm.policy.gcra import Gcra, HeldGcra, Steady, slot_of
from ghostllm.policy.refusals import NO_RETRY, RateLimited
from ghostllm.policy.subjects import Subject

MOST_ADDRESSES = 65_536  # some 30 MB; clients can make up more
OTHERS = Subject("address", "*")
"""All addresses beyond that together: nobody gets more by coming from many, and nobody's use is forgotten."""

Claim = tuple[Subject, RateLimits]

_SOON: Final = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %dms\r\n"
_LINES: Final = b"x-ratelimit-limit-%b: %d\r\nx-ratelimit-remaining-%b: %d\r\nx-ratelimit-reset-%b: %b\r\n"


class Reservation:
    """One admitted request. tokens: what was reserved. lines: of the answer's head, `x-ratelimit-*` as OpenAI
    has them, of the subject that had least left then.
    """

    __slots__ = ("_accounts", "_meters", "_open", "_slot", "_steady", "lines", "tokens")

    def __init__(
        self,
        accounts: list[Account],
        meters: list[HeldGcra],
        tokens: int,
        slot: int,
        steady: Steady,
        lines: bytes,
    ) -> None:
        self.tokens = tokens
        self.lines = lines
        self._accounts = accounts
        self._meters = meters
        self._slot = slot
        self._steady = steady
        self._open = True

    def __repr__(self) -> str:
        return f"<Reservation {self.tokens} tokens {'open' if self._open else 'settled'}>"

    def settle(self, used: int | None, now: float) -> None:
        """The request is over. used: tokens of prompt and answer, also of an answer that broke off; 0 where
        nothing was sent to a backend; None where nobody knows: the estimate stands. What was not used goes
        back, what was used beyond the estimate is a debt. Only the first call counts.
        """
        if not self._open:
            return
        self._open = False
        for account in self._accounts:
            account.in_flight -= 1
        if self._meters:
            ticks, tokens = self._steady.at(now), self.tokens
            used = tokens if used is None else max(0, used)
            for meter in self._meters:
                meter.settle(tokens, self._slot, used, ticks)

    def undo(self, now: float) -> None:
        """It was not admitted elsewhere, so nothing comes of it: it does not even count as a request."""
        if self._open:
            self.settle(0, now)
            for account in self._accounts:
                if account.requests is not None:
                    account.requests.give_back(1)


class Limiter:
    """For one thread. `now`: seconds of the monotonic clock. most_addresses: how many are told apart."""

    def __init__(self, most_addresses: int = MOST_ADDRESSES) -> None:
        self._most_addresses = most_addresses
        self._addresses = 0
        self._accounts: OrderedDict[Subject, Account] = OrderedDict()
        self._steady = Steady()

    def __repr__(self) -> str:
        return f"<Limiter of {len(self._accounts)}>"

    def __len__(self) -> int:
        """Subjects that are remembered."""
        return len(self._accounts)

    def reserve(self, claims: Sequence[Claim], tokens: int, now: float) -> Reservation:
        """claims: each subject once, with its limits; those without any need not be there. tokens: an
        estimate of prompt and answer together, rather too high.

        Raises RateLimited; nothing is reserved then.
        """
        ticks = self._steady.at(now)
        slot = slot_of(ticks)
        accounts: list[Account] = []
        meters: list[HeldGcra] = []
        known = len(self._accounts)
        for subject, limits in claims:
            account = self._accounts.get(subject)
            if account is None or account.limits is not limits:
                account = self._account(subject, limits, ticks)
            if not account.admit(tokens, slot, ticks):
                for other in accounts:
                    other.take_back(tokens, slot, ticks)
                every = [self._account(subject, limits, ticks) for subject, limits in claims]
                refusal = _refusal(every, tokens, ticks)
                self._make_room(known, ticks)
                raise refusal
            accounts.append(account)
            if account.tokens is not None:
                meters.append(account.tokens)
        if len(self._accounts) > known:  # not before: those in hand are in use only now
            self._make_room(known, ticks)
        lines = _lines(accounts, ticks) if accounts else b""
        return Reservation(accounts, meters, tokens, slot, self._steady, lines)

    def sweep(self, now: float, most: int = 256) -> None:
        """Forgets idle subjects among the `most` that were looked at longest ago. For a timer: new subjects
        make room for themselves, but where none come none is forgotten.
        """
        self._forget_idle(min(most, len(self._accounts)), self._steady.at(now))

    def told(self, now: float) -> list[dict[str, Any]]:
        """For the admin API: each subject with what is left. None: no such limit."""
        ticks = self._steady.at(now)
        return [
            {
                "kind": subject.kind,
                "name": subject.name,
                "in_flight": account.in_flight,
                "remaining_requests": _left(account.requests, ticks),
                "remaining_tokens": _left(account.tokens, ticks),
            }
            for subject, account in self._accounts.items()
        ]

    def _account(self, subject: Subject, limits: RateLimits, now: int) -> Account:
        """With its present limits."""
        account = self._accounts.get(subject)
        if account is None and subject.kind == "address":
            if self._addresses >= self._most_addresses:
                subject = OTHERS
                account = self._accounts.get(OTHERS)
            else:
                self._addresses += 1
        if account is None:
            account = self._accounts[subject] = Account(subject, limits, now)
        elif account.limits is not limits:
            account.adopt(limits, now)
        return account

    def _make_room(self, known: int, now: int) -> None:
        """Two looks for each new subject are enough to see all of them again and again."""
        self._forget_idle(min(2 * (len(self._accounts) - known), len(self._accounts)), now)

    def _forget_idle(self, count: int, now: int) -> None:
        """Looks at the oldest ones, which go to the end if they stay."""
        for _ in range(count):
            subject, account = next(iter(self._accounts.items()))
            if not account.idle(now):
                self._accounts.move_to_end(subject)
                continue
            del self._accounts[subject]
            if subject.kind == "address" and subject is not OTHERS:
                self._addresses -= 1


def _left(meter: Gcra | None, now: int) -> int | None:
    return None if meter is None else meter.remaining(now)


def _refusal(accounts: list[Account], tokens: int, now: int) -> RateLimited:
    """Tells of the limit that keeps the request waiting longest."""
    short = [shortage for account in accounts for shortage in account.shortages(tokens, now)]
    return refused(max(short, key=_severity), tokens, _lines(accounts, now))


def refused(worst: Shortage, tokens: int, lines: bytes) -> RateLimited:
    """What a request is told that would use so many tokens."""
    # One microsecond more: the client's clock and this one's ticks are not rounded alike.
    retry_after = None if worst.wait is None else (worst.wait + 1) / 1e6
    return RateLimited(
        _message(worst, tokens),
        subject=worst.subject,
        limit=worst.limit,
        most=worst.most,
        retry_after=retry_after,
        lines=lines + NO_RETRY if worst.never else lines,
    )


def _severity(shortage: Shortage) -> tuple[bool, bool, int]:
    return shortage.never, shortage.wait is None, shortage.wait or 0


def _message(short: Shortage, tokens: int) -> str:
    if short.never:
        return (
            f"This request needs up to {tokens} tokens, and {short.subject} may use {short.most} a minute: "
            "ask for a shorter answer or send a shorter prompt."
        )
    reached = f"Rate limit reached for {short.subject}:"
    if short.limit == "concurrent":
        return f"{reached} {short.most} requests at one time. Try again when one of them has ended."
    again = f"Try again in {duration(short.wait or 0)}."
    if short.limit == "requests":
        return f"{reached} {short.most} requests a minute. {again}"
    return (
        f"{reached} {short.most} tokens a minute, of which {short.left} are left; "
        f"this request needs up to {tokens}. {again}"
    )


def _lines(accounts: list[Account], now: int) -> bytes:
    requests, tokens = accounts[0].requests, accounts[0].tokens
    for account in accounts[1:]:
        if (meter := account.requests) is not None:
            if requests is None or meter.remaining(now) < requests.remaining(now):
                requests = meter
        if (held := account.tokens) is not None:
            if tokens is None or held.remaining(now) < tokens.remaining(now):
                tokens = held
    lines = b""
    if requests is not None:
        lines = lines_of(b"requests", requests.limit, requests.remaining(now), requests.reset(now))
    if tokens is not None:
        lines += lines_of(b"tokens", tokens.limit, tokens.remaining(now), tokens.reset(now))
    return lines


def lines_of(what: bytes, most: int, left: int, reset: int) -> bytes:
    """Header lines. what: "requests" or "tokens". reset: microseconds until all of it is there again."""
    milliseconds = -(-reset // 1000)
    if 0 < milliseconds < 1000:  # mostly, and cheaper
        return _SOON % (what, most, what, left, what, milliseconds)
    return _LINES % (what, most, what, left, what, duration(reset).encode())


def duration(microseconds: int) -> str:
    """As Go writes it, and OpenAI's header fields with it: 12ms, 1.5s, 6m0s, 1h0m0s. Rounded up to
    milliseconds.
    """
    milliseconds = -(-microseconds // 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    seconds, milliseconds = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = f"{seconds}.{milliseconds:03d}".rstrip("0") if milliseconds else f"{seconds}"
    if hours:
        return f"{hours}h{minutes}m{text}s"
    return f"{minutes}m{text}s" if minutes else f"{text}s"
