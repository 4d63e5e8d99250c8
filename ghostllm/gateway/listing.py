"""The models that a key may use, as the client's dialect has the list."""

from __future__ import annotations

from urllib.parse import parse_qs

from ghostllm.api.anthropic import door as anthropic
from ghostllm.api.openai import door as openai
from ghostllm.errors import ModelNotFound
from ghostllm.gateway.routes import id_behind
from ghostllm.gateway.snapshot import Snapshot
from ghostllm.message import Exchange
from ghostllm.ports import Responder
from ghostllm.routing.catalog import Model

MODEL_PATH = "/v1/models/"


def models(snapshot: Snapshot, exchange: Exchange, responder: Responder) -> None:
    """The whole list; Anthropic's clients get the page that they ask for."""
    entries = [_entry(model.name, model) for model in snapshot.catalog().visible(exchange.identity)]
    if exchange.door == "anthropic":
        query = {name: values[-1] for name, values in parse_qs(exchange.request.query).items()}
        page = {name: query.get(name) for name in ("limit", "after_id", "before_id")}
        body = anthropic.render_models(entries, **page)
    else:
        body = openai.render_models(entries)
    exchange.outcome = "ok"
    responder.respond(200, openai.WHOLE_HEADERS, body)


def model(snapshot: Snapshot, exchange: Exchange, responder: Responder) -> None:
    """One model by name or alias. The name may hold slashes, raw or percent-encoded."""
    name = id_behind(MODEL_PATH, exchange.request.path)
    found = snapshot.catalog().find(name)
    if found is None or not found.open_to(exchange.identity, exchange.group):
        raise ModelNotFound(f"no backend serves the model {name!r}", param="model")
    render = anthropic.render_model if exchange.door == "anthropic" else openai.render_model
    exchange.outcome = "ok"
    responder.respond(200, openai.WHOLE_HEADERS, render(*_entry(name, found)))


def _entry(name: str, model: Model) -> tuple[str, int | None, str]:
    info = model.info
    return (name, info.created, info.owner) if info else (name, None, "")
