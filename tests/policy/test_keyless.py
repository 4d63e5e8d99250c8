"""Who asks a gateway without keys: this machine, another one, or a page that has its name point here."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.config.identity import GROUPS
from ghostllm.policy.keyless import OWNER, STRANGER, names_loopback, somebody


@pytest.mark.parametrize("peer", ["127.0.0.1", "127.8.8.8", "::1"])
@pytest.mark.parametrize(
    "host", [b"localhost", b"LocalHost:8080", b"127.0.0.1", b"127.0.0.1:8080", b"127.1.2.3:1", b"[::1]:8080"]
)
def test_this_machine_by_a_name_of_its_own_is_the_owner(peer, host):
    assert somebody({b"host": host}, peer) is OWNER


@pytest.mark.parametrize(
    "host",
    [
        b"", b"evil.test", b"evil.test:8080", b"localhost.evil.test", b"127.0.0.1.evil.test", b"gateway",
        b"127.1", b"2130706433", b"0x7f000001", b"0.0.0.0", b"[::]", b"[::1", b"::1", b"10.0.0.1",
        b"localhost:8080:1", b"localhost@evil.test", b"localhost/", b"evil.test, localhost", b"\xffocalhost",
        b"[fe80::1%25lo]", b"127.0.0.1.",
    ],
)  # fmt: skip
def test_a_name_that_somebody_else_can_point_here_is_not(host):
    assert somebody({b"host": host}, "127.0.0.1") is STRANGER


def test_without_a_host_nobody_is_the_owner():
    assert somebody({}, "127.0.0.1") is STRANGER


@pytest.mark.parametrize(
    "peer", ["10.0.0.1", "192.168.1.7", "fe80::1", "2001:db8::1", "local", "", "localhost"]
)
def test_another_machine_is_not_whatever_it_says(peer):
    assert somebody({b"host": b"localhost"}, peer) is STRANGER


def test_what_each_may():
    assert all(OWNER.may(group, "any") for group in GROUPS) and OWNER.manage
    assert STRANGER.may("chat", "any") and STRANGER.may("models") and STRANGER.may("metrics")
    assert not STRANGER.manage and not STRANGER.roles
    assert not any(STRANGER.may(group) for group in GROUPS if ":" in group)
    assert OWNER.key == STRANGER.key == "anonymous", "what is stored is the same somebody's"


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_no_noise_names_this_machine(noise):
    if names_loopback(noise):
        name = noise.decode("ascii").lower()
        assert name.startswith(("localhost", "127.", "[::1]", "[0", "[::", "[7")), name
