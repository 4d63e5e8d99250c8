"""Who may come without a key, and from where."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.config.identity import Anonymous
from ghostllm.policy import anonymous as module
from ghostllm.policy.anonymous import AnonymousRules
from ghostllm.policy.roles import RoleBook

LAB = Anonymous(
    name="lab", networks=("10.1.0.0/16", "fd00::/8"), roles=("viewer",), limits="small", team="lab"
)
OFFICE = Anonymous(networks=("10.0.0.0/8", "127.0.0.1/32"), models=("tiny",), placeholders=("x",))
RULES = AnonymousRules([LAB, OFFICE], RoleBook())


def name(peer, key=b"", rules=RULES):
    found = rules.identify(peer, key)
    return found.key if found is not None else None


@pytest.mark.parametrize(
    ("peer", "wanted"),
    [
        ("10.1.2.3", "lab"), ("10.2.2.3", "anonymous"), ("127.0.0.1", "anonymous"), ("fd12::1", "lab"),
        ("fd12::1%eth0", "lab"), ("::ffff:10.1.2.3", "lab"), ("::ffff:a01:203", "lab"),
        ("10.255.255.255", "anonymous"),
        ("11.0.0.1", None), ("127.0.0.2", None), ("::1", None), ("fe80::1", None), ("::ffff:11.0.0.1", None),
        ("", None), ("local", None), ("10.1.2", None), ("10.1.2.3.4", None), ("10.1.2.3:80", None),
        ("010.1.2.3", None),
        (" 10.1.2.3", None), ("10.1.2.3\n", None), ("[fd12::1]", None), ("0xa010203", None),
        ("167838211", None),
    ],
)  # fmt: skip
def test_the_address_decides(peer, wanted):
    assert name(peer) == wanted
    assert name(peer) == wanted  # and once more, from what is remembered


def test_they_have_rights_of_their_own():
    lab, office = RULES.identify("10.1.2.3"), RULES.identify("10.2.2.3")
    assert (lab.roles, lab.limits, lab.team, lab.source, lab.manage) == (
        ("viewer",),
        "small",
        "lab",
        "anonymous",
        False,
    )
    assert lab.may("metrics") and not lab.may("chat")
    assert office.may("chat", "tiny") and not office.may("chat", "big")


def test_a_placeholder_is_no_key_and_a_key_is_no_placeholder():
    assert name("10.1.2.3", b"ollama") == name("10.1.2.3", b"EMPTY") == "lab"
    assert name("10.2.2.3", b"x") == "anonymous"
    for key in (b"gk_wrong", b"OLLAMA", b"x", b"ollama "):
        assert name("10.1.2.3", key) is None
    assert name("11.0.0.1", b"ollama") is None


def test_everywhere_is_said_for_each_family():
    four = AnonymousRules([Anonymous(networks=("0.0.0.0/0",))], RoleBook())
    six = AnonymousRules([Anonymous(networks=("::/0",))], RoleBook())
    assert name("1.2.3.4", rules=four) and name("::ffff:1.2.3.4", rules=four) and not name("::1", rules=four)
    assert name("::1", rules=six) and not name("1.2.3.4", rules=six) and not name("::ffff:1.2.3.4", rules=six)


def test_without_rules_nobody():
    rules = AnonymousRules([], RoleBook())
    assert name("127.0.0.1", rules=rules) is None and name("::1", rules=rules) is None


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 10)
    rules = AnonymousRules([LAB], RoleBook())
    for number in range(100):
        assert name(f"10.1.2.{number}", rules=rules) == "lab"
    assert len(rules._known) <= 10


@settings(deadline=None)
@given(st.text(max_size=40))
def test_no_text_is_an_error(peer):
    RULES.identify(peer)
