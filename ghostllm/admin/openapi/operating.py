"""For those who run the gateway: its health and metrics, and the admin API."""

from __future__ import annotations

from ghostllm.admin.openapi.parts import (
    COUNT,
    FLAG,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Description,
    Operation,
    Schema,
    arr,
    header,
    maybe,
    obj,
    query,
    ref,
    table,
    word,
)

GATEWAY, ADMIN = "Gateway", "Admin"

DELIBERATE = header(
    "x-ghostllm-admin",
    "`1`, or the request has `content-type: application/json`: a page of another site cannot send either.",
)
ROWS: Schema = {"type": "integer", "minimum": 1, "maximum": 1000}
OUTCOME = word("failed", "open", "ok", "error", "broken", "cancelled")
STATUS = obj("status", status=TEXT)

SCHEMAS = {
    "Identity": obj("name version", name=TEXT, version=TEXT, python=TEXT, loop=TEXT, json=TEXT),
    "Status": obj(
        "state version uptime_s config backends models requests queues rates process",
        state=word("ready", "not ready", "draining"),
        version=TEXT,
        python=TEXT,
        loop=TEXT,
        json=TEXT,
        started=TEXT,
        uptime_s=NUMBER,
        listening=arr(TEXT),
        config=table({}),
        backends=table(COUNT),
        models=obj("total available", total=COUNT, available=COUNT),
        requests=obj("in_flight waiting", in_flight=COUNT, waiting=COUNT, total=COUNT, failed=COUNT),
        queues=arr(obj("name waiting running", name=TEXT, waiting=COUNT, running=COUNT)),
        rates=table(maybe(NUMBER)),
        process=table(maybe(NUMBER)),
    ),
    "Backend": obj(
        "name kind state breaker in_flight waiting weight why",
        name=TEXT,
        kind=TEXT,
        url=maybe(TEXT),
        state=word("up", "down", "unknown", "draining"),
        breaker=TEXT,
        in_flight=COUNT,
        waiting=COUNT,
        weight=NUMBER,
        why=TEXT,
        loaded=maybe(arr(TEXT)),
        lists_models=maybe(FLAG),
    ),
    "RequestRow": obj(
        "id time outcome",
        id=TEXT,
        time=TEXT,
        route=TEXT,
        key=TEXT,
        model=maybe(TEXT),
        backend=maybe(TEXT),
        status=maybe(WHOLE),
        outcome=TEXT,
        code=maybe(TEXT),
        duration_ms=maybe(NUMBER),
        attempts=COUNT,
    ),
    "RequestStory": obj(
        "id outcome plan timeline",
        id=TEXT,
        outcome=TEXT,
        error=maybe(OBJECT),
        plan=maybe(OBJECT),
        timeline=arr(obj("event at_ms", event=TEXT, at_ms=maybe(NUMBER))),
    ),
    "RoutedModel": obj(
        "name balance targets",
        name=TEXT,
        balance=TEXT,
        targets=arr(obj("backend model state why", backend=TEXT, model=TEXT, state=TEXT, why=TEXT)),
    ),
}


def _told(summary: str, answer: Schema, tag: str = ADMIN, *parameters: Schema) -> Operation:
    return Operation(summary=summary, tag=tag, answer=answer, parameters=parameters)


def _done(summary: str, answer: Schema) -> Operation:
    """Of the admin API, and changes something."""
    return Operation(summary=summary, tag=ADMIN, answer=answer, parameters=(DELIBERATE,))


DESCRIPTION = Description(
    {
        "/health": {"GET": _told("Whether it is alive", STATUS, GATEWAY)},
        "/ready": {"GET": _told("Whether it can serve some model; else 503", STATUS, GATEWAY)},
        "/version": {"GET": _told("What it is", ref("Identity"), GATEWAY)},
        "/metrics": {
            "GET": Operation(
                summary="Its metrics, for Prometheus", tag=GATEWAY, answer=TEXT, kinds=("text/plain",)
            )
        },
        "/openapi.json": {"GET": _told("This document", OBJECT, GATEWAY)},
        "/admin/api/status": {"GET": _told("How the gateway stands as a whole", ref("Status"))},
        "/admin/api/requests": {
            "GET": _told(
                "The requests of late, the newest first",
                obj("requests keep", requests=arr(ref("RequestRow")), keep=COUNT),
                ADMIN,
                query("limit", "How many; 50 unless told.", ROWS),
                query("outcome", "How they ended; `failed`: error or broken.", OUTCOME),
                query("model", "As asked for."),
                query("key", "The key's name."),
            )
        },
        "/admin/api/requests/{id}": {
            "GET": _told("What became of one request, and why", ref("RequestStory"))
        },
        "/admin/api/backends": {
            "GET": _told("The backends and how they stand", obj("backends", backends=arr(ref("Backend"))))
        },
        "/admin/api/backends/{name}": {"GET": _told("One backend", ref("Backend"))},
        "/admin/api/backends/{name}/drain": {"POST": _done("No new requests for a backend", ref("Backend"))},
        "/admin/api/backends/{name}/undrain": {"POST": _done("Requests for a backend again", ref("Backend"))},
        "/admin/api/backends/{name}/probe": {
            "POST": _done(
                "Look at a backend now",
                obj("backend passed", backend=TEXT, passed=FLAG, reason=maybe(TEXT), observed=OBJECT),
            )
        },
        "/admin/api/models": {
            "GET": _told(
                "The models and where they are served", obj("models", models=arr(ref("RoutedModel")))
            )
        },
        "/admin/api/splits": {
            "GET": _told(
                "The models that are split into arms",
                obj("splits", splits=arr(obj("model by arms", model=TEXT, by=TEXT, arms=arr(OBJECT)))),
            )
        },
    },
    SCHEMAS,
)
