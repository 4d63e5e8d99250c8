"""What the clients of the chaos ask through each front door, and what they hear, by that door's own rules."""

from __future__ import annotations

import abc
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fakes.raw import request

MODEL = "chat"
RESCUE = "(rescue)"
"""Ends the comment that tells where a stream goes on; Ollama's lines of JSON have no comments."""


@dataclass(frozen=True)
class Question:
    """limit: most tokens of its answer."""

    text: str
    limit: int


class Hearing(abc.ABC):
    """A stream as its client reads it. finish: the reason that it gives. ended: its dialect's terminator has
    come. error: what it said of a failure. first: when the first text came. seams: where in the text it was
    told that another backend goes on. after: lines that came after the end or the error.
    """

    def __init__(self) -> None:
        self.text = ""
        self.finish: str | None = None
        self.ended = False
        self.error: str | None = None
        self.first: float | None = None
        self.seams: list[int] = []
        self.after: list[str] = []
        self._rest = b""

    def feed(self, data: bytes, now: float) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            before = len(self.text)
            if (self.ended or self.error is not None) and line.startswith((b"data:", b"{")):
                self.after.append(line.decode("utf-8", "replace"))
            self._line(line.strip())
            if self.first is None and len(self.text) > before:
                self.first = now

    def _line(self, line: bytes) -> None:
        if line.startswith(b":") and line.endswith(RESCUE.encode()):
            self.seams.append(len(self.text))
        elif line.startswith(b"data:"):
            data = line[5:].strip()
            if data == b"[DONE]":
                self.ended = True
            else:
                self.event(json.loads(data))

    @abc.abstractmethod
    def event(self, value: Any) -> None:
        """One JSON value of the stream."""


class Chat(Hearing):
    def event(self, value: Any) -> None:
        if "error" in value:
            self.error = str(value["error"]["message"])
            return
        for choice in value["choices"]:
            self.text += choice["delta"].get("content") or ""
            self.finish = choice["finish_reason"] or self.finish


class Messages(Hearing):
    def event(self, value: Any) -> None:
        kind = value["type"]
        if kind == "error":
            self.error = str(value["error"]["message"])
        elif kind == "content_block_delta":
            self.text += value["delta"].get("text", "")
        elif kind == "message_delta":
            self.finish = value["delta"]["stop_reason"] or self.finish
        elif kind == "message_stop":
            self.ended = True


class Responses(Hearing):
    def event(self, value: Any) -> None:
        kind = value["type"]
        if kind == "response.output_text.delta":
            self.text += value["delta"]
        elif kind in ("response.completed", "response.incomplete"):
            details = value["response"].get("incomplete_details") or {}
            self.finish = details.get("reason") or ("stop" if kind == "response.completed" else None)
            self.ended = True
        elif kind == "response.failed":
            self.error = str(value["response"]["error"]["message"])
        elif kind == "error":
            self.error = str(value["message"])


class Lines(Hearing):
    """Ollama's: one JSON value a line."""

    def _line(self, line: bytes) -> None:
        if line:
            self.event(json.loads(line))

    def event(self, value: Any) -> None:
        if "error" in value:
            self.error = str(value["error"])
            return
        self.text += value["message"]["content"]
        if value["done"]:
            self.finish, self.ended = value.get("done_reason"), True


@dataclass(frozen=True)
class Door:
    """cut: the finish reasons of an answer that reached its limit."""

    name: str
    path: str
    members: Callable[[Question], dict[str, Any]]
    hearing: type[Hearing]
    cut: str

    def request(self, question: Question) -> bytes:
        body = {"model": MODEL, "stream": True, **self.members(question)}
        return request("POST", self.path, json.dumps(body).encode(), {"Connection": "close"})


def _turn(question: Question) -> list[dict[str, str]]:
    return [{"role": "user", "content": question.text}]


def _chat(question: Question) -> dict[str, Any]:
    return {"messages": _turn(question), "max_completion_tokens": question.limit, "temperature": 0}


def _messages(question: Question) -> dict[str, Any]:
    return {"messages": _turn(question), "max_tokens": question.limit, "temperature": 0}


def _responses(question: Question) -> dict[str, Any]:
    return {
        "input": question.text, "max_output_tokens": question.limit, "temperature": 0, "store": False,
    }  # fmt: skip


def _lines(question: Question) -> dict[str, Any]:
    options = {"num_predict": question.limit, "temperature": 0}
    return {"messages": _turn(question), "options": options}


DOORS = (
    Door("openai", "/v1/chat/completions", _chat, Chat, "length"),
    Door("anthropic", "/v1/messages", _messages, Messages, "max_tokens"),
    Door("responses", "/v1/responses", _responses, Responses, "max_output_tokens"),
    Door("ollama", "/api/chat", _lines, Lines, "length"),
)
