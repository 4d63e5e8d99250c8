"""Answers of OpenAI-compatible servers to neutral events, for clients of other dialects. Only the first
choice is read: no other dialect asks for more.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from ghostllm.api import forced_call
from ghostllm.api.canonical import Event, FinishReason, ReasoningDelta, RefusalDelta
from ghostllm.api.openai import logprobs
from ghostllm.api.openai.calls import Calls
from ghostllm.api.openai.reader import REASONING, Reader
from ghostllm.errors import UpstreamProtocolError


class ChatReader(Reader):
    """Reads the answer to one chat request.

    mint: makes the id of a tool call that came without one. forced: names of the functions of which the
    constrained output calls one (`forced_call`). single: at most one tool call is wanted.
    """

    __slots__ = ("_calls", "_constrained", "_forced")

    def __init__(
        self,
        *,
        backend: str,
        limit: int,
        mint: Callable[[], str],
        blot: Callable[[str], str] = str,
        forced: Collection[str] = (),
        single: bool = False,
    ) -> None:
        super().__init__(backend=backend, limit=limit, blot=blot)
        self._calls = Calls(mint, backend, single=single)
        self._forced = forced
        self._constrained: list[str] = []  # the JSON of a forced call, so far

    def _choice(self, choice: dict[str, Any], out: list[Event]) -> None:
        delta = choice.get("delta")
        if not isinstance(delta, dict):
            delta = choice.get("message")  # some servers send the last chunk as a whole message
            if not isinstance(delta, dict):
                return
        self._delta(delta, choice.get("logprobs"), out)

    def _whole(self, choice: dict[str, Any], out: list[Event]) -> bool:
        message = choice.get("message")
        if not isinstance(message, dict) or not message:
            return False
        self._delta(message, choice.get("logprobs"), out)
        return True

    def _delta(self, delta: dict[str, Any], chances: Any, out: list[Event]) -> None:
        thought = next((text for name in REASONING if (text := delta.get(name))), None)
        content = delta.get("content")
        if isinstance(content, list):
            content, inner = _parts(content)
            thought = thought or inner
        if isinstance(thought, str) and thought:
            self.committed = True
            out.append(ReasoningDelta(thought))
        if content is not None and not isinstance(content, str):
            raise UpstreamProtocolError(f"{self._backend} sent a content that is not a string")
        if content or (chances and not thought):
            tokens = logprobs.chat(chances) if chances else ()
            if self._forced:
                self._constrained.append(content or "")
            else:
                self._text(content or "", tokens, out)
        if isinstance(refusal := delta.get("refusal"), str) and refusal:
            self.committed = True
            out.append(RefusalDelta(refusal))
        if isinstance(calls := delta.get("tool_calls"), list) and calls:
            self._called(self._calls.read(calls), out)

    def _called(self, fragments: list[Event], out: list[Event]) -> None:
        if fragments:
            self.committed = True
            out.extend(fragments)

    def _finish(self, reason: str, out: list[Event]) -> FinishReason:
        """A finish of "stop" after a call means the call; one of "tool_calls" without any means nothing."""
        meant = super()._finish(reason, out)
        if self._forced:
            self._force(meant, out)
        self._called(self._calls.flush(), out)
        if self._calls.count:
            return "tool_calls" if meant == "stop" else meant
        return "stop" if meant == "tool_calls" else meant

    def _force(self, meant: FinishReason, out: list[Event]) -> None:
        text = "".join(self._constrained)
        try:
            call = forced_call.read(text, self._forced, cut=meant == "length")
        except forced_call.NoCall as error:
            raise UpstreamProtocolError(f"{self._backend} sent {error}") from None
        if call is None:
            self._text(text, (), out)
        else:
            self._called([self._calls.make(*call)], out)


class CompletionReader(Reader):
    """Reads the answer to one request for the continuation of a text."""

    __slots__ = ()

    def _choice(self, choice: dict[str, Any], out: list[Event]) -> None:
        text = choice.get("text")
        if text is not None and not isinstance(text, str):
            raise UpstreamProtocolError(f"{self._backend} sent a text that is not a string")
        chances = choice.get("logprobs")
        self._text(text or "", logprobs.completion(chances) if chances else (), out)

    def _whole(self, choice: dict[str, Any], out: list[Event]) -> bool:
        self._choice(choice, out)
        return isinstance(choice.get("text"), str)


def _parts(content: list[Any]) -> tuple[str, str]:
    """Text and thinking of content in parts, as Mistral's reasoning models send it."""
    said: list[str] = []
    thought: list[str] = []
    for part in content:
        if not isinstance(part, dict):
            continue
        if isinstance(text := part.get("text"), str):
            said.append(text)
        inner = part.get("thinking")
        if isinstance(inner, list):
            thought.append(_parts(inner)[0])
        elif isinstance(inner, str):
            thought.append(inner)
    return "".join(said), "".join(thought)
