"""Whatever comes in: a Config or a ConfigError, nothing else; and what a Config says round-trips."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import yaml
from hypothesis import given
from hypothesis import strategies as st

from ghostllm.config.fields import env_names, fields_of
from ghostllm.config.kinds import Secret
from ghostllm.config.load import build, load
from ghostllm.config.schema import BackendConfig, Config, KeyConfig, ModelConfig
from ghostllm.config.sources import parse_text
from ghostllm.config.traffic import TargetConfig
from ghostllm.config.tree import located, merged
from ghostllm.errors import ConfigError

WORDS = sorted(
    {name for cls in (Config, BackendConfig, ModelConfig, TargetConfig, KeyConfig) for name in fields_of(cls)}
    | {"limits", "cors", "body_bytes", "origins", "connect", "profile", "x", ""}
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.binary(max_size=3)
    | st.sampled_from(
        ["env:X", "env:", "file:", "file:/", "http://a", "127.0.0.1:1", "gguf", "a", "sha256:0"]
    )
)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(WORDS) | st.integers() | st.text(max_size=3), inner, max_size=5)
    ),
    max_leaves=25,
)
CONFIGURATIONS = st.fixed_dictionaries({}, optional={name: TREES for name in fields_of(Config)})


@given(CONFIGURATIONS | TREES)
def test_anything_is_taken_or_refused_in_words(data):
    try:
        config = build(data, {"X": "value"})
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem and problem == str(problem).strip()
            problem.encode()
    else:
        assert isinstance(config, Config)
        json.dumps([dict(model.forced) for model in config.models], allow_nan=False)


@given(st.dictionaries(st.sampled_from(WORDS), TREES), st.dictionaries(st.sampled_from(WORDS), TREES))
def test_merging_never_crashes_and_changes_neither(base, over):
    one, two = located(base, {}), located(over, {})
    before = repr((one, two))
    merged(one, two)
    assert repr((one, two)) == before


@given(st.text(alphabet="abserv.[]={}\"'#\n 1,:-", max_size=80), st.booleans())
def test_any_text_as_a_file(text, is_yaml):
    try:
        build(parse_text(text, "c", yaml=is_yaml), {})
    except ConfigError as error:
        assert error.problems


@given(st.sampled_from(sorted(env_names())), st.text(max_size=30))
def test_any_variable_and_set(name, text):
    for given_so in (
        {"environ": {name: text}},
        {"environ": {}, "overrides": [(".".join(env_names()[name]), text)]},
    ):
        try:
            load(**given_so)
        except ConfigError as error:
            assert all(name in line or "--set" in line for line in error.problems)


@given(st.text(max_size=30), st.text(max_size=10))
def test_any_set_key(key, value):
    try:
        load(environ={}, overrides=[(key, value)])
    except ConfigError as error:
        assert error.problems


NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=6)
SECONDS = st.floats(0, 1e6)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=4), inner, max_size=3
        )
    ),
    max_leaves=6,
)
PARAMETERS = st.dictionaries(NAMES.filter(lambda name: name not in ("model", "stream")), JSON, max_size=3)


@st.composite
def sound_trees(draw):
    names = draw(st.lists(NAMES, unique=True, max_size=3))
    backends = [
        {
            "name": name,
            "url": draw(st.sampled_from(["http://a", "https://b.example/v1", "http://[::1]:1"])),
            "kind": draw(st.sampled_from(["ollama", "openai", "vllm", "auto"])),
            "weight": draw(SECONDS),
            "headers": draw(st.dictionaries(NAMES, st.just("v"), max_size=2)),
            "timeouts": draw(st.dictionaries(st.sampled_from(["connect", "idle"]), SECONDS)),
        }
        for name in names
    ]
    models = [
        {
            "name": f"m{index}",
            "aliases": [f"alias{index}"],
            "defaults": draw(PARAMETERS),
            "forced": draw(PARAMETERS),
            "targets": [{"backend": name} for name in names],
        }
        for index in range(draw(st.integers(0, 2)) if names else 0)
    ]
    keys = [
        {"name": name, "key": f"k{index}"}
        for index, name in enumerate(draw(st.lists(NAMES, unique=True, max_size=2)))
    ]
    tree = {"backends": backends, "models": models, "keys": keys}
    tree["server"] = {"limits": {"head_bytes": draw(st.integers(1, 2**40))}, "insecure": draw(st.booleans())}
    tree["routing"] = {"backoff": draw(SECONDS), "balance": draw(st.sampled_from(["weighted", "failover"]))}
    return tree


def plain(value):
    """The settings behind a Config: what one would write into a file to get it."""
    if isinstance(value, Secret):
        return value.reveal()
    if dataclasses.is_dataclass(value):
        pairs = {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        gguf = {"path", "context", "parallel", "threads", "gpu_layers", "start", "load_timeout"}
        skip = (
            gguf if isinstance(value, BackendConfig) else {"hash"} if isinstance(value, KeyConfig) else set()
        )
        return {key: item for key, item in pairs.items() if key not in skip}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, (tuple, list)) else value


@given(sound_trees())
def test_sound_settings_are_taken_and_round_trip(tree):
    config = build(tree, {})
    assert [backend.name for backend in config.backends] == [backend["name"] for backend in tree["backends"]]
    assert [dict(model.forced) for model in config.models] == [model["forced"] for model in tree["models"]]
    assert build(plain(config), {}) == config


@given(sound_trees())
def test_yaml_carries_the_same(tree):
    """The same settings through YAML text, its parser and the loader."""
    assert build(parse_text(yaml.safe_dump(tree), "c.yaml", yaml=True), {}) == build(tree, {})
