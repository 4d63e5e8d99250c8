"""What one model says of others: each is there, none is itself, and nothing contradicts."""

from __future__ import annotations

import pytest

from ghostllm.config.load import build
from ghostllm.config.sources import parse_text
from ghostllm.errors import ConfigError

BACKEND = '[[backends]]\nname = "b"\nurl = "http://b"\n'


def text(*models, backend=BACKEND):
    """models: name, then lines of its entry."""
    parts = [backend]
    for name, *lines in models:
        parts.append(f'[[models]]\nname = "{name}"\ntargets = [{{backend = "b"}}]\n')
        parts += [line + "\n" for line in lines]
    return "".join(parts)


def sound(*models):
    return build(parse_text(text(*models), "c.toml"), {})


def problems(*models):
    """Without their places in the file."""
    with pytest.raises(ConfigError) as caught:
        sound(*models)
    return [problem.split(": ", 1)[1] for problem in caught.value.problems]


KEYS = (
    "fallback.context",
    "fallback.content",
    "fallback.unavailable",
    "split.canary.model",
    "split.shadow.model",
)


@pytest.mark.parametrize("key", KEYS)
def test_a_model_that_is_named_has_to_be_there(key):
    [problem] = problems(("small", f'{key} = "lage"'), ("large",))
    assert problem == f'models[0].{key}: no model is called "lage"; did you mean "large"?'


@pytest.mark.parametrize("key", KEYS)
def test_a_model_cannot_stand_in_for_itself(key):
    for name in ("m", "alias"):
        [problem] = problems(("m", 'aliases = ["alias"]', f'{key} = "{name}"'), ("n",))
        assert problem == f"models[0].{key}: is this model itself"


@pytest.mark.parametrize("key", KEYS)
def test_aliases_and_wildcards_and_later_models_are_there(key):
    for name in ("later", "alias", "gpt-4"):
        config = sound(("m", f'{key} = "{name}"'), ("later", 'aliases = ["alias"]'), ("gpt-*",))
        assert config.models[0].name == "m"


def test_the_place_of_a_mistake_is_told():
    with pytest.raises(ConfigError) as caught:
        sound(("m", "[models.fallback]", 'content = "x"'), ("other",))
    assert caught.value.problems == ['c.toml:8: models[0].fallback.content: no model is called "x"']


def test_models_may_stand_in_for_each_other():
    sound(("a", 'fallback.unavailable = "b"'), ("b", 'fallback.unavailable = "a"'))


def arms(*pairs):
    listed = ", ".join(f'{{model = "{name}", weight = {weight}}}' for name, weight in pairs)
    return f"split.arms = [{listed}]"


def test_arms_are_models_and_may_be_the_model_itself():
    config = sound(("m", arms(("m", 3), ("n", 1))), ("n",))
    assert [arm.model for arm in config.models[0].split.arms] == ["m", "n"]
    [problem] = problems(("m", arms(("m", 3), ("x", 1))))
    assert problem == 'models[0].split.arms[1].model: no model is called "x"'


def test_some_arm_has_a_weight():
    [problem] = problems(("m", arms(("m", 0), ("n", 0))), ("n",))
    assert problem == "models[0].split.arms: needs a weight above 0"
    sound(("m", arms(("m", 0), ("n", 0.5))), ("n",))


def test_arms_and_a_canary_contradict():
    [problem] = problems(("m", arms(("n", 1)), 'split.canary.model = "n"'), ("n",))
    assert problem == "models[0].split.arms: cannot be set beside a canary: one of them decides"
    sound(("m", arms(("n", 1)), 'split.shadow.model = "n"'), ("n",))


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ("[0.5, 0.1]", "must rise"),
        ("[]", "needs at least one share"),
        ("[0.1, 0.5, 0.4]", "must rise"),
        ("[0.5, 1.5]", None),
    ],
)
def test_the_steps_of_a_canary_rise(steps, problem):
    [found] = problems(("m", 'split.canary.model = "n"', f"split.canary.steps = {steps}"), ("n",))
    assert found.startswith("models[0].split.canary.steps")
    assert problem is None or found == f"models[0].split.canary.steps: {problem}"


def test_steps_without_a_canary_are_nobody_s():
    sound(("m", "split.canary.steps = [0.5, 0.1]"))


def test_a_wildcard_is_one_star_in_a_name():
    assert sound(("gpt-*",), ("*",), ("m",)).models[0].name == "gpt-*"
    [problem] = problems(("g*t*",))
    assert problem == 'models[0].name: may hold one "*" at the most'
    [problem] = problems(("gpt-*",), ("m", 'aliases = ["gpt-*"]'))
    assert problem == 'models[1].aliases: "gpt-*" is a name or alias of model "gpt-*" already'


def test_a_target_s_star_stands_for_that_of_the_name():
    def one(name, target):
        return build(
            {
                "backends": [{"name": "b", "url": "http://b"}],
                "models": [{"name": name, "targets": [{"backend": "b", "model": target}]}],
            },
            {},
        )

    assert one("gpt-*", "azure-*").models[0].targets[0].model == "azure-*"
    assert one("gpt-*", "one").models[0].targets[0].model == "one"
    with pytest.raises(ConfigError, match="which has none"):
        one("gpt-4", "azure-*")


def test_every_mistake_is_told_at_once():
    found = problems(
        ("m", 'fallback.context = "x"', 'split.shadow.model = "y"', "split.canary.steps = []"),
        ("n", 'fallback.content = "n"', 'split.canary.model = "z"', "split.canary.steps = []"),
    )
    assert [problem.split(": ")[0] for problem in found] == [
        "models[0].fallback.context",
        "models[0].split.shadow.model",
        "models[1].fallback.content",
        "models[1].split.canary.model",
        "models[1].split.canary.steps",
    ]
