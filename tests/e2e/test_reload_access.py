"""Who may come in changes while the gateway runs: roles, keys, issuers. Keys made at run time stay."""

from __future__ import annotations

from typing import Any

from tests.e2e.conftest import Fakes
from tests.e2e.reloads import CONFIG, applied, base, changed, reload
from tests.fakes.fake import until
from tests.fakes.gateway import Gateway
from tests.fakes.jwks import KEYS, Issuer

BOSS = "sk-boss-0123456789abcdef"
HI = [{"role": "user", "content": "Hi"}]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def status(gateway: Gateway, key: str, model: str = "m") -> int:
    body = {"model": model, "messages": HI}
    return gateway.ask("POST", "/v1/chat/completions", body, bearer(key)).status


def test_roles_keys_and_issuers_follow(fakes: Fakes) -> None:
    boss, own = {"name": "boss", "key": BOSS, "roles": ["admin"]}, {"name": "own", "allow": ["chat"]}
    before = base(fakes, keys=[boss], roles=[own])
    with Issuer() as issuer, Gateway(before) as gateway:
        issuer.add("one")
        corp: dict[str, Any] = {"name": "corp", "issuer": issuer.url, "audience": ["gateway"]}
        made = gateway.ask("POST", "/admin/api/keys", {"name": "ann", "roles": ["own"]}, bearer(BOSS)).json()
        key, token = made["key"], issuer.token("one")
        assert [status(gateway, key, name) for name in ("m", "n")] == [200, 200]
        assert status(gateway, token) == 401

        after = changed(
            before, roles=[{**own, "models": ["n"]}], jwt=[{**corp, "jwks_url": issuer.url + KEYS}]
        )
        assert applied(gateway, after, bearer(BOSS)) == ["roles.own.models", "jwt.corp"]
        assert [status(gateway, key, name) for name in ("m", "n")] == [403, 200]
        assert status(gateway, token) == 200
        asked = len(issuer.asked)

        more = changed(after, roles=[own])
        assert applied(gateway, more, bearer(BOSS)) == ["roles.own.models"]
        assert status(gateway, token) == 200 and len(issuer.asked) == asked, "what was fetched is taken over"
        assert status(gateway, key) == 200

        wrong = changed(more, jwt=[{**corp, "jwks_url": "ftp://x"}])
        assert reload(gateway, wrong, bearer(BOSS)).status == 422
        assert [status(gateway, one) for one in (token, key)] == [200, 200]

        assert applied(gateway, before, bearer(BOSS)) == ["jwt.corp"]
        until(lambda: status(gateway, token) == 401, "the issuer is gone")
        assert gateway.ask("GET", CONFIG, None, bearer(BOSS)).status == 200


def test_the_admin_listener_takes_a_restart(fakes: Fakes) -> None:
    before = base(fakes)
    with Gateway(before) as gateway:
        told = reload(gateway, changed(before, admin={"listen": ["127.0.0.1:0"]})).json()
        assert told["needs_restart"] == ["admin.listen"]
        assert gateway.ask("GET", "/admin/api/backends").status == 200
