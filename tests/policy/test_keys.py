"""Which keys open the door."""

import hashlib

import pytest

from ghostllm.config.schema import KeyConfig, Secret
from ghostllm.errors import InvalidKey
from ghostllm.message import Identity
from ghostllm.policy.keys import KeyRing

HASHED = hashlib.sha256(b"gk_hashed").hexdigest()
RING = KeyRing(
    [
        KeyConfig(name="alice", key=Secret("gk_alice"), models=("qwen*",)),
        KeyConfig(name="bob", hash=f"sha256:{HASHED}"),
    ]
)


@pytest.mark.parametrize(
    "headers",
    [
        {b"authorization": b"Bearer gk_alice"},
        {b"authorization": b"bearer  gk_alice "},
        {b"x-api-key": b"gk_alice"},
        {b"api-key": b"gk_alice"},
    ],
)
def test_a_key_is_taken_from_every_header_that_clients_use(headers):
    identity = RING.identify(headers)
    assert (identity.key, identity.models) == ("alice", ("qwen*",))


def test_a_hashed_key_is_recognised_and_its_hash_is_no_key():
    assert RING.identify({b"x-api-key": b"gk_hashed"}).key == "bob"
    for pretender in (HASHED, f"sha256:{HASHED}"):
        with pytest.raises(InvalidKey):
            RING.identify({b"x-api-key": pretender.encode()})


@pytest.mark.parametrize("key", [b"gk_alic", b"gk_alice2", b"GK_ALICE", b"", b"gk_alice\xff"])
def test_the_whole_key_counts(key):
    with pytest.raises(InvalidKey):
        RING.identify({b"authorization": b"Bearer " + key})


def test_basic_credentials_are_no_key():
    with pytest.raises(InvalidKey):
        RING.identify({b"authorization": b"Basic gk_alice"})


def test_without_keys_everybody_is_anonymous():
    assert KeyRing([]).identify({}) == Identity("anonymous", (), manage=True)


def test_a_ring_shows_no_key():
    assert "alice" not in repr(RING) and HASHED not in repr(RING)
