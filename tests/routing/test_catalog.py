"""Models from the configuration and from what backends say."""

from hypothesis import given
from hypothesis import strategies as st

from ghostllm.config.schema import BackendConfig, Config, ModelConfig
from ghostllm.config.traffic import Routing, TargetConfig
from ghostllm.message import Identity
from ghostllm.ports import ModelInfo
from ghostllm.routing.catalog import MOST_NAMES, Model, Target, build

ONE = BackendConfig(name="one", url="http://127.0.0.1:1", weight=2.0)
TWO = BackendConfig(name="two", url="http://127.0.0.1:2")


def test_without_models_configured_same_names_are_pooled():
    catalog = build(
        Config(routing=Routing(balance="weighted")),
        [ONE, TWO],
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
    catalog = build(Config(models=(model,)), [ONE, TWO], {"one": [ModelInfo("m:7b", owner="me")]})
    assert set(catalog.models) == {"chat"}
    assert catalog.find("gpt-4o").name == "chat"
    assert catalog.models["chat"].targets == (Target("one", "m:7b"), Target("two", "chat"))
    assert catalog.models["chat"].info.owner == "me"
    assert catalog.find("m:7b") is None


def test_latest_may_be_said_or_not():
    catalog = build(Config(), [ONE], {"one": [ModelInfo("llama3:latest"), ModelInfo("plain")]})
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
    found = build(Config(models=(model,)), [ONE], {}).find("m")
    assert found.parameters.over({"temperature": 1, "seed": 7}) == {"top_p": 0.9, "seed": 1}


def test_a_key_sees_the_models_its_patterns_allow():
    catalog = build(Config(), [ONE], {"one": [ModelInfo("qwen-7b"), ModelInfo("llama-8b")]})
    assert [model.name for model in catalog.visible(Identity("k", ("qwen*",)))] == ["qwen-7b"]
    assert len(catalog.visible(Identity("k"))) == 2


def test_a_pattern_stands_for_the_backends_that_match_now():
    model = ModelConfig(
        name="m", targets=(TargetConfig(backend="gpu*", weight=3.0), TargetConfig(backend="?wo", model="x"))
    )
    fleet = [
        TWO,
        BackendConfig(name="gpu-2", url="http://h", weight=0.5),
        BackendConfig(name="gpu", url="http://h"),
    ]
    assert build(Config(models=(model,)), fleet, {}).models["m"].targets == (
        Target("gpu-2", "m", 1.5),
        Target("gpu", "m", 3.0),
        Target("two", "x"),
    )
    assert build(Config(models=(model,)), [ONE], {}).models["m"].targets == ()


def test_brackets_in_a_pattern_are_plain_text():
    model = ModelConfig(name="m", targets=(TargetConfig(backend="x[1]*"),))
    fleet = [BackendConfig(name=name, url="http://h") for name in ("x[1]", "x[1]-a", "x1")]
    targets = build(Config(models=(model,)), fleet, {}).models["m"].targets
    assert [target.backend for target in targets] == ["x[1]", "x[1]-a"]


def test_a_backend_named_and_matched_is_one_target_and_one_not_there_none():
    model = ModelConfig(
        name="m",
        targets=(
            TargetConfig(backend="two", weight=5.0),
            TargetConfig(backend="*"),
            TargetConfig(backend="two", model="other"),
            TargetConfig(backend="yet-to-come"),
        ),
    )
    assert build(Config(models=(model,)), [ONE, TWO], {}).models["m"].targets == (
        Target("two", "m", 5.0),
        Target("one", "m", 2.0),
        Target("two", "other"),
    )


def served(name, *targets, backends=(ONE, TWO), known=None, **more):
    """A catalog with one model of that name."""
    targets = targets or (TargetConfig(backend="one"),)
    return build(Config(models=(ModelConfig(name=name, targets=targets, **more),)), backends, known or {})


def test_a_wildcard_stands_for_any_name_and_the_name_goes_on():
    catalog = served("gpt-*", TargetConfig(backend="one"), TargetConfig(backend="two", model="azure-*-eu"))
    found = catalog.find("gpt-4o")
    assert found.targets == (Target("one", "gpt-4o"), Target("two", "azure-4o-eu"))
    assert (found.name, found.asked) == ("gpt-*", "gpt-4o")
    assert catalog.find("gpt-4o") is found, "remembered"
    assert catalog.find("gpt-5").targets[0].model == "gpt-5"
    for name in ("gpt-", "gpt", "xgpt-4", "GPT-4", ""):
        assert catalog.find(name) is None


def test_a_target_with_a_name_of_its_own_keeps_it():
    [target] = served("gpt-*", TargetConfig(backend="one", model="llama")).find("gpt-4").targets
    assert target.model == "llama"


def test_the_most_exact_name_wins():
    def entry(name, target="*"):
        return ModelConfig(name=name, targets=(TargetConfig(backend="one", model=target),))

    models = (entry("*"), entry("gpt-*"), entry("gpt-4", "four"), entry("gpt-*-mini"))
    catalog = build(Config(models=models), [ONE], {})
    asked = {"gpt-4": "gpt-4", "gpt-4-mini": "gpt-*-mini", "gpt-5": "gpt-*", "qwen": "*"}
    assert {name: catalog.find(name).name for name in asked} == asked


def test_a_wildcard_is_not_listed_and_a_key_s_patterns_are_for_what_was_asked():
    catalog = served("gpt-*")
    assert catalog.visible(Identity("k")) == []
    one = Identity("k", ("gpt-4*",))
    assert catalog.find("gpt-4o").open_to(one, "chat") and not catalog.find("gpt-3").open_to(one, "chat")
    assert catalog.find("gpt-3").open_to(Identity("k"), "chat")


def test_names_that_clients_invent_are_remembered_within_bounds():
    catalog = served("gpt-*")
    for number in range(3 * MOST_NAMES):
        assert catalog.find(f"gpt-{number}").asked == f"gpt-{number}"
    assert len(catalog._called) <= MOST_NAMES
    assert catalog.find("gpt-0").targets == (Target("one", "gpt-0"),)


@given(st.text(max_size=6), st.text(max_size=6), st.text(min_size=1, max_size=6))
def test_what_the_star_stood_for_is_put_in_again(before, after, middle):
    before, after = before.replace("*", ""), after.replace("*", "")
    name = f"{before}*{after}"
    own = Target("one", name), Target("two", "x-*"), Target("two", "y")
    found = Model(name, own, "failover").called(before + middle + after)
    assert [target.model for target in found.targets] == [
        before + middle + after,
        f"x-{middle}" if name != "x-*" else before + middle + after,
        "y" if name != "y" else before + middle + after,
    ]
    assert Model(name, own, "failover").called(before + after) is None
    assert Model("plain", own, "failover").called("plain") is None


def test_contexts_and_capabilities_are_the_backend_s_word_before_the_configuration_s():
    known = {"one": [ModelInfo("m", context=8000, capabilities=frozenset(("chat",)))]}
    two = TargetConfig(backend="two", context=2000)
    catalog = served(
        "m", TargetConfig(backend="one"), two, known=known, context=4000, capabilities=("chat", "tools")
    )
    first, second = catalog.find("m").targets
    assert (first.context, first.capabilities) == (8000, {"chat"})
    assert (second.context, second.capabilities) == (2000, {"chat", "tools"})
    [target] = served("m", context=4000).find("m").targets
    assert (target.context, target.capabilities) == (4000, frozenset())


def test_a_limit_set_for_a_target_wins_over_what_its_backend_says():
    known = {"one": [ModelInfo("m", context=8000)]}
    [target] = served("m", TargetConfig(backend="one", context=3000), known=known).find("m").targets
    assert target.context == 3000


def test_only_a_model_of_whose_targets_something_is_known_is_picky():
    assert not served("m").find("m").picky
    assert served("m", context=10).find("m").picky and served("m", capabilities=("chat",)).find("m").picky
    assert served("m-*", context=10).find("m-1").picky, "what holds for the wildcard holds for the name"


def test_a_model_whose_backends_are_not_there_yet_has_no_targets_and_a_name():
    catalog = served("m", TargetConfig(backend="later"), TargetConfig(backend="gpu-*"), aliases=("n",))
    assert catalog.find("n").targets == () and [one.name for one in catalog.visible(Identity("k"))] == ["m"]
    there = served(
        "m", TargetConfig(backend="later"), backends=(BackendConfig(name="later", url="http://h"),)
    )
    assert there.find("m").targets == (Target("later", "m"),)
