"""Models from the configuration and from what backends say."""

from ghostllm.config.schema import BackendConfig, Config, ModelConfig, Routing, TargetConfig
from ghostllm.message import Identity
from ghostllm.ports import ModelInfo
from ghostllm.routing.catalog import Target, build

ONE = BackendConfig(name="one", url="http://127.0.0.1:1", weight=2.0)
TWO = BackendConfig(name="two", url="http://127.0.0.1:2")


def test_without_models_configured_same_names_are_pooled():
    catalog = build(
        Config(backends=(ONE, TWO), routing=Routing(balance="weighted")),
        {"one": [ModelInfo("m", created=5, owner="x"), ModelInfo("only-one")], "two": [ModelInfo("m")]},
    )
    assert set(catalog.models) == {"m", "only-one"}
    pooled = catalog.models["m"]
    assert pooled.targets == (Target("one", "m", 2.0), Target("two", "m", 1.0))
    assert pooled.balance == "weighted"
    assert pooled.info.created == 5


def test_configured_models_alone_are_served():
    model = ModelConfig(
        name="chat",
        aliases=("gpt-4o",),
        targets=(TargetConfig(backend="one", model="m:7b"), TargetConfig(backend="two")),
        balance="round_robin",
    )
    catalog = build(Config(backends=(ONE, TWO), models=(model,)), {"one": [ModelInfo("m:7b", owner="me")]})
    assert set(catalog.models) == {"chat"}
    assert catalog.find("gpt-4o").name == "chat"
    assert catalog.models["chat"].targets == (Target("one", "m:7b"), Target("two", "chat"))
    assert catalog.models["chat"].info.owner == "me"
    assert catalog.find("m:7b") is None


def test_latest_may_be_said_or_not():
    catalog = build(Config(backends=(ONE,)), {"one": [ModelInfo("llama3:latest"), ModelInfo("plain")]})
    assert catalog.find("llama3").name == "llama3:latest"
    assert catalog.find("plain:latest").name == "plain"
    assert catalog.find("other") is None


def test_defaults_fill_and_forced_replace():
    model = ModelConfig(
        name="m",
        targets=(TargetConfig(backend="one"),),
        defaults={"temperature": 0.2, "top_p": 0.9},
        forced={"seed": 1},
    )
    found = build(Config(backends=(ONE,), models=(model,)), {}).find("m")
    assert found.parameters.over({"temperature": 1, "seed": 7}) == {"top_p": 0.9, "seed": 1}


def test_a_key_sees_the_models_its_patterns_allow():
    catalog = build(Config(backends=(ONE,)), {"one": [ModelInfo("qwen-7b"), ModelInfo("llama-8b")]})
    assert [model.name for model in catalog.visible(Identity("k", ("qwen*",)))] == ["qwen-7b"]
    assert len(catalog.visible(Identity("k"))) == 2
