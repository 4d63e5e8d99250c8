"""What is remembered of an exchange, and how it is told: as a row of a list, or whole with its timeline.

Like the access record it says who asked what of whom, how it went and what took how long; never what was
said: no prompt, no answer, no header value, no key. Times are milliseconds since the request's head was
there; null where nobody took the time.
"""

from __future__ import annotations

from typing import Any

from ghostllm.message import Attempt, Exchange, Plan, Usage
from ghostllm.observe.access import LONGEST_ERROR, LONGEST_NAME, shortened
from ghostllm.observe.render import plain, timestamp

Told = dict[str, Any]
Mark = tuple[float, bool, Told]
"""Where an event stands in the timeline (monotonic clock), whether that is its time, what is told of it."""


Facts = tuple[
    str, float, float | None, float | None, str, str, str, str, str, str | None, bool, int, str,
    tuple[str | None, str] | None, str | None, float, int, str, str, float,
    Usage, Plan | None, list[Attempt],
]  # fmt: skip
"""What Recorded has, in the order in which `facts` gives it."""


def facts(exchange: Exchange) -> Facts:
    """What is kept of an exchange: a tuple, as every request makes one, and hardly any is looked at. It has
    neither the request nor the answer, nor the error, which knows where it was raised.
    """
    request, call, error = exchange.request, exchange.call, exchange.error
    return (
        exchange.request_id,
        exchange.received,
        exchange.committed,
        exchange.finished,
        exchange.route,
        exchange.door,
        request.method,
        request.path,
        exchange.identity.key,
        None if call is None else call.model,
        call is not None and call.stream,
        exchange.status,
        exchange.outcome,
        None if error is None or exchange.outcome == "ok" else (error.code, error.message[:LONGEST_ERROR]),
        exchange.backend,
        exchange.queued,
        exchange.rescued,
        exchange.arm,
        exchange.cache,
        exchange.age,
        exchange.usage,
        exchange.plan,
        exchange.attempts,
    )


class Recorded:
    """An exchange without its request and its answer. began: Unix time at which the head was there. finished:
    None while it is under way.
    """

    def __init__(self, known: Facts, began: float) -> None:
        self.began = began
        (
            self.id, self.received, self.committed, self.finished, self.route, self.door, self.method,
            self.path, self.key, self.model, self.stream, self.status, self.outcome, self.error,
            self.backend, self.queued, self.rescued, self.arm, self.cache, self.age, self.usage, self.plan,
            self.attempts,
        ) = known  # fmt: skip
        if len(self.path) > LONGEST_NAME:
            self.path = shortened(self.path)
        if self.model is not None and len(self.model) > LONGEST_NAME:
            self.model = shortened(self.model)

    def __repr__(self) -> str:
        return f"<Recorded {self.id} {self.method} {self.path} {self.outcome} {self.status}>"

    def row(self) -> Told:
        """Short, for a list. JSON."""
        told: Told = plain(
            {
                "id": self.id,
                "time": timestamp(self.began),
                "route": self.route,
                "key": self.key,
                "model": self.model,
                "backend": self.backend,
                "status": self.status or None,
                "outcome": self.outcome,
                "code": None if self.error is None else self.error[0],
                "duration_ms": self._ms(self.finished),
                "ttft_ms": self._ms(self.committed),
                "attempts": len(self.attempts),
                "prompt_tokens": self.usage.prompt,
                "completion_tokens": self.usage.completion,
            }
        )
        return told

    def told(self) -> Told:
        """All that is known. JSON."""
        told: Told = plain(
            {
                "id": self.id,
                "time": timestamp(self.began),
                "route": self.route,
                "door": self.door,
                "method": self.method,
                "path": self.path,
                "key": self.key,
                "model": self.model,
                "stream": self.stream,
                "status": self.status or None,
                "outcome": self.outcome,
                "error": self._error(),
                "backend": self.backend,
                "duration_ms": self._ms(self.finished),
                "overhead_ms": self._overhead(),
                "queued_ms": _rounded(self.queued),
                "rescued": self.rescued,
                "arm": self.arm or None,
                "cache": self.cache or None,
                "cache_age_s": round(self.age, 3) if self.cache == "hit" else None,
                "usage": None if self.model is None else _counts(self.usage),
            }
        )
        told["plan"] = None if self.plan is None else plain(self.plan.told())
        told["timeline"] = [plain(event) for event in self._timeline()]
        return told

    def _ms(self, moment: float | None) -> float | None:
        return None if moment is None else _rounded(moment - self.received)

    def _error(self) -> Told | None:
        return None if self.error is None else {"code": self.error[0], "message": self.error[1]}

    # --- the timeline

    def _timeline(self) -> list[Told]:
        """The events in their order; one whose time is not known stands where it must have been."""
        marks: list[Mark] = [(self.received, True, {"event": "received"})]
        planned = self._planned_for()
        if planned is None:
            marks += self._planning(None)
        for number, attempt in enumerate(self.attempts, 1):
            if attempt is planned:
                marks += self._planning(attempt)
            marks += self._attempt(number, attempt)
        if self.committed is not None:
            marks.append((self.committed, True, {"event": "committed"}))
        if self.finished is not None:
            end = {"outcome": self.outcome, "status": self.status or None, "error": self._error()}
            marks.append((self.finished, True, {"event": "finished", **end}))
        marks.sort(key=lambda mark: mark[0])
        return [{"at_ms": self._ms(at) if known else None, **event} for at, known, event in marks]

    def _planned_for(self) -> Attempt | None:
        """The first attempt of the plan that is kept, the last one: for another model another one is made."""
        first, before = None, ""
        for attempt in self.attempts:
            if first is None or (attempt.purpose == "fallback" and before != "fallback"):
                first = attempt
            before = attempt.purpose
        return first

    def _planning(self, attempt: Attempt | None) -> list[Mark]:
        """The plan and the wait for a turn. Neither leaves a time: both end where `attempt` begins, and of
        several attempts nobody knows how long a wait there was before which.
        """
        queued, at, known = self.queued, self.received, False
        if attempt is not None:
            known = not queued or len(self.attempts) == 1
            at = max(at, attempt.started - queued) if known else attempt.started
        elif queued and self.finished is not None:
            at, known = max(at, self.finished - queued), True
        marks: list[Mark] = []
        if self.plan is not None:
            marks.append((at, known, {"event": "planned"}))
        if queued:
            marks.append((at, known, {"event": "queued", "waited_ms": _rounded(queued)}))
        return marks

    def _attempt(self, number: int, attempt: Attempt) -> list[Mark]:
        begun = {"backend": attempt.backend, "model": attempt.model, "why": attempt.why,
                 "purpose": attempt.purpose}  # fmt: skip
        marks: list[Mark] = [(attempt.started, True, {"event": "attempt", "attempt": number, **begun})]
        if attempt.first_token is not None:
            marks.append((attempt.first_token, True, {"event": "first_token", "attempt": number}))
        if attempt.outcome != "open":
            end: Told = {"outcome": attempt.outcome, "status": attempt.status, "error": None}
            if attempt.error is not None:
                end["error"] = attempt.error[:LONGEST_ERROR]
            if attempt.usage is not None:
                end["usage"] = _counts(attempt.usage)
            at, known = attempt.ended, attempt.ended is not None
            if at is None:  # not later than what came next
                at = self.attempts[number].started if number < len(self.attempts) else self.finished
            end = {"event": "attempt_ended", "attempt": number, **end}
            marks.append((attempt.started if at is None else at, known, end))
        return marks

    def _overhead(self) -> float | None:
        """Time that was neither an attempt's nor a wait for a turn: reading the request, deciding, pauses
        before retries, handing over the last bytes. None while it is under way, or where nobody took an
        attempt's end.
        """
        if self.finished is None:
            return None
        seconds = self.finished - self.received - self.queued
        busy_until = self.received
        for started, ended in sorted((attempt.started, attempt.ended or 0.0) for attempt in self.attempts):
            if not ended:
                return None
            if ended > busy_until:  # attempts for several answers to one request run beside each other
                seconds -= ended - max(started, busy_until)
                busy_until = ended
        return _rounded(max(0.0, seconds))


def _rounded(seconds: float) -> float:
    """Milliseconds, to the microsecond."""
    return round(seconds * 1000, 3)


def _counts(usage: Usage) -> Told:
    return {
        "prompt": usage.prompt,
        "completion": usage.completion,
        "cached": usage.cached,
        "cache_write": usage.cache_write,
        "reasoning": usage.reasoning,
        "estimated": usage.estimated,
        "partial": usage.partial,
    }
