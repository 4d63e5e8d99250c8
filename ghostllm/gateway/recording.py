"""What the client of a call is given, recorded on its way to be given again."""

from __future__ import annotations

import time
from collections.abc import Coroutine
from typing import Any

from ghostllm.errors import GhostError
from ghostllm.message import Exchange, Pairs
from ghostllm.ports import AnswerCache, CacheQuestion, Flow, Responder, Work


def recorded(
    answers: AnswerCache, question: CacheQuestion, exchange: Exchange, responder: Responder
) -> Responder:
    """The way back on which the answer is recorded, if it may be kept. A responder that records already, for
    a model that could not answer, does so for this one.
    """
    if isinstance(responder, Recording):
        responder.question = question
        return responder
    return Recording(answers, question, exchange, responder) if question.keep else responder


class Recording:
    """Implements ports.Responder before another one. A chunk costs one more call and a reference; what is
    recorded is looked at once the client has it all, and an answer that breaks off is dropped.
    """

    __slots__ = ("_answers", "_exchange", "_recorder", "_responder", "question")

    def __init__(
        self, answers: AnswerCache, question: CacheQuestion, exchange: Exchange, responder: Responder
    ) -> None:
        self.question = question
        self._answers = answers
        self._exchange = exchange
        self._responder = responder
        self._recorder = answers.recorder()

    def __repr__(self) -> str:
        return f"<Recording for {self._exchange!r}>"

    def respond(self, status: int, headers: Pairs, body: bytes) -> None:
        self._responder.respond(status, headers, body)
        if status == 200:
            self._recorder.take(body)
            self._keep()

    def begin(self, status: int, headers: Pairs) -> None:
        self._responder.begin(status, headers)

    def write(self, data: bytes) -> None:
        self._recorder.take(data)
        self._responder.write(data)

    def end(self, *, close: bool = False) -> None:
        self._responder.end(close=close)
        if not close:
            self._keep()

    def fail(self, error: GhostError) -> None:
        self._responder.fail(error)

    def run(self, work: Coroutine[Any, Any, None]) -> Work:
        return self._responder.run(work)

    def attach(self, source: Flow) -> None:
        self._responder.attach(source)

    def _keep(self) -> None:
        self._answers.keep(self.question, self._exchange, self._recorder, time.monotonic())
