"""The sections on identity: what is accepted, and what is refused with which words."""

from __future__ import annotations

import pytest

from ghostllm.config.build import Builder, Rejected
from ghostllm.config.fields import fields_of
from ghostllm.config.identity import GROUPS, Anonymous, Claims, JwtIssuer, KeyAccess, Role, moment
from ghostllm.config.identity_check import faults
from ghostllm.config.kinds import Secret
from ghostllm.config.tree import Table

ISSUER = {
    "name": "corp",
    "issuer": "https://id.example",
    "audience": ["gw"],
    "jwks_url": "https://id.example/k",
}


def table(value):
    if isinstance(value, dict):
        made = Table("here")
        for key, item in value.items():
            made.put(key, table(item), "here")
        return made
    return [table(item) for item in value] if isinstance(value, list) else value


def built(cls, **given):
    """What the loader makes of a section, or what it has to say."""
    builder = Builder({})
    try:
        made = builder.section(cls, table(given), ("it",), "here")
    except Rejected:
        return builder.problems
    return builder.problems or made


@pytest.mark.parametrize("cls", [KeyAccess, Role, Claims, JwtIssuer, Anonymous])
def test_every_key_has_a_meaning(cls):
    assert all(field.meaning for field in fields_of(cls).values())


def test_sections_are_built():
    issuer = built(
        JwtIssuer, **ISSUER, role_map={"a b": ["user"]}, claims={"roles": "x.y"}, algorithms=["ES256"]
    )
    assert issuer.role_map == {"a b": ("user",)} and issuer.claims.roles == "x.y" and issuer.leeway == 30.0
    assert built(Role, name="own", allow=["chat", "admin:*"], models=["q*"]).allow == ("chat", "admin:*")
    assert built(Anonymous, networks=["10.0.0.0/8"]).name == "anonymous"
    assert built(KeyAccess, roles=["user"], expires="2027-01-31").team == ""
    assert "admin:keys" in GROUPS and "*" not in GROUPS


@pytest.mark.parametrize(
    ("cls", "given", "words"),
    [
        (Role, {"name": "a:b", "allow": ["chat"]}, "must be a name of letters"),
        (Role, {"name": "a", "allow": []}, "needs at least 1"),
        (Role, {"name": "a", "allow": ["chats"]}, 'did you mean "chat"'),
        (JwtIssuer, {**ISSUER, "algorithms": ["none"]}, "must be one of"),
        (JwtIssuer, {**ISSUER, "algorithms": []}, "needs at least 1"),
        (JwtIssuer, {**ISSUER, "audience": []}, "needs at least 1"),
        (JwtIssuer, {**ISSUER, "jwks_url": "file:///etc/passwd"}, "an http(s) address"),
        (JwtIssuer, {**ISSUER, "jwks_url": "https://user@host/"}, "an http(s) address"),
        (JwtIssuer, {**ISSUER, "jwks_file": "/none.json"}, "no such file"),
        (Anonymous, {"networks": []}, "needs at least 1"),
        (Anonymous, {"networks": ["10.0.0.1/8"]}, "must be a network"),
        (Anonymous, {}, "required"),
        (KeyAccess, {"expires": "soon"}, "a date or a time"),
    ],
)
def test_what_types_refuse(cls, given, words):
    assert any(words in problem for problem in built(cls, **given))


def test_moments():
    assert (
        moment("1970-01-02") == 86_400 == moment("1970-01-02T00:00Z") == moment("1970-01-02T01:00:00+01:00")
    )


def issuer(**changed):
    usual = {
        "name": "corp",
        "issuer": "https://id.example",
        "audience": ("gw",),
        "jwks_url": "https://id.example/k",
    }
    return JwtIssuer(**{**usual, **changed})


LONG = Secret("s" * 32)
HS = {"algorithms": ("HS256",), "jwks_url": "", "secret": LONG}
HERE = ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("wrong", "key", "words"),
    [
        ({"roles": [Role(name="admin", allow=("chat",))]}, "name", "is a built-in role"),
        ({"roles": [Role(name="a", allow=("chat",))] * 2}, "name", "another one already"),
        ({"issuers": [issuer(roles=("nobody",))]}, "roles", 'no role is called "nobody"'),
        ({"issuers": [issuer(role_map={"x": ("nobody",)})]}, "role_map", 'no role is called "nobody"'),
        ({"anonymous": [Anonymous(networks=HERE, roles=("x",))]}, "roles", 'no role is called "x"'),
        ({"keys": {"ann": KeyAccess(roles=("x",))}}, "roles", 'no role is called "x"'),
        ({"keys": {"ann": KeyAccess(expires="2027-02-31")}}, "expires", "no such time"),
        ({"keys": {"ann": KeyAccess(expires="2027-02-01T25:00")}}, "expires", "no such time"),
        ({"keys": {"anonymous": KeyAccess()}}, "name", "clients without a key"),
        ({"keys": {"corp:ann": KeyAccess()}, "issuers": [issuer()]}, "name", "a token of that issuer"),
        (
            {"keys": {"lab": KeyAccess()}, "anonymous": [Anonymous(name="lab", networks=HERE)]},
            "name",
            "already",
        ),
        ({"anonymous": [Anonymous(networks=HERE)] * 2}, "name", "already"),
        ({"anonymous": [Anonymous(name="corp:x", networks=HERE)], "issuers": [issuer()]}, "name", "token"),
        ({"issuers": [issuer(), issuer(issuer="https://two")]}, "name", "already"),
        ({"issuers": [issuer(), issuer(name="two")]}, "issuer", "stands twice"),
        ({"issuers": [issuer(algorithms=("HS256", "RS256"))]}, "algorithms", "exclude each other"),
        ({"issuers": [issuer(secret=LONG)]}, "secret", "a meaning for HS256"),
        ({"issuers": [issuer(**{**HS, "secret": None})]}, "secret", "missing"),
        ({"issuers": [issuer(**{**HS, "secret": Secret("s" * 31)})]}, "secret", "need 32 bytes"),
        ({"issuers": [issuer(**{**HS, "algorithms": ("HS256", "HS512")})]}, "secret", "need 64 bytes"),
        ({"issuers": [issuer(**{**HS, "jwks_url": "https://x"})]}, "jwks_url", "the secret is the key"),
        ({"issuers": [issuer(jwks_url="")]}, "jwks_url", "none is set"),
        ({"issuers": [issuer(discovery=True)]}, "discovery", "jwks_url and discovery are set"),
        ({"issuers": [issuer(jwks_url="", discovery=True, issuer="urn:x")]}, "discovery", "http(s) address"),
    ],
)
def test_what_does_not_go_together(wrong, key, words):
    given = {"roles": [], "issuers": [], "anonymous": [], "keys": {}, **wrong}
    assert [(at, words in said) for _, at, said in faults(**given)] == [(key, True)]


def test_what_is_sound_has_no_faults():
    roles = [Role(name="own", allow=("chat",))]
    issuers = [
        issuer(roles=("own", "viewer")), issuer(name="hs", issuer="urn:hs", **HS),
        issuer(name="oidc", issuer="https://o.example/realm/", jwks_url="", discovery=True),
    ]  # fmt: skip
    anonymous = [Anonymous(networks=HERE), Anonymous(name="lab", networks=("::1/128",), roles=("own",))]
    keys = {"ann": KeyAccess(roles=("own",), expires="2027-01-31T00:00:00Z"), "other:ann": KeyAccess()}
    assert list(faults(roles, issuers, anonymous, keys)) == []
