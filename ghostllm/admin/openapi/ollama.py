"""Ollama's own API, by its essential members."""

from __future__ import annotations

from ghostllm.admin.openapi.openai import MODEL
from ghostllm.admin.openapi.parts import (
    ANY,
    COUNT,
    FLAG,
    JSON,
    LINES,
    NUMBER,
    OBJECT,
    TEXT,
    Description,
    Operation,
    Schema,
    arr,
    either,
    maybe,
    obj,
    ref,
    says,
)

TAG = "Ollama"

ERROR = ref("OllamaError")

STREAM = says(FLAG, "Answer as lines of JSON; true unless told.")
KEEP = either(TEXT, NUMBER)
NAMED: Schema = {**obj(model=MODEL, name=MODEL), "anyOf": [{"required": ["model"]}, {"required": ["name"]}]}
ASKED = {"model": MODEL, "stream": STREAM, "options": OBJECT, "format": ANY, "keep_alive": KEEP, "think": ANY}
TOLD = {
    "model": TEXT, "created_at": TEXT, "done": FLAG, "done_reason": TEXT, "prompt_eval_count": COUNT,
    "eval_count": COUNT,
}  # fmt: skip

SCHEMAS = {
    "OllamaError": obj("error", error=TEXT),
    "OllamaMessage": obj("role", role=TEXT, content=TEXT, images=maybe(arr(TEXT)), tool_calls=arr(OBJECT)),
    "OllamaChatAnswer": obj("model message done", message=ref("OllamaMessage"), **TOLD),
    "OllamaText": obj("model response done", response=TEXT, **TOLD),
    "OllamaModel": obj("name model", name=TEXT, model=TEXT, size=COUNT, digest=TEXT, details=OBJECT),
    "OllamaModels": obj("models", models=arr(ref("OllamaModel"))),
}


def _managed(summary: str, body: Schema) -> Operation:
    return Operation(
        summary=summary,
        tag=TAG,
        words="For a key that may manage; goes to an Ollama behind.",
        body=body,
        answer=OBJECT,
        kinds=(JSON, LINES),
    )


DESCRIPTION = Description(
    {
        "/api/chat": {
            "POST": Operation(
                summary="Go on with a conversation",
                tag=TAG,
                body=obj("model", messages=arr(ref("OllamaMessage")), tools=arr(OBJECT), **ASKED),
                answer=ref("OllamaChatAnswer"),
                kinds=(JSON, LINES),
            )
        },
        "/api/generate": {
            "POST": Operation(
                summary="Go on with a text",
                tag=TAG,
                body=obj("model", prompt=TEXT, system=TEXT, suffix=TEXT, images=arr(TEXT), **ASKED),
                answer=ref("OllamaText"),
                kinds=(JSON, LINES),
            )
        },
        "/api/embed": {
            "POST": Operation(
                summary="Texts as vectors",
                tag=TAG,
                body=obj("model input", model=MODEL, input=either(TEXT, arr(TEXT))),
                answer=obj("embeddings", model=TEXT, embeddings=arr(arr(NUMBER))),
            )
        },
        "/api/embeddings": {
            "POST": Operation(
                summary="A text as a vector, in the older form",
                tag=TAG,
                body=obj("model", model=MODEL, prompt=TEXT),
                answer=obj("embedding", embedding=arr(NUMBER)),
            )
        },
        "/api/tags": {
            "GET": Operation(summary="The models that the key may use", tag=TAG, answer=ref("OllamaModels"))
        },
        "/api/ps": {"GET": Operation(summary="The models in memory", tag=TAG, answer=ref("OllamaModels"))},
        "/api/show": {
            "POST": Operation(
                summary="What is known of a model",
                tag=TAG,
                body=NAMED,
                answer=obj(details=OBJECT, model_info=OBJECT, capabilities=arr(TEXT)),
            )
        },
        "/api/pull": {"POST": _managed("Fetch a model", NAMED)},
        "/api/copy": {
            "POST": _managed("Copy a model", obj("source destination", source=TEXT, destination=TEXT))
        },
        "/api/delete": {"DELETE": _managed("Delete a model", NAMED)},
        "/api/version": {
            "GET": Operation(
                summary="The release of Ollama whose API this is",
                tag=TAG,
                answer=obj("version", version=TEXT),
            )
        },
        "/": {
            "GET": Operation(
                summary="By which clients know Ollama", tag=TAG, answer=TEXT, kinds=("text/plain",)
            )
        },
    },
    SCHEMAS,
)
