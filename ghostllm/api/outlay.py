"""What a call may use, before it is sent: tokens of its prompt and of its answer, rather too many.

For limits and budgets, which reserve it while the call runs. Read from the members as they are, without the
neutral form: this is on the path of every request of a limited client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ghostllm.api.estimate import (
    AUDIO_BYTES_PER_TOKEN,
    PAGE_BYTES,
    PER_CONVERSATION,
    PER_IMAGE,
    PER_PAGE,
    estimate_text,
)
from ghostllm.message import Call, Parameters

MOST_TOKENS = 1_000_000_000
"""Whatever a client asks for: nothing larger fits any limit, and sums stay numbers."""

UNSEEN: Final = frozenset(
    ("model", "user", "metadata", "keep_alive", "previous_response_id", "stream_options")
)
"""Members that are not for the model to read."""

READ: Final = frozenset((str, list, dict))
"""Kinds of values that have text in them."""

PLAIN_MESSAGE: Final = 5
"""Tokens of the names in a message, and of its role."""

_BOUNDS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
_IMAGES = frozenset(("image", "image_url", "input_image"))
_FILES = frozenset(("file", "input_file", "document"))
_AUDIO = frozenset(("audio", "input_audio"))


@dataclass(slots=True)
class Outlay:
    """prompt, answer: tokens. bounded: the answer ends there; otherwise nobody has set an end to it."""

    prompt: int
    answer: int
    bounded: bool

    @property
    def tokens(self) -> int:
        return self.prompt + self.answer


NOTHING = Outlay(0, 0, True)


def outlay(call: Call, parameters: Parameters | None, usual: int) -> Outlay:
    """parameters: of the model. usual: the tokens of an answer to which nobody has set an end.

    Of a turn that builds on stored ones only what is sent now is known. Requests that are passed on as they
    are, and those that only count, use no tokens.
    """
    operation = call.operation
    if operation == "passage" or operation == "count_tokens":
        return NOTHING
    prompt = min(MOST_TOKENS, PER_CONVERSATION + _read(call.fields))
    if operation == "embeddings":
        return Outlay(prompt, 0, True)
    bound = _bound(call, parameters)
    answer = (usual if bound is None else bound) * _answers(call.fields)
    return Outlay(prompt, min(MOST_TOKENS, answer), bound is not None)


def _bound(call: Call, parameters: Parameters | None) -> int | None:
    if parameters is not None and parameters.forced and (forced := _first(parameters.forced)) is not None:
        return forced
    said = _first(call.fields)
    if said is None and call.door == "ollama":
        options = call.fields.get("options")
        said = _count(options.get("num_predict")) if type(options) is dict else None
    if said is None and parameters is not None and parameters.defaults:
        said = _first(parameters.defaults)
    return said


def _first(members: Any) -> int | None:
    for name in _BOUNDS:
        if name in members and (count := _count(members[name])) is not None:
            return count
    return None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _answers(fields: dict[str, Any]) -> int:
    """How many there will be: so many of each prompt."""
    prompts = fields.get("prompt")
    if prompts is None and "n" not in fields and "best_of" not in fields:
        return 1
    choices = max(_count(fields.get("n")) or 1, _count(fields.get("best_of")) or 1)
    if type(prompts) is list and prompts and type(prompts[0]) is not int:
        choices *= len(prompts)
    return choices


def _read(fields: dict[str, Any]) -> int:
    """With a list of what is left to do: JSON may be nested deeper than calls can be."""
    total = 0
    left: list[Any] = []
    for name, value in fields.items():
        if type(value) not in READ or name in UNSEEN:
            continue
        if name == "messages" and type(value) is list:
            for message in value:  # most are a role and a text, which cost a fifth of what the rest costs
                content = message.get("content") if type(message) is dict and len(message) == 2 else None
                if type(content) is str:
                    total += PLAIN_MESSAGE + estimate_text(content)
                else:
                    left.append(message)
        else:
            left.append(value)
    while left:
        value = left.pop()
        if type(value) is str:
            total += estimate_text(value)
        elif type(value) is list:
            left.extend(value)
        elif type(value) is int:  # of a prompt that is tokens already
            total += 1
        elif type(value) is dict:
            kind = value.get("type")
            if type(kind) is str and (kind in _IMAGES or kind in _FILES or kind in _AUDIO):
                total += _medium(kind, value)
                continue
            for name, inner in value.items():
                total += 1 + len(name) // 4
                if name == "images" and type(inner) is list:
                    total += PER_IMAGE * len(inner)
                elif type(inner) is str or type(inner) is list or type(inner) is dict:
                    left.append(inner)
    return total


def _medium(kind: str, part: dict[str, Any]) -> int:
    if kind in _IMAGES:
        return PER_IMAGE
    size = _text_bytes(part)
    if kind in _AUDIO:
        return -(-size // AUDIO_BYTES_PER_TOKEN)
    return PER_PAGE * max(1, -(-size // PAGE_BYTES))


def _text_bytes(part: dict[str, Any]) -> int:
    """Of all texts in it, two levels down: where its data is."""
    inner = [value for value in part.values() if type(value) is dict]
    texts = [value for one in (part, *inner) for value in one.values() if type(value) is str]
    return sum(map(len, texts))
