"""Answers for those who run the gateway: is it alive, is it able to serve, what is it."""

from __future__ import annotations

import platform

import ghostllm
from ghostllm import jsonx
from ghostllm.message import Exchange
from ghostllm.net import loop
from ghostllm.ports import Responder

JSON = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))

IDENTITY = {
    "name": "ghostllm",
    "version": ghostllm.__version__,
    "python": platform.python_version(),
    "loop": loop.NAME,
    "json": jsonx.BACKEND,
}


def health(exchange: Exchange, responder: Responder) -> None:
    """Alive: the event loop turns."""
    _answer(exchange, responder, 200, {"status": "ok"})


def version(exchange: Exchange, responder: Responder) -> None:
    _answer(exchange, responder, 200, IDENTITY)


def ready(exchange: Exchange, responder: Responder, able: bool) -> None:
    """Able to serve: some model has a backend that answers, and the gateway is not shutting down."""
    _answer(exchange, responder, 200 if able else 503, {"status": "ready" if able else "not ready"})


def _answer(exchange: Exchange, responder: Responder, status: int, value: dict[str, str]) -> None:
    exchange.outcome = "ok"
    responder.respond(status, JSON, jsonx.dumps(value))
