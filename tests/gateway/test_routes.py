"""Paths and methods."""

import pytest

from ghostllm.errors import MethodNotAllowed, NotFound, NotImplementedHere
from ghostllm.gateway.routes import Route, Routes, id_behind, missing


def handler(exchange, responder):
    pass


CHAT = Route("chat", "/v1/chat/completions", {"POST": handler})
MODELS = Route("models", "/v1/models", {"GET": handler})
MODEL = Route("model", "/v1/models/", {"GET": handler}, prefix=True)
ROUTES = Routes([CHAT, MODELS, MODEL])


def test_paths_find_their_route():
    assert ROUTES.find("/v1/chat/completions") is CHAT
    assert ROUTES.find("/v1/models") is MODELS
    assert ROUTES.find("/v1/models/org/model:7b") is MODEL
    assert ROUTES.find("/v1/models/") is None
    assert ROUTES.find("/v1/chat/completions/") is None
    assert ROUTES.find("//v1/models") is None


def test_an_id_may_hold_slashes_raw_or_encoded():
    assert id_behind("/v1/models/", "/v1/models/org/model") == "org/model"
    assert id_behind("/v1/models/", "/v1/models/org%2Fmodel%3A7b") == "org/model:7b"


def test_methods():
    assert ROUTES.handler(MODELS, "HEAD") is handler
    with pytest.raises(MethodNotAllowed) as refused:
        ROUTES.handler(CHAT, "GET")
    assert refused.value.allow == "OPTIONS, POST"
    with pytest.raises(NotImplementedHere):
        ROUTES.handler(CHAT, "BREW")


def test_what_is_missing_says_why():
    assert isinstance(missing("POST", "/v1/vector_stores"), NotImplementedHere)
    assert "did you mean /v1/chat/completions" in missing("POST", "/chat/completions").message
    assert isinstance(missing("GET", "/nowhere"), NotFound)
    assert len(missing("GET", "/" + "x" * 9000).message) < 300
