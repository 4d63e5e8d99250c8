"""Which keys open the door."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.config.kinds import Secret
from ghostllm.config.schema import KeyConfig
from ghostllm.errors import InvalidKey
from ghostllm.message import Identity
from ghostllm.policy.keyhash import KeyHash
from ghostllm.policy.keys import Held, KeyRing, MadeKeys

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


def test_a_ring_shows_no_key():
    assert "alice" not in repr(RING) and HASHED not in repr(RING)


# --- what they may do, and until when

NOW = 1_900_000_000.0


def ring(*keys, now=NOW, **more):
    configured = [KeyConfig(name=name, key=Secret(f"gk_{name}"), **access) for name, access in keys]
    return KeyRing(configured, clock=lambda: now, **more)


def test_a_key_has_the_roles_that_it_is_given_and_else_those_of_before():
    known = ring(("ann", dict(roles=("viewer",), team="red")))
    identity = known.identify({b"x-api-key": b"gk_ann"})
    assert (identity.roles, identity.team, identity.manage) == (("viewer",), "red", False)
    assert identity.may("metrics") and not identity.may("chat")
    keys = [KeyConfig(name="bob", key=Secret("gk_bob"), manage=True), KeyConfig(name="c", key=Secret("gk_c"))]
    plain = KeyRing(keys)
    bob, other = (plain.identify({b"api-key": key}) for key in (b"gk_bob", b"gk_c"))
    assert bob.manage and bob.may("admin:keys")
    assert not other.manage and other.may("chat") and not other.may("admin:read")


def test_a_role_that_manages_makes_a_key_that_manages():
    identity = ring(("ops", dict(roles=("operator",)))).identify({b"x-api-key": b"gk_ops"})
    assert identity.manage and not identity.may("admin:keys")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-31", 1_801_353_600), ("2027-01-31T18:00:00Z", 1_801_418_400),
        ("2027-01-31 18:00", 1_801_418_400), ("2027-01-31T18:00:00+02:00", 1_801_411_200),
    ],
)  # fmt: skip
def test_a_key_ends_at_its_time(text, seconds):
    headers = {b"x-api-key": b"gk_ann"}
    assert ring(("ann", dict(expires=text)), now=seconds - 1).identify(headers).key == "ann"
    with pytest.raises(InvalidKey, match="has expired"):
        ring(("ann", dict(expires=text)), now=seconds).identify(headers)


def test_keys_made_at_run_time_come_and_go():
    hasher, made = KeyHash(b"secret"), MadeKeys()
    rings = KeyRing([], hasher=hasher, made=made, clock=lambda: NOW)
    assert rings.keyless and rings.identify({}).key == "anonymous"
    digest = hasher.of_key(b"gk_new")
    made.held[digest], made.ever = Held(digest, Identity("new"), NOW + 1), True
    assert rings.identify({b"x-api-key": b"gk_new"}).key == "new" and made.held[digest].used == NOW
    del made.held[digest]
    for headers in ({}, {b"x-api-key": b"gk_new"}):  # the last one is gone: nobody may, not everybody
        with pytest.raises(InvalidKey):
            rings.identify(headers)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_no_noise_is_a_key(noise):
    for headers in ({b"authorization": b"Bearer " + noise}, {b"authorization": noise}, {b"api-key": noise}):
        if noise.strip(b" \t") not in (b"gk_alice", b"gk_hashed"):
            with pytest.raises(InvalidKey):
                RING.identify(headers)
