"""Keys that stay where they are."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from ghostllm.routing.catalog import Target
from ghostllm.routing.sticky import conversation, even, order

TARGETS = [Target(name, "m") for name in "abcde"]


@given(st.text(), st.integers(0, 4))
def test_when_a_target_goes_only_its_keys_move(key, gone):
    before = order(key, TARGETS)
    assert sorted(before, key=str) == sorted(TARGETS, key=str)
    rest = [target for target in TARGETS if target != TARGETS[gone]]
    assert order(key, rest) == [target for target in before if target != TARGETS[gone]]
    assert order(key, TARGETS[::-1]) == before


def test_keys_spread_by_weight_and_match_exactly():
    heavy = [Target("a", "m", 3.0), Target("b", "m", 1.0), Target("c", "m", 0.0)]
    firsts = Counter(order(str(key), heavy)[0].backend for key in range(4000))
    assert 0.72 < firsts["a"] / 4000 < 0.78 and firsts["c"] == 0
    assert all(order(str(key), heavy)[-1].backend == "c" for key in range(50))
    assert len({order(f"user-{end}", TARGETS)[0] for end in range(100)}) == 5


@given(st.lists(st.text()))
def test_the_number_is_inside_of_its_bounds_and_parts_do_not_run_together(parts):
    assert 0 < even(*parts) < 1 and even(*parts) == even(*parts)
    assert even("ab", "c") != even("a", "bc")


def test_a_conversation_has_the_same_name_on_every_turn():
    system, hello = {"role": "system", "content": "s"}, {"role": "user", "content": "hello"}
    first = conversation({"messages": [system, hello]})
    later = conversation({"messages": [system, hello, {"role": "assistant", "content": "hi"}, hello]})
    assert first == later != conversation({"messages": [system, {"role": "user", "content": "bye"}]})
    assert conversation({"messages": [hello]}) != conversation({"messages": [hello], "system": "x"})
    assert conversation({"prompt_cache_key": "k", "messages": [hello]}) == "prompt_cache_key:k"
    assert conversation({"conversation": {"id": "c1"}, "input": "x"}) == "conversation:c1"
    assert conversation({"input": "x"}) == conversation({"input": "x"}) != conversation({"input": "y"})
    assert conversation({"messages": ["odd", 1]}) is not None
    assert conversation({}) is conversation({"messages": []}) is conversation({"messages": {}}) is None
