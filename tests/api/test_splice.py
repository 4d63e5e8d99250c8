"""Splicing: what is asked for is changed, everything else keeps its bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ghostllm.api.splice import JOIN_BELOW, edit, find, refuse_duplicate
from ghostllm.errors import RequestError
from ghostllm.jsonx import dumps, loads

NAMES = ("model", "stream", "stream_options", "n", "usage", "a/b", "naïve", 'quo"te', "tab\t", "🙂", "")
keys = st.one_of(st.sampled_from(NAMES), st.text(st.characters(codec="utf-8"), max_size=4))
texts = st.one_of(
    st.sampled_from(['"model":', '\\"model\\":"x"', "\\", '\\"', "model", "{", "}", ",", '{"model":1}']),
    st.text(st.characters(codec="utf-8"), max_size=8),
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(-1e6, 1e6), texts)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(keys, values, max_size=6)
spaces = st.text(" \t\r\n", max_size=2)


def spelled(text, draw):
    """A JSON string, some of its characters as escapes."""
    out = []
    for character in text:
        if draw(st.integers(0, 3)) == 0:
            units = character.encode("utf-16-be").hex()
            units = units.upper() if draw(st.booleans()) else units
            out += [f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)]
        else:
            out.append(json.dumps(character, ensure_ascii=False)[1:-1])
    return '"' + "".join(out) + '"'


def written(value, draw):
    """A JSON text of `value` with arbitrary white space and escapes."""

    def gap():
        return draw(spaces)

    if isinstance(value, dict):
        members = [
            spelled(key, draw) + gap() + ":" + gap() + written(inner, draw) for key, inner in value.items()
        ]
        return "{" + ",".join(gap() + member + gap() for member in members) + gap() + "}"
    if isinstance(value, list):
        return "[" + ",".join(gap() + written(inner, draw) + gap() for inner in value) + "]"
    return spelled(value, draw) if isinstance(value, str) else json.dumps(value)


def joined(body, fields, changes, drop=()):
    return b"".join(edit(body, fields, changes, drop))


@settings(deadline=None)
@given(st.data(), objects, st.dictionaries(keys, values, max_size=3), st.sets(keys, max_size=3))
def test_changed_members_change_and_the_others_keep_their_bytes(data, value, changes, drop):
    members = {}

    def gap():
        return data.draw(spaces)

    for key, inner in value.items():
        text = spelled(key, data.draw) + gap() + ":" + gap() + written(inner, data.draw)
        members[key] = text.encode()
    body = gap().encode() + b"{" + b",".join(members.values()) + gap().encode() + b"}" + gap().encode()
    fields = loads(body)
    drop -= set(changes)
    new = joined(body, fields, changes, drop)
    assert loads(new) == {**{key: inner for key, inner in fields.items() if key not in drop}, **changes}
    for key, text in members.items():
        if key not in changes and key not in drop:
            assert text in new
    if not changes and not drop & set(fields):
        assert new == body


@settings(deadline=None)
@given(st.data(), objects.filter(bool))
def test_a_member_written_twice_is_refused(data, value):
    key = data.draw(st.sampled_from(sorted(value)))
    members = [spelled(name, data.draw) + ":" + written(inner, data.draw) for name, inner in value.items()]
    members.insert(data.draw(st.integers(0, len(members))), spelled(key, data.draw) + ":1")
    body = ("{" + ",".join(members) + "}").encode()
    fields = loads(body)
    with pytest.raises(RequestError) as refused:
        edit(body, fields, {key: "x"})
    assert refused.value.param == key
    with pytest.raises(RequestError):
        edit(body, fields, {}, {key})
    other = next((name for name in value if name != key), None)
    assume(other is not None)
    assert loads(joined(body, fields, {other: "x"}))[other] == "x"


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a","model":"b"}',
        b'{"model":"a","mod\\u0065l":"b"}',
        b'{"\\u006Dodel":"a","m\\u006fdel":"b"}',
        b'{"x":{"model":"c"},"model":"a","\\u006dodel":"b"}',
    ],
)
def test_two_models_are_refused_however_they_are_spelled(body):
    with pytest.raises(RequestError, match="2 members named 'model'"):
        refuse_duplicate(body, loads(body), "model")


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"a"}',
        b'{"tools":[{"properties":{"model":{"type":"string"}}}],"model":"a"}',
        b'{"mod\\u0065l":"a","x":{"model":"model"}}',
        b'{"user":"model","model":"a"}',
        b'{"messages":[{"content":"say \\"model\\": \\"x\\""}],"model":"a"}',
        b'{"messages":[{"content":"caf\\u00e9 \\u003cmodel\\u003e"}],"model":"a"}',
    ],
)
def test_one_model_is_found_wherever_others_are(body):
    fields = loads(body)
    refuse_duplicate(body, fields, "model")
    start, value, end = find(body, fields, "model")
    assert body[value:end] == b'"a"' and body[start : start + 1] == b'"'
    assert loads(joined(body, fields, {"model": "z"})) == {**fields, "model": "z"}


def test_only_the_value_is_replaced_and_new_members_come_first():
    body = b' { "stream" : true ,\n "model" : "a" , "top_p":1.0E0 }'
    new = joined(body, loads(body), {"model": "b", "n": 2})
    assert new == b' {"n":2, "stream" : true ,\n "model" : "b" , "top_p":1.0E0 }'


@pytest.mark.parametrize(
    ("drop", "expected"),
    [
        ("a", b'{ "b":2, "c":3}'),
        ("b", b'{"a":1, "c":3}'),
        ("c", b'{"a":1, "b":2}'),
        ("ab", b'{  "c":3}'),
        ("bc", b'{"a":1}'),
        ("ac", b'{ "b":2}'),
        ("abc", b"{  }"),
    ],
)
def test_a_dropped_member_takes_one_comma_with_it(drop, expected):
    body = b'{"a":1, "b":2, "c":3}'
    assert joined(body, loads(body), {}, set(drop)) == expected
    assert loads(joined(body, loads(body), {"x": 0}, set(drop))) == {"x": 0, **loads(expected)}


def test_an_empty_object_gets_its_first_member():
    assert joined(b"{ }", {}, {"model": "m"}) == b'{"model":"m" }'


def test_a_large_body_is_not_copied():
    image = b"A" * (4 * JOIN_BELOW)
    body = bytearray(
        b'{"model":"a","messages":[{"url":"' + image + b'"}],"stream_options":{"x":[1,{"y":"}"}]}}'
    )
    fields = loads(body)
    buffers = edit(body, fields, {"model": "b", "stream_options": {"include_usage": True}})
    shared = [part for part in buffers if isinstance(part, memoryview)]
    assert all(part.obj is body for part in shared) and sum(map(len, shared)) > len(image)
    new = loads(b"".join(buffers))
    assert new == {**fields, "model": "b", "stream_options": {"include_usage": True}}


@pytest.mark.parametrize("filler", ["é", "🙂", "\\", "x"])
def test_an_object_longer_than_the_window_is_replaced_whole(filler):
    for size in range(4080, 4110):
        body = b'{"o":{"k":' + dumps(filler * size) + b',"z":[]},"model":"a"}'
        assert joined(body, loads(body), {"o": None}) == b'{"o":null,"model":"a"}'


def test_what_only_the_parser_can_read_is_an_error_and_no_crash():
    depth = 1000
    body = b'{"o":' + b"[" * depth + b"]" * depth + b"}"
    try:
        fields = loads(body)
    except ValueError:
        pytest.skip("this parser stops before")
    try:
        assert loads(joined(body, fields, {"o": 1})) == {"o": 1}
    except RequestError as error:
        assert "nested too deeply" in error.message
