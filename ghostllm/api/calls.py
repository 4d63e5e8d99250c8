"""What the doors check of a request before anything else: a JSON object that names one model.

What is wrong is told by its member and by what would be right. A member that is null counts as absent.
"""

from __future__ import annotations

from typing import Any

from ghostllm import jsonx
from ghostllm.api.members import kind
from ghostllm.api.splice import refuse_duplicate
from ghostllm.errors import RequestError
from ghostllm.message import Body

MODEL_NAME_LIMIT = 512  # characters; names come back in error messages


def read_object(body: Body) -> dict[str, Any]:
    """The members of a body. Raises RequestError when it is not one JSON object."""
    if not body:
        raise RequestError("the body is empty: send a JSON object")
    try:
        fields = jsonx.loads(body)
    except jsonx.DecodeError as error:
        raise RequestError(f"the body is not valid JSON: {error}") from None
    if type(fields) is not dict:
        raise RequestError(f"the body must be a JSON object, not {kind(fields)}")
    return fields


def check_depth(body: Body, fields: dict[str, Any], limit: int, what: str = "") -> None:
    """Raises RequestError for arrays and objects nested deeper than `limit`: what writes or reads them later,
    here and behind, mostly gives up far below what the parser takes.

    Few bodies have as many brackets as may be nested, wherever they stand; counting those costs next to
    nothing. what: the member that it is, "" for all of the body.
    """
    if body.count(b"{") + body.count(b"[") <= limit:
        return
    level: list[Any] = [fields]
    for _ in range(limit):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if type(outer) is dict else outer)
            if type(inner) is dict or type(inner) is list
        ]
        if not level:
            return
    told = f"{what or 'the body'} is nested deeper than {limit} arrays and objects"
    raise RequestError(told, param=what or None)


def model_name(body: Body, fields: dict[str, Any]) -> str:
    """The `model` of a request. Two of that name are refused: gateway and backend could each believe another
    one.
    """
    model = fields.get("model")
    if type(model) is not str or not model:
        raise wrong(fields, "model", "the name of a model, a non-empty string")
    if len(model) > MODEL_NAME_LIMIT:
        raise RequestError(f"model is longer than {MODEL_NAME_LIMIT} characters", param="model")
    refuse_duplicate(body, fields, "model")
    return model


def check_messages(fields: dict[str, Any]) -> None:
    """`messages` is an array of objects, and not empty."""
    messages = fields.get("messages")
    if type(messages) is not list:
        raise wrong(fields, "messages", "an array of messages")
    if not messages:
        raise RequestError("messages must have at least one message", param="messages")
    for index, message in enumerate(messages):
        if type(message) is not dict:
            param = f"messages[{index}]"
            raise RequestError(f"{param} must be an object, not {kind(message)}", param=param)


def flag(fields: dict[str, Any], name: str) -> bool:
    """A boolean member, false when absent."""
    value = fields.get(name)
    if value is not None and type(value) is not bool:
        raise wrong(fields, name, "true or false")
    return bool(value)


def wrong(fields: dict[str, Any], name: str, expected: str) -> RequestError:
    """The error for a top-level member that is absent, or not what was expected."""
    value = fields.get(name)
    if value is None:
        return RequestError(f"{name} is required: {expected}", param=name)
    found = repr(value) if value == "" or type(value) is int else kind(value)
    return RequestError(f"{name} must be {expected}, not {found}", param=name)
