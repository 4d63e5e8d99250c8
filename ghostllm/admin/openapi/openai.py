"""OpenAI's chat, completions, embeddings and models, by their essential members."""

from __future__ import annotations

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
    ref,
    says,
    word,
)

TAG = "OpenAI"

ERROR = ref("OpenAIError")

STREAM = says(FLAG, "Answer as server-sent events.")
MODEL = says(TEXT, "A model of `/v1/models`, or an alias of one.")

CONTENT = either(TEXT, arr(obj("type", type=TEXT, text=TEXT)), {"type": "null"})

SCHEMAS = {
    "OpenAIError": obj(
        "error",
        error=obj("message type", message=TEXT, type=TEXT, param=maybe(TEXT), code=maybe(TEXT)),
    ),
    "Usage": obj(
        "prompt_tokens completion_tokens total_tokens",
        prompt_tokens=COUNT,
        completion_tokens=COUNT,
        total_tokens=COUNT,
        prompt_tokens_details=maybe(OBJECT),
        completion_tokens_details=maybe(OBJECT),
    ),
    "ChatMessage": obj(
        "role",
        role=word("system", "developer", "user", "assistant", "tool", "function"),
        content=CONTENT,
        tool_calls=maybe(arr(ref("ToolCall"))),
        tool_call_id=TEXT,
        name=TEXT,
    ),
    "ToolCall": obj(
        "function", id=TEXT, type=TEXT, function=obj("name arguments", name=TEXT, arguments=TEXT)
    ),
    "ChatRequest": obj(
        "model messages",
        model=MODEL,
        messages=arr(ref("ChatMessage")),
        stream=maybe(STREAM),
        stream_options=maybe(obj(include_usage=FLAG)),
        temperature=maybe(NUMBER),
        top_p=maybe(NUMBER),
        n=maybe(WHOLE),
        max_tokens=maybe(WHOLE),
        max_completion_tokens=maybe(WHOLE),
        stop=maybe(either(TEXT, arr(TEXT))),
        seed=maybe(WHOLE),
        tools=maybe(arr(obj("type", type=TEXT, function=OBJECT))),
        tool_choice=either(TEXT, OBJECT, {"type": "null"}),
        response_format=maybe(obj("type", type=TEXT, json_schema=OBJECT)),
    ),
    "ChatAnswer": obj(
        "id object model choices",
        id=TEXT,
        object=word("chat.completion"),
        created=WHOLE,
        model=TEXT,
        choices=arr(obj("index message", index=WHOLE, message=ref("ChatMessage"), finish_reason=maybe(TEXT))),
        usage=maybe(ref("Usage")),
    ),
    "CompletionRequest": obj(
        "model prompt",
        model=MODEL,
        prompt=either(TEXT, arr(ANY)),
        stream=maybe(STREAM),
        max_tokens=maybe(WHOLE),
        temperature=maybe(NUMBER),
        stop=maybe(either(TEXT, arr(TEXT))),
    ),
    "CompletionAnswer": obj(
        "object choices",
        id=TEXT,
        object=word("text_completion"),
        created=WHOLE,
        model=TEXT,
        choices=arr(obj("index text", index=WHOLE, text=TEXT, finish_reason=maybe(TEXT))),
        usage=maybe(ref("Usage")),
    ),
    "EmbeddingsRequest": obj(
        "model input",
        model=MODEL,
        input=either(TEXT, arr(ANY)),
        encoding_format=maybe(word("float", "base64")),
        dimensions=maybe(WHOLE),
    ),
    "EmbeddingsAnswer": obj(
        "object data",
        object=word("list"),
        data=arr(obj("embedding index", object=TEXT, index=WHOLE, embedding=either(arr(NUMBER), TEXT))),
        model=TEXT,
        usage=maybe(OBJECT),
    ),
    "Model": obj("id", id=TEXT, object=TEXT, created=WHOLE, owned_by=TEXT),
    "ModelList": obj("data", object=TEXT, data=arr(ref("Model"))),
}

DESCRIPTION = Description(
    {
        "/v1/chat/completions": {
            "POST": Operation(
                summary="Go on with a conversation",
                tag=TAG,
                body=ref("ChatRequest"),
                answer=ref("ChatAnswer"),
                kinds=(JSON, EVENTS),
            )
        },
        "/v1/completions": {
            "POST": Operation(
                summary="Go on with a text",
                tag=TAG,
                body=ref("CompletionRequest"),
                answer=ref("CompletionAnswer"),
                kinds=(JSON, EVENTS),
            )
        },
        "/v1/embeddings": {
            "POST": Operation(
                summary="Texts as vectors",
                tag=TAG,
                body=ref("EmbeddingsRequest"),
                answer=ref("EmbeddingsAnswer"),
            )
        },
        "/v1/models": {
            "GET": Operation(
                summary="The models that the key may use",
                tag=TAG,
                words="Clients that send `anthropic-version` or `x-api-key` get Anthropic's form.",
                answer=ref("ModelList"),
            )
        },
        "/v1/models/{model}": {
            "GET": Operation(
                summary="One model, by its name or an alias",
                tag=TAG,
                words="The name may hold slashes, percent-encoded or not.",
                answer=ref("Model"),
            )
        },
    },
    SCHEMAS,
)
