"""Who a token says that somebody is."""

from __future__ import annotations

import pytest

from ghostllm.config.identity import Claims, Role
from ghostllm.policy.claims import principal
from ghostllm.policy.compact import Malformed
from ghostllm.policy.roles import RoleBook
from tests.policy.issuer import claims, configured

KEYCLOAK = {
    "claims": Claims(key="preferred_username", roles="realm_access.roles", team="org.team", limits="plan"),
    "role_map": {"llm-admins": ("admin",), "llm": ("user", "own"), "gone": ("nobody",)},
    "roles": (),
}
BOOK = RoleBook([Role(name="own", allow=("metrics",))])


def who(config=None, **said):
    return principal(claims(**said), configured(**(config or {})), BOOK)


def test_names_roles_team_and_limits_by_their_paths():
    found = who(
        KEYCLOAK, preferred_username="ann", realm_access={"roles": ["llm", "offline_access"]},
        org={"team": "red"}, plan="gold",
    )  # fmt: skip
    assert (found.key, found.roles, found.team, found.limits) == ("corp:ann", ("user", "own"), "red", "gold")
    assert found.may("chat") and found.may("metrics") and not found.manage
    assert who(KEYCLOAK, preferred_username="a", realm_access={"roles": ["llm-admins"]}).manage


def test_a_role_there_counts_for_nothing_here_unless_it_is_mapped():
    for roles in (["admin"], ["operator", "user"], "admin", ["gone"], ["LLM-ADMINS"], [["llm-admins"]]):
        found = who(KEYCLOAK, preferred_username="ann", realm_access={"roles": roles})
        assert not any(found.may(group) for group in ("chat", "models", "metrics", "admin:read"))


def test_roles_in_one_text_with_spaces():
    config = {"claims": Claims(roles="scope"), "role_map": {"llm": ("viewer",)}}
    assert who(config, scope="openid llm profile").roles == ("user", "viewer")
    assert who(config, scope="openid-llm").roles == ("user",)
    assert who(config, scope=7).roles == ("user",)


def test_a_claim_whose_name_has_dots():
    config = {"claims": Claims(team="https://example.com/team")}
    assert who(config, **{"https://example.com/team": "red"}).team == "red"
    assert who({"claims": Claims(team="a.b")}, **{"a.b": "whole", "a": {"b": "path"}}).team == "whole"


def test_what_the_token_does_not_say_the_configuration_does():
    config = {"team": "all", "limits": "plain", "claims": Claims(team="t", limits="l"), "models": ("q*",)}
    assert (who(config).team, who(config).limits, who(config).models) == ("all", "plain", ("q*",))
    assert (who(config, t="red", l="big").team, who(config, t="red", l="big").limits) == ("red", "big")
    assert not who(config).may("chat", "other")


@pytest.mark.parametrize("subject", [None, "", 7, ["ann"], {"a": 1}, True, "a" * 257])
def test_a_name_is_text(subject):
    with pytest.raises(Malformed, match="claim sub"):
        principal({**claims(), "sub": subject}, configured(), BOOK)


@pytest.mark.parametrize("team", [7, ["red"], {}, False, "t" * 257, "\ud800"])
def test_who_would_be_confined_is_not_set_free_by_a_claim_that_is_no_text(team):
    with pytest.raises(Malformed, match="claim t"):
        who({"claims": Claims(team="t"), "team": "all"}, t=team)


def test_names_stay_apart_and_printable():
    names = ["ann", "ann ", " ann", "Ann", "ann%20", "ann\n", "änn", "auth0|ann", "a:b", "ann@x", "a\0", "🙂"]
    keys = [who(sub=name).key for name in names]
    assert len(set(keys)) == len(keys)
    assert all(
        key.startswith("corp:") and key.isascii() and key.isprintable() and " " not in key for key in keys
    )
    assert keys[7] == "corp:auth0|ann" and keys[9] == "corp:ann@x"
