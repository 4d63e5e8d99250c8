"""What roles permit, and what they do not."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.config.identity import BUILT_IN_ROLES, GROUPS, Role
from ghostllm.message import ANONYMOUS, Identity
from ghostllm.policy.grants import Grants
from ghostllm.policy.keyless import OWNER
from ghostllm.policy.principal import Principal
from ghostllm.policy.roles import BUILT_IN, OPEN, RoleBook, group_of, may_manage

OWN = (
    Role(name="llama", allow=("chat",), models=("llama-*", "tiny")),
    Role(name="embedder", allow=("embeddings", "chat"), models=("bge-*",)),
    Role(name="auditor", allow=("admin:read", "metrics")),
    Role(name="keeper", allow=("admin:*",)),
)
BOOK = RoleBook(OWN)
USING = {"chat", "embeddings", "rerank", "audio", "images", "moderations", "files", "models"}
PERMITTED = {
    "admin": GROUPS,
    "operator": GROUPS - {"admin:keys"},
    "user": USING,
    "viewer": {"models", "metrics", "admin:read"},
    "llama": {"chat"},
    "embedder": {"chat", "embeddings"},
    "auditor": {"admin:read", "metrics"},
    "keeper": {"admin:read", "admin:write", "admin:keys"},
}


def someone(*roles, models=()):
    return Principal("ann", models, roles=roles, grants=BOOK.grants(roles, models))


@pytest.mark.parametrize("group", sorted(GROUPS))
@pytest.mark.parametrize("role", PERMITTED)
def test_every_role_and_every_group(role, group):
    assert someone(role).may(group) == (group in PERMITTED[role])


def test_the_built_in_roles_are_those_of_the_configuration():
    assert tuple(role.name for role in BUILT_IN) == BUILT_IN_ROLES


def test_models_confine():
    llama = someone("llama")
    assert llama.may("chat", "llama-3") and llama.may("chat", "tiny") and llama.may("chat")
    for model in ("gpt", "xllama-3", "tiny2", "llama", "LLAMA-3", "", "x\nllama-3", "tiny\n"):
        assert not llama.may("chat", model)
    assert not llama.may("embeddings", "llama-3")


def test_several_roles_add_up():
    both = someone("llama", "embedder")
    assert both.may("chat", "llama-3") and both.may("chat", "bge-m3") and both.may("embeddings", "bge-m3")
    assert not both.may("embeddings", "llama-3") and not both.may("chat", "gpt")
    assert someone("llama", "user").may("chat", "gpt")
    assert someone("user", "llama").may("chat", "gpt")


def test_the_models_of_a_key_confine_all_of_its_roles():
    narrow = someone("admin", models=("llama-*",))
    assert narrow.may("chat", "llama-3") and not narrow.may("chat", "gpt")
    assert narrow.may("admin:keys")
    assert not someone("llama", models=("bge-*",)).may("chat", "llama-3")


def test_who_is_confined_at_all():
    assert someone("llama").confined and someone("user", models=("q*",)).confined
    assert not someone("user").confined and not someone("llama", "user").confined
    assert Identity("bob", ("q*",)).confined and not Identity("bob").confined


def test_a_role_that_there_is_not_permits_nothing():
    assert not any(someone("root").may(group) for group in GROUPS)
    assert not any(Principal("ann").may(group) for group in GROUPS)


def test_an_own_role_cannot_change_a_built_in_one():
    assert not RoleBook([Role(name="user", allow=("*",))]).grants(("user",)).allow("admin:keys")


def test_identities_of_before():
    for identity in (OWNER, Identity("ops", manage=True)):
        assert all(identity.may(group, "any") for group in GROUPS)
    plain = Identity("ann", ("llama-*",))
    assert plain.may("chat", "llama-3") and plain.may("chat") and not plain.may("chat", "gpt")
    assert not ANONYMOUS.may("admin:read")


def test_what_is_open_is_open_to_all():
    assert Principal("ann").may(OPEN)


def test_who_manages():
    assert [name for name in PERMITTED if may_manage(BOOK.grants((name,)))] == ["admin", "operator"]


def test_a_route_without_a_group_is_refused():
    for route in ("", "chats", "administrate"):
        with pytest.raises(LookupError):
            group_of(route, "GET")


def test_admin_routes_by_method():
    for route in ("admin_backend", "admin_whatever_comes"):
        assert group_of(route, "GET") == group_of(route, "HEAD") == "admin:read"
        assert {group_of(route, method) for method in ("POST", "PUT", "PATCH", "DELETE")} == {"admin:write"}
    assert {group_of("admin_keys", "GET"), group_of("admin_key", "DELETE")} == {"admin:keys"}


NAMES = st.sampled_from(sorted(PERMITTED))
MODELS = st.sampled_from(["llama-3", "tiny", "bge-m3", "gpt"])
PATTERNS = st.lists(st.sampled_from(["llama-*", "tiny", "bge-*", "*"]), max_size=2).map(tuple)


@settings(deadline=None)
@given(st.lists(NAMES, max_size=3), PATTERNS, st.lists(NAMES, max_size=3), PATTERNS)
def test_what_covers_permits_no_less(roles, models, others, other_models):
    one, other = BOOK.grants(tuple(roles), models), BOOK.grants(tuple(others), other_models)
    if one.covers(other):
        for group in GROUPS:
            assert one.allow(group) or not other.allow(group)
            for model in ("llama-3", "tiny", "bge-m3", "gpt"):
                assert one.allow(group, model) or not other.allow(group, model)


def test_what_covers():
    grants = BOOK.grants
    assert grants(("admin",)).covers(grants(("user", "keeper")))
    assert grants(("llama",)).covers(grants(("llama",)))
    assert grants(("user",)).covers(grants(("llama",)))
    assert grants(("admin",), ("q*",)).covers(grants(("user",), ("q*",)))
    assert grants(("llama",)).covers(grants(("llama",), ("x",)))
    assert grants(("llama",)).covers(Grants(()))
    for more in (("user",), ("embedder",), ("keeper",)):
        assert not grants(("llama",)).covers(grants(more))
    assert not grants(("keeper",)).covers(grants(("admin",)))
    assert not grants(("admin",), ("q*",)).covers(grants(("user",)))


@settings(deadline=None)
@given(st.lists(NAMES, max_size=3), st.sampled_from(sorted(GROUPS)), MODELS)
def test_more_roles_never_permit_less(roles, group, model):
    grants = BOOK.grants(tuple(roles))
    assert BOOK.grants((*roles, "llama")).allow(group, model) or not grants.allow(group, model)


def test_grants_are_made_once_for_equal_roles():
    assert BOOK.grants(("user", "llama"), ("q*",)) is BOOK.grants(["user", "llama"], ["q*"])
    assert "chat" in repr(BOOK.grants(("llama",))) and "llama" in repr(BOOK) and "llama" in BOOK
