"""How a server differs from OpenAI's own in what a request may say, as data for `request_writer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

EXTRAS: Mapping[str, str] = {"top_k": "top_k", "min_p": "min_p", "repetition_penalty": "repetition_penalty"}
"""Sampling parameters that OpenAI does not have, under the names that vLLM gave them."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Traits:
    """The defaults lose nothing that OpenAI can say: what is written with them reads back as it was.

    label: for people. token_limit: the name of the limit of an answer's tokens. extras: sampling parameters
    beyond OpenAI's, by neutral name; one that is not there is refused.
    """

    label: str = "this server"
    token_limit: str = "max_completion_tokens"
    extras: Mapping[str, str] = field(default_factory=lambda: EXTRAS)

    efforts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Members that ask for a reasoning effort. Empty: `reasoning_effort` is passed on as it is."""

    budget: str = ""
    """The member that bounds the tokens of thinking. "": none, so that a budget becomes an effort."""

    reasoning: str = "reasoning_content"
    """The member in which earlier thinking goes back to the model. "": none, and it stays here."""

    developer: bool = True
    """The role `developer` is known. Otherwise it is `system`."""

    system_anywhere: bool = True
    """System messages may stand anywhere. Otherwise all are one, in front, as chat templates demand."""

    flat_text: bool = False
    """Content that is all text goes as one string: templates are written for strings."""

    result_images: bool = True
    """Tool messages may hold images. Otherwise these follow in a user message."""

    files: bool = True
    custom_tools: bool = True

    tool_choice: bool = True
    """Acts on `tool_choice`. Otherwise the tools are left out for "none"."""

    allowed_tools: bool = True
    """Knows tool_choice `allowed_tools`. Otherwise only the allowed ones are offered."""

    named_choice: bool = True
    """Knows a tool_choice that names a function. Otherwise only that one is offered and "required"."""

    forced_by_format: bool = False
    """A required call has to be made by constraining the output (`api.forced_call`)."""

    labels: bool = True
    """Takes `metadata`, a label that changes nothing in the answer."""

    continues: Mapping[str, Any] | None = None
    """Members with which it goes on with a last message of the assistant's. None: it knows no way to, and
    begins another turn.
    """


LOSSLESS = Traits()
