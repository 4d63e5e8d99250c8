"""The `x-ghostllm-…` fields of an answer: who gave it, at which try, why this one, after which wait, or that
it comes from the cache, and how old it is.
"""

from __future__ import annotations

from functools import lru_cache

from ghostllm.message import Exchange


def hints(exchange: Exchange) -> bytes:
    """Header lines, each with its end. overhead: milliseconds that the gateway itself took until the request
    went to the backend that answered; waits and failed attempts are not its own.
    """
    attempts = exchange.attempts
    if not attempts:
        return _cached(exchange) + _arm(exchange) if exchange.cache else b""
    last = attempts[-1]
    spent = last.started - exchange.received - exchange.queued
    if len(attempts) > 1:
        for attempt in attempts[:-1]:
            spent -= (attempt.ended or attempt.started) - attempt.started
    lines = _named(last.backend, last.why, len(attempts))
    if exchange.queued:
        lines += b"x-ghostllm-queue-ms: %d\r\n" % (exchange.queued * 1000)
    if exchange.arm:
        lines += _arm(exchange)
    if exchange.cache:
        lines += _cached(exchange)
    return lines + b"x-ghostllm-overhead-ms: %.2f\r\n" % (max(0.0, spent) * 1000)


def _cached(exchange: Exchange) -> bytes:
    if exchange.cache == "hit":
        return b"x-ghostllm-cache: hit\r\nage: %d\r\n" % exchange.age  # RFC 9111 section 5.1: whole seconds
    return b"x-ghostllm-cache: %b\r\n" % exchange.cache.encode()


def _arm(exchange: Exchange) -> bytes:
    return b"x-ghostllm-arm: %b\r\n" % _visible(exchange.arm) if exchange.arm else b""


@lru_cache(maxsize=512)
def _named(backend: str, why: str, attempts: int) -> bytes:
    return b"x-ghostllm-backend: %b\r\nx-ghostllm-attempts: %d\r\nx-ghostllm-reason: %b\r\n" % (
        backend.encode(),
        attempts,
        _visible(why),
    )


def _visible(text: str) -> bytes:
    """Names of models may hold any character but spaces: those that a field cannot hold are escaped."""
    return text.encode("ascii", "backslashreplace")
