"""OpenAI's other calls, which pass through to a backend that has them."""

from __future__ import annotations

from ghostllm.admin.openapi.openai import MODEL
from ghostllm.admin.openapi.parts import (
    ANY,
    FLAG,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Description,
    Operation,
    Schema,
    arr,
    either,
    obj,
    ref,
)

TAG = "OpenAI, passed through"
FORM = "multipart/form-data"
BYTES: Schema = {"type": "string", "format": "binary"}
FILE = {"type": "string", "contentMediaType": "application/octet-stream"}
WORDS = "Goes to a backend that has it, and comes back, as it is."

SCHEMAS = {
    "File": obj("id", id=TEXT, object=TEXT, bytes=WHOLE, filename=TEXT, purpose=TEXT, created_at=WHOLE),
    "Batch": obj("id", id=TEXT, object=TEXT, status=TEXT, input_file_id=TEXT, endpoint=TEXT),
    "Images": obj("data", created=WHOLE, data=arr(obj(url=TEXT, b64_json=TEXT))),
}


def _passed(
    summary: str, answer: Schema | None, body: Schema | None = None, kind: str = "application/json",
    takes: str = "application/json",
) -> Operation:  # fmt: skip
    return Operation(
        summary=summary, tag=TAG, words=WORDS, body=body, takes=takes, answer=answer, kinds=(kind,)
    )


def _form(required: str, **members: Schema) -> Schema:
    return obj(f"model {required}", model=MODEL, **members)


HEARD = obj("text", text=TEXT)

DESCRIPTION = Description(
    {
        "/v1/audio/speech": {
            "POST": _passed(
                "A text as speech",
                BYTES,
                obj("model input", model=MODEL, input=TEXT, voice=ANY, response_format=TEXT),
                "audio/*",
            )
        },
        "/v1/audio/transcriptions": {
            "POST": _passed("Speech as text", HEARD, _form("file", file=FILE, language=TEXT), takes=FORM)
        },
        "/v1/audio/translations": {
            "POST": _passed("Speech as English text", HEARD, _form("file", file=FILE), takes=FORM)
        },
        "/v1/images/generations": {
            "POST": _passed(
                "Draw a picture",
                ref("Images"),
                obj("model prompt", model=MODEL, prompt=TEXT, n=WHOLE, size=TEXT),
            )
        },
        "/v1/images/edits": {
            "POST": _passed(
                "Change a picture", ref("Images"), _form("image", image=FILE, prompt=TEXT), takes=FORM
            )
        },
        "/v1/images/variations": {
            "POST": _passed("Vary a picture", ref("Images"), _form("image", image=FILE), takes=FORM)
        },
        "/v1/moderations": {
            "POST": _passed(
                "Judge a text",
                obj("results", id=TEXT, model=TEXT, results=arr(OBJECT)),
                obj("input", model=MODEL, input=either(TEXT, arr(ANY))),
            )
        },
        "/v1/rerank": {
            "POST": _passed(
                "Order documents by how well they answer a question",
                obj("results", results=arr(obj("index", index=WHOLE, relevance_score=NUMBER))),
                obj("model query documents", model=MODEL, query=TEXT, documents=arr(ANY), top_n=WHOLE),
            )
        },
        "/v1/files": {
            "GET": _passed("The files of the backend", obj("data", data=arr(ref("File")))),
            "POST": _passed(
                "Hand over a file", ref("File"), obj("file", file=FILE, purpose=TEXT), takes=FORM
            ),
        },
        "/v1/files/{id}": {
            "GET": _passed("About one file", ref("File")),
            "POST": _passed("Change a file, where the backend can", ref("File"), OBJECT),
            "DELETE": _passed("Delete a file", obj("deleted", id=TEXT, deleted=FLAG)),
        },
        "/v1/files/{id}/content": {"GET": _passed("What is in a file", BYTES, kind="*/*")},
        "/v1/batches": {
            "GET": _passed("The batches of the backend", obj("data", data=arr(ref("Batch")))),
            "POST": _passed(
                "Begin a batch",
                ref("Batch"),
                obj("input_file_id endpoint", input_file_id=TEXT, endpoint=TEXT, completion_window=TEXT),
            ),
        },
        "/v1/batches/{id}": {
            "GET": _passed("About one batch", ref("Batch")),
            "DELETE": _passed("Delete a batch, where the backend can", obj(id=TEXT, deleted=FLAG)),
        },
        "/v1/batches/{id}/cancel": {"POST": _passed("Stop a batch", ref("Batch"))},
    },
    SCHEMAS,
)
