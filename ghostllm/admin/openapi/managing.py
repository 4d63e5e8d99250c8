"""What managers do by the admin API: keys, usage, cache, configuration, audit. A description for each, which
is there as a whole or not at all.
"""

from __future__ import annotations

from ghostllm.admin.openapi.operating import ADMIN, DELIBERATE, ROWS
from ghostllm.admin.openapi.parts import (
    COUNT,
    FLAG,
    JSON,
    LINES,
    NUMBER,
    OBJECT,
    TEXT,
    WHOLE,
    Description,
    Operation,
    Schema,
    arr,
    maybe,
    obj,
    query,
    says,
    word,
)

CSV = "text/csv"


def _read(summary: str, answer: Schema, *parameters: Schema, kinds: tuple[str, ...] = (JSON,)) -> Operation:
    return Operation(summary=summary, tag=ADMIN, answer=answer, parameters=parameters, kinds=kinds)


def _done(
    summary: str, answer: Schema, *parameters: Schema, body: Schema | None = None, words: str = ""
) -> Operation:
    return Operation(
        summary=summary,
        tag=ADMIN,
        words=words,
        answer=answer,
        body=body,
        needs_body=False,
        parameters=(DELIBERATE, *parameters),
    )


LISTED_KEYS = obj("keys", keys=arr(obj("name id", name=TEXT, id=maybe(TEXT))))
EXPIRES = says(TEXT, "2027-01-31, 2027-01-31T18:00:00Z, or a number of seconds since 1970.")
WANTED_KEY = obj(
    "name",
    name=TEXT,
    roles=arr(TEXT),
    models=arr(TEXT),
    team=maybe(TEXT),
    limits=says(TEXT, "A name of [[limits]]."),
    weight=NUMBER,
    priority=WHOLE,
    expires=EXPIRES,
)
ROTATION = obj(overlap=says(NUMBER, "Seconds for which the older one goes on."), expires=EXPIRES)

KEYS = Description(
    {
        "/admin/api/keys": {
            "GET": _read("The keys, without what they are", LISTED_KEYS),
            "POST": _done(
                "Make a key",
                OBJECT,
                body=WANTED_KEY,
                words="The key itself is in this answer and nowhere else.",
            ),
        },
        "/admin/api/keys/{key}": {
            "GET": _read("The keys of a name, or that of an id", LISTED_KEYS),
            "DELETE": _done("Revoke a key by its id, or all of a name", LISTED_KEYS),
        },
        "/admin/api/keys/{key}/rotate": {
            "POST": _done(
                "Make a new key in an older one's place; both are good for a while", OBJECT, body=ROTATION
            )
        },
    }
)

SPAN = (
    query("since", "A month (2026-03), a day (2026-03-01) or a time with its zone."),
    query("until", "Likewise; itself not in it."),
    query("key", "The key's name."),
    query("team", "The team's name."),
    query("model", "The model's name."),
)

USAGE = Description(
    {
        "/admin/api/usage": {
            "GET": _read(
                "What was used and spent",
                obj("by usage", by=arr(TEXT), timezone=TEXT, usage=arr(OBJECT), lost=COUNT),
                query("by", "Groups, with commas between: key, team, model, day, month and others."),
                query("format", "The answer's form.", word("json", "csv")),
                *SPAN,
                kinds=(JSON, CSV),
            )
        },
        "/admin/api/usage/records": {
            "GET": _read(
                "Every request of the ledger, one a line",
                TEXT,
                query("format", "The answer's form.", word("jsonl", "csv")),
                *SPAN,
                kinds=(LINES, CSV),
            )
        },
        "/admin/api/limits": {"GET": _read("How limits and budgets stand", obj(currency=TEXT))},
    }
)

CACHE = Description(
    {
        "/admin/api/cache": {"GET": _read("The figures of the cache", OBJECT)},
        "/admin/api/cache/flush": {
            "POST": _done(
                "Have kept answers forgotten",
                OBJECT,
                body=obj(model=says(TEXT, "A name or a pattern."), key=TEXT, team=TEXT),
                words="All of them, or those of a model and of a key or team.",
            )
        },
    }
)

CONFIG = Description(
    {
        "/admin/api/config": {"GET": _read("The configuration in force, without secrets", OBJECT)},
        "/admin/api/config/history": {
            "GET": _read("The configurations of late", obj("configurations", configurations=arr(OBJECT)))
        },
        "/admin/api/config/diff": {"GET": _read("What a reload would change; 422 if nothing can", OBJECT)},
        "/admin/api/config/reload": {"POST": _done("Take the file as it is now; 422 if it is wrong", OBJECT)},
        "/admin/api/config/rollback": {
            "POST": _done("Go back to an older one", OBJECT, query("to", "Its number in the history.", COUNT))
        },
    }
)

AUDIT = Description(
    {
        "/admin/api/audit": {
            "GET": _read(
                "What was done by the admin API, the newest first",
                obj("audit", audit=arr(obj("number time", number=NUMBER, time=TEXT)), persistent=FLAG),
                query("limit", "How many; 50 unless told.", ROWS),
                query("before", "The number of a row: those that are older.", COUNT),
                query("who", "The key's name."),
                query("action", "What was done."),
                query("outcome", "How it ended."),
            )
        }
    }
)

DESCRIPTIONS = (KEYS, USAGE, CACHE, CONFIG, AUDIT)
