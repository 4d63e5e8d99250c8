"""The form in which keys are kept."""

import hashlib

from ghostllm.policy.keyhash import KeyHash, make_key, make_secret


def test_a_key_is_256_random_bits():
    keys = {make_key() for _ in range(100)}
    assert len(keys) == 100
    assert all(key.startswith("gk_") and len(key) == 3 + 43 and key.isascii() for key in keys)


def test_a_hash_needs_the_secret():
    one, other = KeyHash(make_secret()), KeyHash(make_secret())
    assert one.of_key(b"gk_x") == one.of_key(b"gk_x") != other.of_key(b"gk_x")
    assert one.of_key(b"gk_x") != hashlib.sha256(b"gk_x").digest()
    assert KeyHash(b"s").of_key(b"gk_x") == KeyHash(b"s").of_key(b"gk_x")


def test_a_hash_is_no_key():
    hasher = KeyHash(b"s")
    kept = hasher.of_key(b"gk_x")
    for pretender in (kept, kept.hex().encode(), hashlib.sha256(b"gk_x").hexdigest().encode()):
        assert hasher.of_key(pretender) != kept


def test_hashing_leaves_nothing_behind():
    hasher = KeyHash(b"s")
    first = hasher.of_key(b"gk_a")
    hasher.of_key(b"gk_b")
    assert hasher.of_key(b"gk_a") == first


def test_secrets_are_told_apart_and_not_shown():
    one, other = KeyHash(b"first" * 20), KeyHash(b"second" * 20)
    assert one.mark == KeyHash(b"first" * 20).mark != other.mark
    assert "first" not in repr(one) and one.mark not in repr(one)
