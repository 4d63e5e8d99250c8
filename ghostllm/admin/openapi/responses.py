"""OpenAI's Responses."""

from __future__ import annotations

from ghostllm.admin.openapi.openai import MODEL, STREAM
from ghostllm.admin.openapi.parts import (
    ANY,
    COUNT,
    EVENTS,
    FLAG,
    JSON,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Description,
    Operation,
    arr,
    either,
    maybe,
    obj,
    query,
    ref,
    word,
)

TAG = "OpenAI Responses"

SCHEMAS = {
    "ResponseRequest": obj(
        "model input",
        model=MODEL,
        input=either(TEXT, arr(OBJECT)),
        instructions=maybe(TEXT),
        previous_response_id=maybe(TEXT),
        store=maybe(FLAG),
        stream=maybe(STREAM),
        temperature=maybe(NUMBER),
        max_output_tokens=maybe(WHOLE),
        tools=maybe(arr(OBJECT)),
        tool_choice=ANY,
        text=maybe(OBJECT),
        reasoning=maybe(OBJECT),
    ),
    "Response": obj(
        "id object status output",
        id=TEXT,
        object=word("response"),
        created_at=NUMBER,
        status=word("completed", "failed", "in_progress", "cancelled", "queued", "incomplete"),
        model=TEXT,
        output=arr(obj("type", type=TEXT, id=TEXT, role=TEXT, content=ANY)),
        usage=maybe(obj("input_tokens output_tokens", input_tokens=COUNT, output_tokens=COUNT)),
        error=maybe(OBJECT),
    ),
}

DESCRIPTION = Description(
    {
        "/v1/responses": {
            "POST": Operation(
                summary="Go on with a conversation, which is kept",
                tag=TAG,
                body=ref("ResponseRequest"),
                answer=ref("Response"),
                kinds=(JSON, EVENTS),
            )
        },
        "/v1/responses/input_tokens": {
            "POST": Operation(
                summary="How many tokens a request would have",
                tag=TAG,
                body=obj("model", model=MODEL, input=ANY),
                answer=obj("input_tokens", object=TEXT, input_tokens=COUNT),
            )
        },
        "/v1/responses/{id}": {
            "GET": Operation(summary="A response that is kept", tag=TAG, answer=ref("Response")),
            "DELETE": Operation(
                summary="Forget a response",
                tag=TAG,
                answer=obj("id deleted", id=TEXT, object=TEXT, deleted=FLAG),
            ),
        },
        "/v1/responses/{id}/input_items": {
            "GET": Operation(
                summary="What a response answered to",
                tag=TAG,
                parameters=(
                    query("limit", "How many.", WHOLE),
                    query("after", "Those behind this item."),
                    query("order", "By age.", word("asc", "desc")),
                ),
                answer=obj("data", object=TEXT, data=arr(OBJECT), has_more=FLAG),
            )
        },
        "/v1/responses/{id}/cancel": {
            "POST": Operation(
                summary="Stop a response in the background",
                tag=TAG,
                words="No response runs in the background here: the answer is an error that says so.",
                answer=ref("Response"),
            )
        },
    },
    SCHEMAS,
)
