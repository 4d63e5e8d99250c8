"""Records of keys as nodes send them: read back as they were, and nothing taken that is not sealed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ghostllm import jsonx
from ghostllm.policy.keyhash import SEAL_BYTES, KeyHash
from ghostllm.policy.sealed import LARGEST, seal, unseal
from ghostllm.state.keys import KeyRecord, KeyTerms

HASHER = KeyHash(b"s" * 32)
TERMS = KeyTerms(roles=("user", "own"), team="red", models=("q*",), limits="small", weight=2.5, priority=-3)
RECORD = KeyRecord(
    id="key_0123456789abcdef", name="ann", digest=bytes(range(32)), mark=HASHER.mark, terms=TERMS,
    made=1_900_000_000.123456, expires=1_900_000_100.0, used=5.0,
)  # fmt: skip
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
TIME = st.floats(0, 1e12)


def sealed(told, hasher=HASHER):
    text = jsonx.dumps(told)
    return hasher.seal(text) + text


def told(**changed):
    return {**jsonx.loads(seal(RECORD, HASHER)[SEAL_BYTES:]), **changed}


@given(
    terms=st.builds(
        KeyTerms, roles=st.lists(TEXT).map(tuple), models=st.lists(TEXT).map(tuple), team=TEXT, limits=TEXT,
        weight=st.floats(0.01, 1e9), priority=st.integers(-(2**53), 2**53),
    ),
    made=TIME, expires=st.none() | TIME, revoked=st.none() | TIME,
)  # fmt: skip
def test_a_record_is_read_back_as_it_was_but_for_its_use(terms, made, expires, revoked):
    record = replace(RECORD, terms=terms, made=made, expires=expires, revoked=revoked)
    assert unseal(seal(record, HASHER), HASHER) == replace(record, used=None)


@given(st.binary(max_size=400))
def test_noise_is_no_record(value):
    with pytest.raises(ValueError, match="not sealed"):
        unseal(value, HASHER)


@given(st.integers(0, len(seal(RECORD, HASHER)) - 1), st.integers(1, 255))
def test_no_byte_of_it_can_be_changed(at, by):
    value = bytearray(seal(RECORD, HASHER))
    value[at] ^= by
    with pytest.raises(ValueError, match="not sealed"):
        unseal(bytes(value), HASHER)


def test_another_secret_seals_otherwise():
    with pytest.raises(ValueError, match=r"not sealed with this gateway's state\.key_secret"):
        unseal(seal(RECORD, KeyHash(b"t" * 32)), HASHER)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([], "not an object"),
        ({}, "not an object"),
        (told(more=1), "not an object"),
        (told(id="ann"), "id is none"),
        (told(id=5), "id is none"),
        (told(name="key_x"), "name is none"),
        (told(name="corp:ann"), "name is none"),
        (told(name=None), "name is none"),
        (told(digest="00"), "digest is none"),
        (told(digest="zz" * 32), "non-hexadecimal"),
        (told(digest=0), "digest is none"),
        (told(made=None), "made is no time"),
        (told(made=True), "made is no time"),
        (told(expires="2027"), "expires is no time"),
        (told(revoked=-1), "revoked is no time"),
        (told(terms=[]), "terms are not an object"),
        (told(terms={**TERMS.told(), "manage": True}), "terms are not an object"),
        (told(terms={**TERMS.told(), "roles": "admin"}), "roles is no list of strings"),
        (told(terms={**TERMS.told(), "models": [1]}), "models is no list of strings"),
        (told(terms={**TERMS.told(), "team": None}), "team is no string"),
        (told(terms={**TERMS.told(), "limits": 1}), "limits is no string"),
        (told(terms={**TERMS.told(), "weight": 0}), "weight is no number"),
        (told(terms={**TERMS.told(), "weight": "1"}), "weight is no number"),
        (told(terms={**TERMS.told(), "priority": 1.5}), "priority is no integer"),
        (told(terms={**TERMS.told(), "priority": True}), "priority is no integer"),
    ],
)  # fmt: skip
def test_what_is_sealed_is_checked_all_the_same(value, words):
    with pytest.raises(ValueError, match=words):
        unseal(sealed(value), HASHER)


def test_what_is_sealed_is_json():
    with pytest.raises(ValueError, match="."):
        unseal(HASHER.seal(b"{") + b"{", HASHER)


def test_there_is_a_largest():
    long = replace(RECORD, terms=KeyTerms(models=("m" * LARGEST,)))
    with pytest.raises(ValueError, match="larger than 262144 bytes"):
        unseal(seal(long, HASHER), HASHER)
    unseal(seal(replace(RECORD, terms=KeyTerms(models=("m" * 65_536,))), HASHER), HASHER)
