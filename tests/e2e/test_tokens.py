"""Tokens as keys, with an issuer that is really asked for its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Fakes, settings
from tests.fakes import raw
from tests.fakes.fake import ROOT, until
from tests.fakes.gateway import Gateway, plain_environment, toml
from tests.fakes.jwks import KEYS, WELL_KNOWN, Issuer

HI = [{"role": "user", "content": "Hi"}]
SECRET = "s" * 32
LOOKER = "sk-looker-0123456789"


def configured(fakes: Fakes, issuer: Issuer, **changed: Any) -> dict[str, Any]:
    corp = {
        "name": "corp", "issuer": issuer.url, "audience": ["gateway"], "leeway": 0,
        "claims": {"roles": "realm.roles", "team": "dept"},
        "role_map": {"ops": ["operator"], "look": ["viewer"]}, "roles": ["user"],
        "algorithms": ["RS256", "ES256"], **changed,
    }  # fmt: skip
    shared = {
        "name": "scripts", "issuer": "urn:scripts", "audience": ["gateway"], "algorithms": ["HS256"],
        "secret": SECRET, "roles": ["small"],
    }  # fmt: skip
    roles = [{"name": "small", "allow": ["chat", "models"], "models": ["m", "renamed"]}]
    keys = [{"name": "looker", "key": LOOKER, "roles": ["viewer"]}]
    return {**settings(fakes), "roles": roles, "keys": keys, "jwt": [corp, shared]}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer() as issuer:
        issuer.add("one")
        yield issuer


@pytest.fixture(scope="module")
def started_door(started: Fakes, issuer: Issuer) -> Iterator[Gateway]:
    with Gateway(configured(started, issuer, jwks_url=issuer.url + KEYS)) as gateway:
        yield gateway


@pytest.fixture
def door(started_door: Gateway, fakes: Fakes) -> Gateway:
    return started_door


def chat(gateway: Gateway, token: str, model: str = "m") -> raw.Answer:
    headers = {"Authorization": f"Bearer {token}"}
    return gateway.ask("POST", "/v1/chat/completions", {"model": model, "messages": HI}, headers)


def test_a_token_is_a_key(door: Gateway, issuer: Issuer) -> None:
    token = issuer.token("one", sub="ann lee", dept="red")
    answer = chat(door, token)
    assert answer.status == 200
    assert door.record(answer.headers["x-request-id"])["key"] == "corp:ann%20lee"
    for name in ("x-api-key", "api-key"):
        assert door.ask("GET", "/v1/models", None, {name: token}).status == 200
    assert token not in door.log


def test_claims_give_roles(door: Gateway, issuer: Issuer) -> None:
    def status(path: str, *roles: str) -> int:
        token = issuer.token("one", realm={"roles": list(roles)})
        return door.ask("GET", path, None, {"Authorization": f"Bearer {token}"}).status

    assert [status("/admin/api/models"), status("/metrics"), status("/v1/models")] == [403, 403, 200]
    assert [status("/admin/api/models", "look"), status("/metrics", "look", "x")] == [200, 200]
    assert [status("/admin/api/keys", "ops"), status("/admin/api/models", "ops")] == [403, 200]


def test_a_new_key_of_the_issuer_is_fetched_when_a_token_names_it(started: Fakes, fakes: Fakes) -> None:
    with Issuer() as issuer:
        issuer.add("old")
        held = configured(started, issuer, jwks_url=issuer.url + KEYS)
        with Gateway(held) as gateway:
            assert chat(gateway, issuer.token("old")).status == 200
            asked = len(issuer.asked)
            del issuer.keys["old"]
            issuer.add("new", "ES256")
            refused = chat(gateway, issuer.token("new", "ES256"))
            assert refused.status == 401 and "no such key" in refused.error["message"]
            assert len(issuer.asked) == asked, "not again so soon: tokens cost nothing to invent"


def test_keys_are_found_by_discovery_and_rotated(started: Fakes, fakes: Fakes) -> None:
    with Issuer() as issuer:
        issuer.add("old")
        held = configured(started, issuer, discovery=True, refresh=1)
        with Gateway(held) as gateway:
            old = issuer.token("old")
            assert chat(gateway, old).status == 200
            assert issuer.asked[:2] == [WELL_KNOWN, KEYS]
            del issuer.keys["old"]
            issuer.add("new", "ES256")
            new = issuer.token("new", "ES256")
            until(lambda: chat(gateway, new).status == 200, "the new key is known")
            assert chat(gateway, old).status == 401, "and what it replaced is not"


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"exp": -1}, "expired"), ({"exp": None}, "no expiry"), ({"nbf": 600}, "not hold yet"),
        ({"aud": "other"}, "audience"), ({"aud": None}, "audience"), ({"iss": "http://evil.test"}, "issuer"),
        ({"sub": None}, "claim sub"), ({"sub": 5}, "claim sub"), ({"dept": ["red"]}, "claim dept"),
    ],
)  # fmt: skip
def test_a_token_that_does_not_hold(
    door: Gateway, issuer: Issuer, fakes: Fakes, changed: dict[str, Any], words: str
) -> None:
    if changed.get("sub") == 5:
        token = _signed_by_hand(issuer, changed)
    else:
        token = issuer.token("one", **changed)
    answer = chat(door, token)
    assert answer.status == 401 and words in answer.error["message"], answer.body
    assert answer.error["code"] == "invalid_api_key" and not fakes.primary.calls


def _signed_by_hand(issuer: Issuer, changed: dict[str, Any]) -> str:
    """PyJWT itself makes no token with such a subject."""
    import base64
    import json
    import time

    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    def segment(value: Any) -> bytes:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=")

    claims = {"iss": issuer.url, "aud": "gateway", "exp": time.time() + 600, **changed}
    signed = segment({"alg": "RS256", "kid": "one"}) + b"." + segment(claims)
    mark = issuer.keys["one"].sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return (signed + b"." + segment(mark)).decode()


def test_a_signature_of_the_wrong_kind(door: Gateway, issuer: Issuer) -> None:
    with Issuer() as other:
        other.add("one")
        foreign = other.token("one", iss=issuer.url)
    public = issuer.keys["one"].public_key().public_numbers().n.to_bytes(256, "big")
    for token, words in (
        (foreign, "signature is wrong"),
        (issuer.token("one", "HS256", key=public), "algorithm is not accepted"),  # the oldest hole of JWT
        (issuer.token("one", "RS512"), "algorithm is not accepted"),
        (issuer.token("one", "HS256", key=SECRET), "algorithm is not accepted"),
        (issuer.token("one", "RS256", iss="urn:scripts"), "algorithm is not accepted"),
        (issuer.token("one")[:-6] + "AAAAAA", "signature is wrong"),
    ):
        answer = chat(door, token)
        assert answer.status == 401 and words in answer.error["message"], (answer.body, words)
    none = "eyJhbGciOiJub25lIn0." + issuer.token("one").split(".")[1] + "."
    assert chat(door, none).status == 401


def test_a_shared_secret_and_a_role_that_is_held_to_models(door: Gateway, issuer: Issuer) -> None:
    token = issuer.token("", "HS256", key=SECRET, iss="urn:scripts")
    headers = {"Authorization": f"Bearer {token}"}
    assert chat(door, token).status == chat(door, token, "renamed").status == 200
    assert chat(door, token, "pair").status == chat(door, token, "nobody-knows").status == 403
    assert door.ask("POST", "/v1/embeddings", {"model": "m", "input": "x"}, headers).status == 403
    listed = {item["id"] for item in door.ask("GET", "/v1/models", None, headers).json()["data"]}
    assert listed == {"m", "renamed"}
    assert door.ask("GET", "/v1/models/pair", None, headers).status == 404
    tags = {item["name"] for item in door.ask("GET", "/api/tags", None, headers).json()["models"]}
    assert tags == {"m", "renamed"}


def test_an_issuer_that_is_away_is_503_until_it_is_there(started: Fakes, fakes: Fakes) -> None:
    with Issuer() as issuer:
        issuer.add("one")
        issuer.away = True
        with Gateway(configured(started, issuer, jwks_url=issuer.url + KEYS)) as gateway:
            until(lambda: "keys of an issuer not fetched" in gateway.log, "it is told in the log")
            answer = chat(gateway, issuer.token("one"))
            assert answer.status == 503 and "retry-after" in answer.headers, answer.body
            assert gateway.ask("GET", "/health").status == 200
            issuer.away = False
            until(lambda: chat(gateway, issuer.token("one")).status == 200, "it is asked again")


def test_a_client_that_leaves_while_keys_are_fetched_costs_the_others_nothing(
    started: Fakes, fakes: Fakes
) -> None:
    with Issuer() as issuer:
        issuer.add("one")
        issuer.hold.clear()
        with Gateway(configured(started, issuer, jwks_url=issuer.url + KEYS)) as gateway:
            until(lambda: issuer.asked, "the issuer is asked")
            held_key = {"x-api-key": issuer.token("one")}
            with gateway.open() as leaving, gateway.open() as staying:
                leaving.send(raw.request("GET", "/v1/models", None, {**held_key, "x-request-id": "gone"}))
                staying.send(raw.request("GET", "/v1/models", None, held_key))
                until(lambda: _waiting(gateway) == 2, "both wait")
                leaving.close()
                until(lambda: _waiting(gateway) == 1, "one has been let go")
                issuer.hold.set()
                assert staying.answer("GET").status == 200
            assert gateway.record("gone")["outcome"] == "cancelled" and len(issuer.asked) == 1


def _waiting(gateway: Gateway) -> int:
    """Requests that are not answered yet, beside the one that asks."""
    page = gateway.ask("GET", "/metrics", None, {"x-api-key": LOOKER}).body.decode()
    [value] = [
        line.split()[1] for line in page.splitlines() if line.startswith("ghostllm_requests_in_flight")
    ]
    return int(float(value)) - 1


@pytest.mark.parametrize("command", ["check", "serve"])
def test_without_the_extra_it_is_named(tmp_path: Path, command: str) -> None:
    (tmp_path / "jwt.py").write_text("raise ImportError('no PyJWT here')")
    issuer = {"name": "corp", "issuer": "https://id.test", "audience": ["g"], "jwks_url": "https://id.test/k"}
    (tmp_path / "g.toml").write_text(toml({"server": {"listen": ["127.0.0.1:0"]}, "jwt": [issuer]}))
    done = subprocess.run(
        [sys.executable, "-m", "ghostllm", command, "--config", str(tmp_path / "g.toml")],
        env=plain_environment(PYTHONPATH=str(tmp_path)), cwd=ROOT, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2 and "pip install 'ghostllm[jwt]'" in done.stderr, done.stderr
