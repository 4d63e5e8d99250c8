"""Answers that are given again: the cache is asked once it is settled which model is to answer, and that this
client may use it.
"""

from __future__ import annotations

import abc
import time

from ghostllm.errors import Overloaded, QueueFull
from ghostllm.gateway.attempts import Attempts
from ghostllm.gateway.recording import recorded
from ghostllm.ports import AnswerCache, CacheQuestion, Recalled
from ghostllm.routing.catalog import Model


class Recalling(Attempts):
    """A call that may be answered without an attempt."""

    # --- for those who derive

    @abc.abstractmethod
    def _plan(self, model: Model) -> None:
        """Has the model answer, or one that stands in for it. Raises GhostError for the client."""

    @abc.abstractmethod
    def _route_to(self, model: Model) -> None:
        """Has it answered by a backend. Raises GhostError for the client."""

    @abc.abstractmethod
    def _fallback(self, error: Overloaded | QueueFull) -> Model | None:
        """The model that stands in where this one has no place."""

    @abc.abstractmethod
    def _finish(self, outcome: str, now: float) -> None:
        """Nothing further happens here."""

    # --- steps

    def _recall(self, answers: AnswerCache, model: Model) -> bool:
        """False: the answer has to be made. True: it has been given, or another node is asked for it."""
        cache = model.config.cache if model.config is not None else None
        name, kinds = model.asked or model.name, self._snapshot.kinds(model)
        question = answers.ask(self._exchange, name, kinds, cache)
        if question is None:
            return False
        found = answers.find(question, time.monotonic())
        if found is None and question.look and answers.shared:
            self._wait(self._fetch(answers, question, model))
            return True
        return self._recalled(answers, question, found)

    async def _fetch(self, answers: AnswerCache, question: CacheQuestion, model: Model) -> None:
        found = await answers.fetch(question, time.monotonic())
        self._waiting = None
        if self._recalled(answers, question, found):
            return
        try:
            self._route_to(model)
        except (Overloaded, QueueFull) as error:
            other = self._fallback(error)
            if other is None:
                raise
            self._plan(other)

    def _recalled(self, answers: AnswerCache, question: CacheQuestion, found: Recalled | None) -> bool:
        exchange = self._exchange
        exchange.cache = question.state
        if found is not None:
            try:
                out = found.value.replay(self._call, int(time.time()), self._generator.mint)
            except ValueError:  # another node has kept it in a way that is not known here
                exchange.cache = "miss"
            else:
                exchange.age = found.age
                exchange.usage = found.value.usage.copy()
                self._give(out)
                return True
        self._responder = recorded(answers, question, exchange, self._responder)
        return False

    def _give(self, out: bytes) -> None:
        """An answer that no backend has given this time."""
        exchange = self._exchange
        exchange.committed = now = time.monotonic()
        exchange.outcome = "ok"
        self._finish("", now)
        if not self._stream:
            self._hint()
            self._responder.respond(200, self._door.WHOLE_HEADERS, out)
            return
        if not self._shown:
            self._show()
        self._responder.write(out)
        self._responder.end()
