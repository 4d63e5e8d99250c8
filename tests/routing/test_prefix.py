"""Block hashes of prompts, and the index of who holds which."""

import string

from hypothesis import given
from hypothesis import strategies as st

from ghostllm.routing.prefix import BLOCK, PrefixIndex, chain, rendered


def index(**capacities):
    result = PrefixIndex()
    for name, capacity in capacities.items():
        result.resize(name, capacity)
    return result


@given(prompt=st.binary(max_size=4 * BLOCK), more=st.binary(max_size=2 * BLOCK), at=st.integers(0, 4 * BLOCK))
def test_a_longer_prompt_begins_with_the_hashes_of_the_shorter_one(prompt, more, at):
    short = chain(prompt, "m")
    assert len(short) == len(prompt) // BLOCK
    assert chain(prompt + more, "m")[: len(short)] == short
    if at < len(short) * BLOCK:
        changed = bytearray(prompt)
        changed[at] ^= 1
        assert chain(bytes(changed), "m")[: at // BLOCK] == short[: at // BLOCK]
        assert not set(chain(bytes(changed), "m")[at // BLOCK :]) & set(short)


def test_nothing_is_shared_across_models_adapters_and_tenants():
    prompt = bytes(8 * BLOCK)
    chains = [
        chain(prompt, *salt) for salt in (("m",), ("m", "a"), ("m", "a", "t1"), ("m", "a", "t2"), ("ma",))
    ]
    assert len({block for blocks in chains for block in blocks}) == 8 * len(chains)


def test_the_whole_request_is_rendered_and_grows_with_the_conversation():
    tools = [{"type": "function", "function": {"name": "f"}}]
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    first = rendered({"tools": tools, "messages": turns})
    second = rendered({"tools": tools, "messages": [*turns, {"role": "assistant", "content": "a"}]})
    assert second.startswith(first) and len(second) > len(first)
    assert rendered({"messages": turns}) != first
    assert rendered({"prompt": "once upon"}) == b"once upon"
    assert rendered({"instructions": "i", "input": "x"}).endswith(b"\nx")
    assert rendered({"temperature": 1}) == b""


def test_a_cache_marker_that_moves_on_changes_nothing_before_it():
    block = {"type": "text", "text": "t"}
    marked = block | {"cache_control": {"type": "ephemeral"}}
    before = rendered({"messages": [{"role": "user", "content": [marked]}]})
    after = rendered(
        {"messages": [{"role": "user", "content": [block]}, {"role": "user", "content": [marked]}]}
    )
    assert after.startswith(before)
    quoted = 'say ,"cache_control":{"x"}'
    assert b"cache_control" in rendered({"messages": [{"role": "user", "content": quoted}]})


def test_only_an_unbroken_beginning_counts():
    both = index(a=100, b=100)
    both.insert("a", [1, 2, 3, 4])
    both.insert("b", [1, 2])
    assert both.match([1, 2, 3, 4, 5]) == {"a": 4, "b": 2}
    assert both.match([9, 1, 2]) == {"a": 0, "b": 0}
    assert both.match([]) == {"a": 0, "b": 0}


def test_tails_are_evicted_before_heads():
    small = index(a=4)
    small.insert("a", [1, 2, 3, 4])
    small.insert("a", [1, 2, 5])
    assert small.match([1, 2, 3, 4])["a"] == 3  # 4 went
    small.insert("a", list(range(10, 20)))  # longer than the cache: its beginning stays
    assert small.match(list(range(10, 20)))["a"] == 4


def test_what_was_never_accepted_is_taken_back():
    small = index(a=4)
    small.insert("a", [1, 2, 3])
    change = small.insert("a", [1, 7, 8, 9])
    small.undo("a", change)
    assert small.match([1, 2, 3])["a"] == 3 and small.match([1, 7])["a"] == 1


def test_a_backend_comes_and_goes():
    some = index(a=10, b=10)
    some.insert("a", [1, 2])
    some.insert("b", [1, 2])
    some.forget("a")
    assert some.match([1, 2]) == {"a": 0, "b": 2}
    some.drop("a")
    some.resize("c", 10)  # takes a's place in the masks and none of its blocks
    assert some.match([1, 2]) == {"b": 2, "c": 0}
    assert some.insert("nobody", [1]).added == ()


names = st.sampled_from(string.ascii_lowercase[:4])
chains = st.lists(st.integers(0, 30), max_size=12, unique=True)
steps = st.one_of(
    st.tuples(st.just("insert"), names, chains),
    st.tuples(st.just("fail"), names, chains),
    st.tuples(st.just("forget"), names, st.none()),
    st.tuples(st.just("drop"), names, st.none()),
    st.tuples(st.just("resize"), names, st.integers(0, 15)),
)


@given(st.lists(steps, max_size=40), chains)
def test_masks_and_orders_agree_and_nothing_outgrows_its_capacity(actions, probe):
    tested, capacity = PrefixIndex(), {}
    for action, name, value in actions:
        if action == "insert":
            tested.insert(name, value)
        elif action == "fail":
            before = tested.blocks(name)
            tested.undo(name, tested.insert(name, value))
            assert sorted(tested.blocks(name)) == sorted(before)
        elif action == "resize":
            tested.resize(name, value)
            capacity[name] = value
        else:
            getattr(tested, action)(name)
            if action == "drop":
                capacity.pop(name, None)
        assert all(len(tested.blocks(name)) <= limit for name, limit in capacity.items())
        slow = {}
        for backend in capacity:
            held = set(tested.blocks(backend))
            slow[backend] = next((at for at, block in enumerate(probe) if block not in held), len(probe))
        assert tested.match(probe) == slow
