"""Anthropic's Messages, by their essential members."""

from __future__ import annotations

from ghostllm.admin.openapi.openai import MODEL, STREAM
from ghostllm.admin.openapi.parts import (
    COUNT,
    EVENTS,
    JSON,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Description,
    Operation,
    arr,
    either,
    header,
    maybe,
    obj,
    ref,
    word,
)

TAG = "Anthropic"

ERROR = ref("AnthropicError")

VERSION = header("anthropic-version", "Sent by Anthropic's clients; any is taken.")
BLOCKS = either(TEXT, arr(obj("type", type=TEXT, text=TEXT)))
MESSAGES = arr(obj("role content", role=word("user", "assistant", "system"), content=BLOCKS))

SCHEMAS = {
    "AnthropicError": obj(
        "type error", type=word("error"), error=obj("type message", type=TEXT, message=TEXT)
    ),
    "MessagesRequest": obj(
        "model messages max_tokens",
        model=MODEL,
        messages=MESSAGES,
        max_tokens={"type": "integer", "minimum": 1},
        system=BLOCKS,
        stream=STREAM,
        temperature=NUMBER,
        top_p=NUMBER,
        stop_sequences=arr(TEXT),
        tools=arr(obj("name", name=TEXT, description=TEXT, input_schema=OBJECT)),
        tool_choice=OBJECT,
        thinking=OBJECT,
    ),
    "MessagesAnswer": obj(
        "id type role model content stop_reason usage",
        id=TEXT,
        type=word("message"),
        role=word("assistant"),
        model=TEXT,
        content=arr(obj("type", type=TEXT, text=TEXT)),
        stop_reason=maybe(TEXT),
        stop_sequence=maybe(TEXT),
        usage=obj("input_tokens output_tokens", input_tokens=WHOLE, output_tokens=WHOLE),
    ),
}

DESCRIPTION = Description(
    {
        "/v1/messages": {
            "POST": Operation(
                summary="Go on with a conversation",
                tag=TAG,
                parameters=(VERSION,),
                body=ref("MessagesRequest"),
                answer=ref("MessagesAnswer"),
                kinds=(JSON, EVENTS),
            )
        },
        "/v1/messages/count_tokens": {
            "POST": Operation(
                summary="How many tokens a request would have",
                tag=TAG,
                words="`x-ghostllm-estimated: true` marks a count that no backend has made.",
                parameters=(VERSION,),
                body=obj("model messages", model=MODEL, messages=MESSAGES, system=BLOCKS),
                answer=obj("input_tokens", input_tokens=COUNT),
            )
        },
    },
    SCHEMAS,
)
