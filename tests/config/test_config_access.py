"""Roles, issuers, anonymous clients and what keys may, as they stand in a configuration."""

from __future__ import annotations

import pytest

from ghostllm.config.load import load
from ghostllm.errors import ConfigError

ISSUER = """
[[jwt]]
name = "corp"
issuer = "https://id.test"
audience = ["gw"]
jwks_url = "https://id.test/keys"
"""
EVERYWHERE = '[server]\nlisten = ["0.0.0.0:8080"]\n'


def problems(tmp_path, text):
    path = tmp_path / "g.toml"
    path.write_text(text)
    try:
        load(str(path), environ={})
    except ConfigError as error:
        return error.problems
    return []


def test_a_key_has_roles_team_and_an_end(tmp_path):
    path = tmp_path / "g.toml"
    path.write_text(
        '[[roles]]\nname = "own"\nallow = ["chat"]\nmodels = ["q*"]\n'
        '[[keys]]\nname = "ann"\nkey = "k"\nroles = ["own", "viewer"]\nteam = "red"\nexpires = "2099-01-31"\n'
    )
    config = load(str(path), environ={})
    [key] = config.keys
    assert (key.roles, key.team, key.expires) == (("own", "viewer"), "red", "2099-01-31")
    assert config.roles[0].models == ("q*",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[keys]]\nname = "a"\nkey = "k"\nroles = ["king"]', 'keys[0].roles: no role is called "king"'),
        ('[[keys]]\nname = "a"\nkey = "k"\nexpires = "2027-02-31"', "keys[0].expires: is no such time"),
        (
            '[[keys]]\nname = "a"\nkey = "k"\nroles = ["user"]\nmanage = true',
            "keys[0].manage: has no meaning",
        ),
        ('[[keys]]\nname = "anonymous"\nkey = "k"', "keys[0].name"),
        ('[[roles]]\nname = "admin"\nallow = ["chat"]', "roles[0].name"),
        ('[[roles]]\nname = "a"\nallow = ["chats"]', 'did you mean "chat"'),
        (ISSUER + 'algorithms = ["HS256", "RS256"]', "jwt[0].algorithms: HS* and the others"),
        (ISSUER + "discovery = true", "jwt[0].discovery: exactly one"),
        ('[[anonymous]]\nnetworks = ["10.0.0.1/8"]', "anonymous[0].networks[0]"),
        ('[[anonymous]]\nnetworks = ["10.0.0.0/8"]\nroles = ["king"]', "anonymous[0].roles"),
        (
            '[[anonymous]]\nnetworks = ["10.0.0.0/8"]\nlimits = "x"',
            'anonymous[0].limits: no limits are called "x"',
        ),
        (ISSUER + 'team = "x"\n[[teams]]\nname = "red"', 'jwt[0].team: no team is called "x"'),
        ('[admin]\nlisten = ["127.0.0.1:8080"]', "admin.listen: the same address"),
        ('[admin]\nlisten = ["127.0.0.1:1", "127.0.0.1:1"]', "admin.listen: the same address"),
        ('[admin]\nlisten = ["0.0.0.0:1"]', "admin.listen: 0.0.0.0:1 can be reached"),
        (EVERYWHERE, "server.listen: 0.0.0.0:8080 can be reached"),
        (
            '[state]\nkey_secret = "0123456789012345678901234567890"',
            "state.key_secret: is too short: 31 bytes",
        ),
    ],
)
def test_mistakes_have_a_place(tmp_path, text, words):
    found = problems(tmp_path, text)
    assert any(words in problem for problem in found) and len(found) == 1, found


@pytest.mark.parametrize(
    "text",
    [
        EVERYWHERE + ISSUER,
        '[state]\nkey_secret = "01234567890123456789012345678901"',
        EVERYWHERE + '[[anonymous]]\nnetworks = ["10.0.0.0/8"]',
        EVERYWHERE + '[[keys]]\nname = "a"\nkey = "k"',
        "[server]\ninsecure = true\n[admin]\nlisten = ['0.0.0.0:1']",
        '[server]\nlisten = ["127.0.0.1:0"]\n[admin]\nlisten = ["127.0.0.1:0"]',
    ],
)
def test_what_is_sound(tmp_path, text):
    assert problems(tmp_path, text) == []
