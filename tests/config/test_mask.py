"""Secrets in text: those of the configuration wherever they stand, those of clients by their form."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.config.fields import fields_of, is_section, unwrapped
from ghostllm.config.kinds import Secret
from ghostllm.config.load import load
from ghostllm.config.mask import SHORTEST, STARS, Mask, secrets_of
from ghostllm.config.schema import BackendConfig, Config, KeyConfig
from ghostllm.errors import GhostError

KEY = "canary-4711"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (f"Incorrect API key provided: {KEY}.", "Incorrect API key provided: ***."),
        (f"{KEY}{KEY}", "******"),
        ("authorization: Bearer abcdefghij", "authorization: Bearer ***"),
        ("Authorization: abcdefghij", "Authorization: ***"),
        ("{b'authorization': b'Bearer foobarbaz1', b'x': 1}", "{b'authorization': b'Bearer ***', b'x': 1}"),
        ("{'x-api-key': 'abcd1234'}", "{'x-api-key': '***'}"),
        ("GET /v1?key=abcd&model=m", "GET /v1?key=***&model=m"),
        ("gk_abcdefghijklmnop is unknown", "gk_*** is unknown"),
        ("sk-proj-abcdefghijklmnop", "sk-***"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln", "***"),
    ],
)  # fmt: skip
def test_what_is_hidden(said, told):
    assert Mask([KEY]).text(said) == told
    assert Mask([KEY]).text(told) == told


@pytest.mark.parametrize(
    "said",
    ["", "the api-key is wrong", "backends[0].api_key: environment variable X is not set", "a bearer of news",
     "model gk_small", "max_tokens: 5", "sk-no-key-required"[:11], "https://a.example/?model=key"],
)  # fmt: skip
def test_what_stays(said):
    assert Mask([KEY]).text(said) == said


def test_a_secret_that_holds_another_is_hidden_whole():
    assert Mask(["secret-one", "secret-one-and-two"]).text("secret-one-and-two") == STARS


def test_words_that_stand_where_a_key_must_are_not_hidden_everywhere():
    assert Mask(["ollama", "x" * (SHORTEST - 1)]).text("kind=ollama") == "kind=ollama"


def test_values_are_masked_at_any_depth():
    told = Mask([KEY]).value({"a": [KEY, 1, None, {KEY: f"x {KEY}"}], "b": True})
    assert told == {"a": [STARS, 1, None, {STARS: f"x {STARS}"}], "b": True}


def test_an_error_says_it_neither_as_text_nor_as_message():
    error = GhostError(f"no {KEY}")
    Mask([KEY]).error(error)
    assert str(error) == error.message == "no ***"


@given(st.text(min_size=SHORTEST, max_size=40), st.text(max_size=30), st.text(max_size=30))
def test_no_secret_survives_whatever_stands_around_it(secret, before, after):
    text = before + secret + after
    masked = Mask([secret]).text(text)
    assert secret not in masked or secret in STARS or secret in text.replace(secret, STARS)


@given(st.text(max_size=200))
def test_text_without_secrets_of_a_known_form_is_quick_and_total(text):
    assert isinstance(Mask().text(text), str)


def test_every_secret_of_a_configuration_is_known(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("""
        [[backends]]
        name = "b"
        url = "http://b"
        api_key = "env:B_KEY"
        headers = {"x-auth" = "header-secret", "user-agent" = "ghostllm/1"}
        [[keys]]
        name = "k"
        key = "client-key-1"
        [[discovery.dns]]
        name = "d"
        host = "d.example"
        api_key = "dns-secret-1"
    """)
    config = load(str(path), environ={"B_KEY": "backend-secret"})
    found = {"backend-secret", "header-secret", "client-key-1", "dns-secret-1"}
    assert set(secrets_of(config)) == found
    assert set(secrets_of([config.backends[0]])) == {"backend-secret", "header-secret"}


def test_whatever_the_schema_calls_a_secret_is_found():
    """A field of that kind in a section that `secrets_of` would not reach fails here."""

    def kinds(kind):
        inner, _ = unwrapped(kind)
        if inner is Secret:
            return True
        return any(kinds(each) for each in getattr(inner, "__args__", ()) if each is not ...)

    def sections(cls):
        yield cls
        for field in fields_of(cls).values():
            stack = [unwrapped(field.type)[0]]
            while stack:
                kind = stack.pop()
                if is_section(kind) and kind is not Secret:
                    yield from sections(kind)
                stack += [unwrapped(each)[0] for each in getattr(kind, "__args__", ()) if each is not ...]

    holders = {cls for cls in sections(Config) if any(kinds(field.type) for field in fields_of(cls).values())}
    assert {BackendConfig, KeyConfig} <= holders
    for cls in holders:
        blank = object.__new__(cls)
        for name, field in fields_of(cls).items():
            object.__setattr__(blank, name, Secret("canary") if kinds(field.type) else {})
        assert "canary" in set(secrets_of(blank)), cls
