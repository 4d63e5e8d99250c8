"""A configuration as it is shown, and the difference between two: all of it, and never a secret."""

from __future__ import annotations

import dataclasses
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.config.fields import fields_of
from ghostllm.config.fixed import pinned
from ghostllm.config.load import build
from ghostllm.config.schema import Config, KeyConfig
from ghostllm.config.shown import STARS, changes, shown

HASH = "sha256:" + "ab" * 32
SECRETS = st.text("abcdefgh0123456789", min_size=20, max_size=30).map("whisper-{}".format)


def config(**sections):
    return build(sections, {"A_KEY": "whisper-env"})


def backend(name="b", **more):
    return {"name": name, "url": "http://h:1", **more}


def told(before, after):
    return [(one.path, one.change, one.before, one.after) for one in changes(before, after)]


def test_every_key_is_shown():
    def keys(cls):
        return {
            name: keys(type(field.default)) if dataclasses.is_dataclass(type(field.default)) else None
            for name, field in fields_of(cls).items()
        }

    def shape(value, like):
        return {name: shape(value[name], like[name]) if like[name] else None for name in value}

    whole = shown(Config())
    assert shape(whole, keys(Config)) == keys(Config)
    assert json.loads(json.dumps(whole)) == whole


def test_what_is_hidden_and_what_is_not():
    one = config(
        backends=[backend(api_key="env:A_KEY", headers={"x-token": "whisper-header"})],
        keys=[{"name": "lit", "key": "whisper-literal"}, {"name": "hashed", "hash": HASH}],
        models=[{"name": "m", "targets": [{"backend": "b"}], "forced": {"seed": 7}}],
    )
    whole = shown(one)
    assert whole["backends"][0]["api_key"] == "env:A_KEY"
    assert whole["backends"][0]["headers"] == {"x-token": STARS}
    assert [key["key"] for key in whole["keys"]] == [STARS, None]
    assert [key["hash"] for key in whole["keys"]] == ["", STARS]
    assert whole["models"][0]["forced"] == {"seed": 7}
    assert "whisper" not in json.dumps(whole) and HASH not in json.dumps(whole)
    assert shown(KeyConfig(name="k", hash=HASH), defaults=False) == {"name": "k", "hash": STARS}


def test_changes_of_all_kinds():
    before = config(
        backends=[backend("a"), backend("b", weight=2, timeouts={"head": 3})],
        log={"level": "info"},
        models=[{"name": "m", "targets": [{"backend": "a"}]}],
    )
    after = config(
        backends=[backend("b", weight=3.5, timeouts={"head": 4}), backend("c")],
        log={"level": "debug"},
        models=[{"name": "m", "targets": [{"backend": "b"}]}],
    )
    assert told(before, before) == []
    assert told(before, after) == [
        ("log.level", "changed", "info", "debug"),
        ("backends.a", "removed", {"name": "a", "url": "http://h:1"}, None),
        ("backends.b.weight", "changed", 2.0, 3.5),
        ("backends.b.timeouts.head", "changed", 3.0, 4.0),
        ("backends.c", "added", None, {"name": "c", "url": "http://h:1"}),
        ("models.m.targets", "changed", [{"backend": "a", "model": "", "weight": 1.0, "context": None}],
         [{"backend": "b", "model": "", "weight": 1.0, "context": None}]),
    ]  # fmt: skip


def test_an_order_is_a_change():
    one, other = ([backend(name) for name in names] for names in ("ab", "ba"))
    assert told(config(backends=one), config(backends=other)) == [
        ("backends", "changed", "order: a, b", "order: b, a")
    ]


def test_names_that_are_no_words_are_quoted():
    change = changes(config(), config(backends=[backend("a.b:1")]))[0]
    assert change.path == 'backends."a.b:1"'


@settings(deadline=None)  # the first one looks at the whole schema
@given(SECRETS, SECRETS)
def test_no_change_tells_a_secret(one, other):
    def with_secret(text):
        return config(
            backends=[backend(api_key=text, headers={"x": text})], keys=[{"name": "k", "key": text}]
        )

    before, after = with_secret(one), with_secret(other)
    found = changes(before, after)
    paths = [change.path for change in found]
    expected = ["backends.b.api_key", "backends.b.headers", "keys.k.key"] if one != other else []
    assert paths == expected
    everything = json.dumps([[change.told() for change in found], shown(before), shown(after)])
    everything += json.dumps([change.told() for change in changes(config(), after)])
    assert one not in everything and other not in everything
    assert all("another value" in str(change.after) for change in found)


def test_what_cannot_change_keeps_its_value():
    old = config(state={"file": "/var/a.db"}, log={"level": "info"})
    new = config(state={"file": "/var/b.db", "responses": 5}, log={"level": "debug"})
    kept, waiting = pinned(old, new)
    assert (kept.state.file, kept.state.responses, kept.log.level) == ("/var/a.db", 5.0, "debug")
    assert [(one.path, one.after) for one in waiting] == [("state.file", "/var/b.db")]
    assert pinned(old, old) == (old, [])
    kept, waiting = pinned(old, config(state={"file": "/var/a.db", "key_secret": "s" * 32}))
    assert kept.state.key_secret is None and [one.path for one in waiting] == ["state.key_secret"]
