"""Answers of OpenAI's dialect that are kept to be given again: a stream as the whole answer that it tells,
and a whole answer as a stream.

Members that are not known here are put together as OpenAI's own client does: texts are joined, lists of
numbered objects by their numbers, and of all else the last word counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ghostllm import jsonx
from ghostllm.api.openai import events
from ghostllm.api.openai.answer_writer import usage_member
from ghostllm.api.openai.events import LAST_EVENT
from ghostllm.api.openai.reader import BROKEN, FINISH
from ghostllm.api.recorded import CREATED, IDENTITY, Unclear, values
from ghostllm.message import Usage

_ONCE = frozenset(("id", "type", "role", "name", "object", "index", "finish_reason"))
"""Texts that are told once or again and again, never in pieces."""


def assembled(stream: bytes) -> dict[str, Any]:
    """The whole answer. Raises Unclear for a stream without its end, or one that can be read in two ways."""
    chunks, over = values(stream)
    if not over:
        raise Unclear("no end")
    whole: dict[str, Any] = {}
    choices: dict[int, _Choice] = {}
    for chunk in chunks:
        if choices and _says_on(chunk, choices):
            continue
        if events.is_error(chunk):
            raise Unclear("an error")
        for name in chunk if not whole else chunk.keys() - _FRAME:
            if name != "choices" and chunk[name] is not None:
                whole[name] = chunk[name]
        for part in chunk.get("choices") or ():
            index = part.get("index") or 0
            choice = choices.get(index)
            if choice is None:
                choice = choices[index] = _Choice()
            choice.add(part)
    if not choices:
        raise Unclear("no choices")
    if whole.get("object") == "chat.completion.chunk":
        whole["object"] = "chat.completion"
    whole["choices"] = [choices[index].whole(index) for index in sorted(choices)]
    return whole


def is_sound(whole: dict[str, Any]) -> bool:
    """Whether every choice, or there are embeddings, came to the end that the model gave it."""
    if isinstance(whole.get("data"), list) and whole.get("object") == "list":
        return bool(whole["data"])
    choices = whole.get("choices")
    return bool(choices) and isinstance(choices, list) and all(_is_finished(choice) for choice in choices)


def streamed(whole: dict[str, Any], *, usage: bool) -> bytes:
    """Few events: all that a choice says, its finish, and the figures where they are asked for."""
    frame = {name: value for name, value in whole.items() if name not in ("choices", "usage")}
    chat = "message" in whole["choices"][0]
    if chat:
        frame["object"] = "chat.completion.chunk"
    rest = {"usage": None} if usage else {}
    parts = (_said(choice) if chat else _continued(choice) for choice in whole["choices"])
    out = [_event({**frame, "choices": [choice], **rest}) for part in parts for choice in part]
    if usage and whole.get("usage") is not None:
        out.append(_event({**frame, "choices": [], "usage": whole["usage"]}))
    return b"".join(out) + LAST_EVENT


def mark(whole: dict[str, Any], usage: Usage) -> None:
    """Puts marks where its id and its time are, and says in its figures that the prompt was not read anew."""
    if "choices" not in whole:
        return
    whole["id"], whole["created"] = IDENTITY, CREATED
    member = whole.get("usage") or usage_member(usage)
    if isinstance(member, dict) and isinstance(member.get("prompt_tokens"), int):
        prompt = member["prompt_tokens"]
        details = {**(member.get("prompt_tokens_details") or {}), "cached_tokens": prompt}
        details.pop("cache_write_tokens", None)
        whole["usage"] = {**member, "prompt_tokens_details": details}
        if "prompt_cache_hit_tokens" in member:  # DeepSeek's name
            whole["usage"].update(prompt_cache_hit_tokens=prompt, prompt_cache_miss_tokens=0)


# --- a stream becomes whole


_FRAME = frozenset(("id", "object", "created", "model", "choices"))
"""Members that are the same in every chunk."""


def _says_on(chunk: dict[str, Any], choices: dict[int, _Choice]) -> bool:
    """Takes a chunk that is nothing but more of a choice's text, as all but a few are."""
    parts = chunk.get("choices")
    if not parts or len(parts) != 1 or chunk.get("usage") is not None or "error" in chunk:
        return False
    part = parts[0]
    delta = part.get("delta")
    if not delta or len(delta) != 1 or part.get("finish_reason") is not None or not part.keys() <= _TALK:
        return False
    text = delta.get("content")
    choice = choices.get(part.get("index"))
    if type(text) is not str or choice is None or part.get("logprobs") is not None:
        return False
    choice.say(text)
    return True


_TALK = frozenset(("index", "delta", "finish_reason", "logprobs"))


class _Choice:
    """A choice in the making. texts: the members of its message that come in pieces."""

    __slots__ = ("_message", "_rest", "_texts")

    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {}
        self._message: dict[str, Any] | None = None
        self._rest: dict[str, Any] = {}

    def add(self, part: dict[str, Any]) -> None:
        for name, value in part.items():
            if value is None or name == "index":
                continue
            if name != "delta":
                self._take(name, value, self._rest)
                continue
            if self._message is None:
                self._message = {}
            for member, said in value.items():
                if said is not None:
                    self._take(member, said, self._message)

    def say(self, text: str) -> None:
        if self._message is None:
            self._message = {}
        self._texts.setdefault("content", []).append(text)

    def whole(self, index: int) -> dict[str, Any]:
        texts = {name: "".join(pieces) for name, pieces in self._texts.items()}
        rest = {"logprobs": None, "finish_reason": None, **self._rest}
        if self._message is None:
            return {"index": index, **texts, **rest}
        message = {"role": "assistant", "content": None, "refusal": None, **self._message, **texts}
        if calls := message.get("tool_calls"):
            message["tool_calls"] = [{k: v for k, v in call.items() if k != "index"} for call in calls]
            message["content"] = message["content"] or None
        return {"index": index, "message": message, **rest}

    def _take(self, name: str, value: Any, members: dict[str, Any]) -> None:
        if type(value) is str and name not in _ONCE:
            pieces = self._texts.get(name)
            if pieces is None:
                self._texts[name] = [value]
            else:
                pieces.append(value)
        else:
            members[name] = _grown(name, members.get(name), value)


def _grown(name: str, old: Any, new: Any) -> Any:
    """Raises Unclear where two calls have one number."""
    if new is None:
        return old
    if old is None:
        return [dict(item) if isinstance(item, dict) else item for item in new] if type(new) is list else new
    if isinstance(old, str) and isinstance(new, str):
        if name in _ONCE:
            if name == "id" and old and new and old != new:
                raise Unclear("two ids")
            return old or new
        return old + new
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: _grown(key, old.get(key), value) for key, value in new.items()}}
    if isinstance(old, list) and isinstance(new, list):
        return _joined(name, old, new)
    return new


def _joined(name: str, old: list[Any], new: list[Any]) -> list[Any]:
    rows = list(old)
    for item in new:
        number = item.get("index") if isinstance(item, dict) else None
        place = next((at for at, row in enumerate(rows) if _number(row) == number), None)
        if number is None or place is None:
            rows.append(item)
        else:
            rows[place] = _grown(name, rows[place], item)
    return rows


def _number(row: Any) -> Any:
    return row.get("index") if isinstance(row, dict) else None


def _is_finished(choice: Any) -> bool:
    if not isinstance(choice, dict):
        return False
    reason = choice.get("finish_reason")
    return isinstance(reason, str) and reason not in BROKEN and FINISH.get(reason) != "content_filter"


# --- a whole answer becomes a stream


def _said(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    delta = {name: value for name, value in choice["message"].items() if value is not None}
    if calls := delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
    delta = {"role": "assistant", "content": None if calls else "", **delta}
    yield from _pair(choice, "message", {"delta": delta}, {"delta": {}})


def _continued(choice: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from _pair(choice, "text", {"text": choice["text"]}, {"text": ""})


def _pair(
    choice: dict[str, Any], member: str, first: dict[str, Any], last: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """What is said of a choice besides goes with its finish."""
    rest = {name: value for name, value in choice.items() if name not in (member, "index", "logprobs")}
    index = choice.get("index") or 0
    yield {"index": index, **first, "logprobs": choice.get("logprobs"), "finish_reason": None}
    yield {"index": index, **last, "logprobs": None, **rest}


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + jsonx.dumps(chunk) + b"\n\n"
