"""The models in Ollama's shapes: a server's own words, or the same members made of what is known."""

from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.api.ollama import listing
from ghostllm.errors import UpstreamProtocolError
from ghostllm.jsonx import loads
from ghostllm.ports import ModelInfo

# As Ollama 0.17.4 sent it.
TAGS = (
    b'{"models":[{"name":"smollm2:latest","model":"smollm2:latest","modified_at":"2026-11-23T03:25:50.633Z",'
    b'"size":98363164,"digest":"7a5787714def5c5be01a63e0253522e25f1d2a63ddd93f4b589b985a212ae245",'
    b'"details":{"parent_model":"","format":"gguf","family":"llama","families":["llama"],'
    b'"parameter_size":"134.52M","quantization_level":"Q4_1"}}]}'
)
OWN = loads(TAGS)["models"][0]
MEMBERS = {"name", "model", "modified_at", "size", "digest", "details"}


def tags(*entries):
    return loads(listing.render_tags(entries))["models"]


def test_what_ollama_said_is_shown_under_the_name_that_clients_use():
    (entry,) = tags(("alias", ModelInfo("smollm2:latest", details=OWN)))
    assert entry == {**OWN, "name": "alias", "model": "alias"}
    assert list(entry)[:2] == ["name", "model"]


def test_a_model_of_another_server_has_the_same_members():
    info = ModelInfo("llama", 1_700_000_000, "vllm", 8192, frozenset(("chat", "completions", "tools")))
    (entry,) = tags(("llama", info))
    assert set(entry) == MEMBERS | {"capabilities"}
    assert set(entry["details"]) == set(OWN["details"])
    assert {name: type(value) for name, value in entry["details"].items()} == {
        name: type(value) for name, value in OWN["details"].items()
    }
    assert (entry["name"], entry["model"], entry["size"]) == ("llama", "llama", 0)
    assert entry["modified_at"] == "2023-11-14T22:13:20Z"
    assert entry["capabilities"] == ["completion", "tools"]


def test_a_time_that_nobody_knows_is_gos_zero():
    for info in (None, ModelInfo("m")):
        (entry,) = tags(("m", info))
        assert entry["modified_at"] == "0001-01-01T00:00:00Z"


def test_digests_are_long_enough_and_differ_by_name():
    first, second, again = (tags((name, None))[0]["digest"] for name in ("a", "b", "a"))
    assert first == again != second and len(first) == 64


@pytest.mark.parametrize(
    ("known", "shown"),
    [
        ((), ["completion"]),
        (("chat",), ["completion"]),
        (("embeddings",), ["embedding"]),
        (("chat", "vision", "tools"), ["completion", "tools", "vision"]),
    ],
)
def test_capabilities_have_ollamas_names(known, shown):
    (entry,) = tags(("m", ModelInfo("m", capabilities=frozenset(known))))
    assert entry["capabilities"] == shown


def test_no_models_is_an_empty_list():
    assert listing.render_tags([]) == listing.render_ps([]) == b'{"models":[]}'


def test_a_model_is_shown_with_its_context():
    shown = loads(
        listing.render_show("m", ModelInfo("m", 0, context=8192, capabilities=frozenset(("chat",))))
    )
    architecture = shown["model_info"]["general.architecture"]
    assert shown["model_info"][f"{architecture}.context_length"] == 8192
    assert shown["capabilities"] == ["completion"]
    assert shown["modified_at"] == "1970-01-01T00:00:00Z"
    for name in ("template", "parameters", "modelfile"):
        assert shown[name] == ""


def test_an_unknown_context_is_not_shown():
    shown = loads(listing.render_show("m", None))
    assert [name for name in shown["model_info"] if "context" in name] == []


def test_the_loaded_models():
    own = {"name": "x", "model": "x", "size": 5, "expires_at": "2026-11-23T03:31:28.8Z", "size_vram": 0}
    body = listing.render_ps([("alias", None, own), ("llama", ModelInfo("llama", context=9), None)])
    mine, other = loads(body)["models"]
    assert mine == {**own, "name": "alias", "model": "alias"}
    assert (other["name"], other["context_length"], other["size_vram"]) == ("llama", 9, 0)
    assert datetime.datetime.fromisoformat(other["expires_at"]).year == 9999


def test_the_version_and_the_root():
    assert listing.render_version() == b'{"version":"%b"}' % listing.VERSION.encode()
    assert listing.ROOT == b"Ollama is running"


def test_a_servers_entries_are_found_by_its_names():
    assert listing.read_entries(TAGS, "box") == {"smollm2:latest": OWN}
    assert listing.read_entries(b'{"models":[{"name":"old"}]}', "box") == {"old": {"name": "old"}}
    assert listing.read_entries(b'{"models":null}', "box") == {}


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"models":3}', b'{"models":[3]}', b'{"models":[{}]}'])
def test_a_list_that_is_none_is_a_protocol_error(body):
    with pytest.raises(UpstreamProtocolError, match="box"):
        listing.read_entries(body, "box")


@given(st.binary(max_size=40) | st.text(max_size=30).map(str.encode))
def test_nothing_but_errors_of_ours_for_anything(body):
    try:
        listing.read_entries(body, "box")
    except UpstreamProtocolError as error:
        assert "box" in error.message


@given(st.text(max_size=20), st.none() | st.integers())
def test_any_name_and_time_can_be_listed(name, created):
    (entry,) = tags((name, ModelInfo(name, created)))
    assert entry["name"] == name
    assert datetime.datetime.fromisoformat(entry["modified_at"]).tzinfo is not None
