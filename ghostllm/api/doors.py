"""The doors by name: `Call.door` and `Exchange.door` say through which one a request came."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from ghostllm.api.anthropic import door as anthropic
from ghostllm.api.dialect import Dialect
from ghostllm.api.ollama import door as ollama
from ghostllm.api.openai import door as openai
from ghostllm.api.responses import door as responses
from ghostllm.message import Call
from ghostllm.ports import Door

if TYPE_CHECKING:
    from ghostllm.api.translation import Neutral


class FrontDoor(Door, Dialect, Protocol):
    """What the door modules of the dialects are."""


def neutral(call: Call, extra: Mapping[str, Any]) -> Neutral:
    """The call in the neutral form, with the parameters of its model; `extra` are these as members that its
    own body lacks or must change, which is all there is to do where the body is OpenAI's.

    Raises RequestError, UnsupportedParameter, UnsupportedValue naming the member.
    """
    if call.door == "openai":
        return openai.neutral(replace(call, fields={**call.fields, **extra}) if extra else call)
    asked = DOORS[call.door].neutral(call)
    if not call.parameters:
        return asked
    from ghostllm.api.parameters import with_parameters  # here: see openai.door

    return with_parameters(asked, call.parameters)


DOORS: Mapping[str, FrontDoor] = {
    "openai": openai,
    "responses": responses,
    "anthropic": anthropic,
    "ollama": ollama,
}
