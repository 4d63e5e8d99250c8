"""Configured parameters, laid under and over what a client of any dialect said."""

from __future__ import annotations

import pytest

from ghostllm.api.canonical import Continuation, Conversation, Embeddings, Message, Sampling, Text
from ghostllm.api.parameters import with_parameters
from ghostllm.errors import RequestError
from ghostllm.message import Parameters

HI = (Message("user", (Text("Hi"),)),)


def laid(asked, defaults=None, forced=None):
    return with_parameters(asked, Parameters(defaults or {}, forced or {}))


def test_a_default_fills_what_the_client_left_open():
    asked = Conversation("m", HI, sampling=Sampling(temperature=0.0))
    got = laid(asked, {"temperature": 0.7, "max_completion_tokens": 100, "reasoning_effort": "low"})
    assert got.sampling == Sampling(temperature=0.0, max_tokens=100)
    assert (got.reasoning_effort, got.messages) == ("low", HI)


def test_a_forced_parameter_rules():
    asked = Conversation("m", HI, sampling=Sampling(temperature=1.0, seed=3))
    assert laid(asked, forced={"temperature": 0.2}).sampling == Sampling(temperature=0.2, seed=3)


def test_what_only_a_backend_knows_goes_along():
    asked = Conversation("m", HI, extensions={"num_ctx": 1})
    assert laid(asked, {"num_ctx": 2, "keep_alive": -1}).extensions == {"num_ctx": 1, "keep_alive": -1}
    assert laid(asked, forced={"num_ctx": 2}).extensions == {"num_ctx": 2}


def test_texts_and_embeddings():
    assert laid(Continuation("m", "Once"), {"max_tokens": 5}).sampling.max_tokens == 5
    assert laid(Embeddings("m", ("a",)), {"dimensions": 8}) == Embeddings("m", ("a",), 8)


def test_a_parameter_of_the_wrong_type_is_told():
    with pytest.raises(RequestError, match="temperature must be a number"):
        laid(Conversation("m", HI), {"temperature": "hot"})
