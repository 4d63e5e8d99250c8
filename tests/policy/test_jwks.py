"""The keys of an issuer: fetched, kept, replaced, and not asked for too often."""

from __future__ import annotations

import asyncio
import json

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ghostllm.errors import InvalidKey, UpstreamError
from ghostllm.policy import jwks
from ghostllm.policy.jwks import KeysUnavailable
from ghostllm.policy.tokens import PendingToken
from tests.policy.issuer import (
    EC_KEYS,
    ED_KEY,
    ISSUER,
    KEYS_AT,
    NOW,
    OTHER_RSA_KEY,
    RSA_KEY,
    WELL_KNOWN,
    Issuer,
    configured,
    jwk,
    running,
    settled,
    token,
)

SHORT_KEY = rsa.generate_private_key(65537, 1024)
ALL = ("RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA")


def source_of(verifier):
    [source] = verifier._sources.values()
    return source


def key_set(*keys, algorithms=ALL):
    return jwks.key_set(json.dumps({"keys": keys}).encode(), algorithms)


def test_the_first_token_waits_for_the_keys_and_no_other_does():
    issuer = Issuer()

    async def inside():
        verifier = issuer.verifier()
        pending = [verifier.identify(token(sub=name)) for name in ("a", "b", "c")]
        assert all(isinstance(each, PendingToken) for each in pending)
        async with running(verifier):
            found = await asyncio.gather(*(each.settle() for each in pending))
            assert [each.key for each in found] == ["corp:a", "corp:b", "corp:c"]
            assert verifier.identify(token(sub="d")).key == "corp:d"
        assert issuer.asked == [KEYS_AT]

    asyncio.run(inside())


def test_a_new_key_is_found_and_an_old_one_forgotten():
    issuer = Issuer()

    async def inside():
        async with running(issuer.verifier()) as verifier:
            old = token()
            assert (await settled(verifier, old)).key == "corp:ann"
            new = token(key=OTHER_RSA_KEY, kid="k2")
            issuer.ticks += jwks.COOLDOWN
            issuer.publish([jwk(RSA_KEY), jwk(OTHER_RSA_KEY, "k2")])
            assert (await settled(verifier, new)).key == "corp:ann"
            assert verifier.identify(old).key == "corp:ann"
            issuer.publish([jwk(OTHER_RSA_KEY, "k2")])
            await source_of(verifier).refresh()
            assert verifier.identify(new).key == "corp:ann"
            with pytest.raises(InvalidKey, match="no such key"):  # although it was known
                verifier.identify(old)

    asyncio.run(inside())


def test_the_same_kid_with_another_key_is_another_key():
    issuer = Issuer()

    async def inside():
        async with running(issuer.verifier()) as verifier:
            old = token()
            await settled(verifier, old)
            issuer.publish([jwk(OTHER_RSA_KEY)])
            await source_of(verifier).refresh()
            with pytest.raises(InvalidKey, match="signature is wrong"):
                verifier.identify(old)

    asyncio.run(inside())


def test_invented_kids_cause_few_fetches():
    issuer = Issuer()

    async def inside():
        async with running(issuer.verifier()) as verifier:
            await settled(verifier, token())
            for number in range(50):
                with pytest.raises(InvalidKey):
                    await settled(verifier, token(kid=f"x{number}"))
            assert len(issuer.asked) == 1
            issuer.ticks += jwks.COOLDOWN
            for number in range(50):
                with pytest.raises(InvalidKey):
                    await settled(verifier, token(kid=f"y{number}"))
            assert len(issuer.asked) == 2

    asyncio.run(inside())


def test_a_client_that_leaves_costs_the_others_nothing():
    issuer = Issuer()

    async def inside():
        issuer.hold = asyncio.Event()
        async with running(issuer.verifier()) as verifier:
            first = asyncio.create_task(verifier.identify(token(sub="a")).settle())
            second = asyncio.create_task(verifier.identify(token(sub="b")).settle())
            await asyncio.wait_for(issuer.begun.wait(), 10)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            late = verifier.identify(token(sub="c"))  # while the fetch is under way
            issuer.hold.set()
            assert (await second).key == "corp:b" and (await late.settle()).key == "corp:c"
        assert issuer.asked == [KEYS_AT]

    asyncio.run(inside())


@pytest.mark.parametrize(
    "page",
    [OSError(None, "unreachable"), UpstreamError("502"), b"<html>", b"{}", b'{"keys": []}', b"[" * 9000],
)
def test_a_failure_keeps_the_last_good_keys(page):
    issuer = Issuer()

    async def inside():
        async with running(issuer.verifier()) as verifier:
            await settled(verifier, token())
            good = issuer.pages[KEYS_AT]
            issuer.pages[KEYS_AT] = page
            await source_of(verifier).refresh()
            await source_of(verifier).refresh()
            assert verifier.identify(token(sub="b")).key == "corp:b"
            issuer.pages[KEYS_AT] = good
            await source_of(verifier).refresh()
        assert [name for name, _ in issuer.reports] == ["corp", "corp"]
        assert issuer.reports[0][1] and issuer.reports[1][1] == ""

    asyncio.run(inside())


def test_keys_that_were_never_there_are_the_gateways_trouble_and_asked_for_again():
    issuer = Issuer()

    async def inside():
        good = issuer.pages.pop(KEYS_AT)
        async with running(issuer.verifier()) as verifier:
            with pytest.raises(KeysUnavailable) as caught:
                await settled(verifier, token())
            assert (caught.value.status, caught.value.retry_after) == (503, jwks.RETRY)
            with pytest.raises(KeysUnavailable):
                verifier.identify(token())
            issuer.pages[KEYS_AT] = good
            issuer.ticks += jwks.RETRY
            assert (await settled(verifier, token())).key == "corp:ann"
        assert issuer.reports == [("corp", "nothing there"), ("corp", "")]

    asyncio.run(inside())


def test_an_issuer_that_never_answers(monkeypatch):
    monkeypatch.setattr(jwks, "PATIENCE", 0.01)
    issuer = Issuer()

    async def inside():
        issuer.hold = asyncio.Event()
        async with running(issuer.verifier()) as verifier:
            with pytest.raises(KeysUnavailable):
                await settled(verifier, token())
        assert issuer.reports == [("corp", "no answer within 0.01 s")]

    asyncio.run(inside())


def test_without_anybody_who_fetches_nobody_waits_for_ever(monkeypatch):
    monkeypatch.setattr(jwks, "PATIENCE", -0.99)
    with pytest.raises(KeysUnavailable):
        asyncio.run(settled(Issuer().verifier(), token()))


def test_when_keys_are_due():
    issuer = Issuer()

    async def inside():
        source = source_of(issuer.verifier(refresh=600.0))
        assert source.due() == 0
        await source.refresh()
        assert source.due() == 600
        issuer.ticks += 599
        assert source.due() == 1
        issuer.ticks += 5
        assert source.due() == 0
        issuer.pages.clear()
        await source.refresh()
        assert source.due() == jwks.COOLDOWN
        issuer.publish([jwk(RSA_KEY)])
        source = source_of(issuer.verifier(refresh=0.0))
        await source.refresh()
        assert source.due() == float("inf")

    asyncio.run(inside())


def test_a_file_is_read_again(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [jwk(RSA_KEY)]}))
    issuer = Issuer()

    async def inside():
        async with running(issuer.verifier(jwks_url="", jwks_file=str(path))) as verifier:
            assert verifier.identify(token()).key == "corp:ann"
            path.write_text(json.dumps({"keys": [jwk(OTHER_RSA_KEY, "k2")]}))
            new = token(key=OTHER_RSA_KEY, kid="k2")
            with pytest.raises(InvalidKey):
                await settled(verifier, new)
            issuer.ticks += jwks.COOLDOWN
            assert (await settled(verifier, new)).key == "corp:ann"
            path.unlink()
            await source_of(verifier).refresh()
            assert verifier.identify(new).key == "corp:ann"
        assert issuer.asked == [] and "cannot read" in issuer.reports[0][1]

    asyncio.run(inside())


# --- discovery


def discovered(document):
    issuer = Issuer()
    issuer.pages[WELL_KNOWN] = json.dumps(document).encode()

    async def inside():
        async with running(issuer.verifier(jwks_url="", discovery=True)) as verifier:
            try:
                return (await settled(verifier, token())).key
            except KeysUnavailable:
                return issuer.reports[-1][1]

    return asyncio.run(inside()), issuer.asked


def test_discovery_leads_to_the_keys():
    assert discovered({"issuer": ISSUER, "jwks_uri": KEYS_AT}) == ("corp:ann", [WELL_KNOWN, KEYS_AT])


@pytest.mark.parametrize("name", [ISSUER + "/", "https://evil.example", None, [ISSUER]])
def test_discovery_of_another_issuer_is_refused(name):
    reason, asked = discovered({"issuer": name, "jwks_uri": KEYS_AT})
    assert reason == "the discovery document is that of another issuer" and asked == [WELL_KNOWN]


@pytest.mark.parametrize(
    "address", [None, "http://id.example/keys", "file:///etc/passwd", 7, "", "HTTPS://x"]
)
def test_discovery_leads_nowhere_else(address):
    reason, asked = discovered({"issuer": ISSUER, "jwks_uri": address})
    assert "no jwks_uri by https" in reason and asked == [WELL_KNOWN]


# --- which keys are usable


@pytest.mark.parametrize(
    "key",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k1", "alg": "HS256"},
        jwk(RSA_KEY, use="enc"), jwk(RSA_KEY, alg="RS999"), jwk(RSA_KEY, alg="HS256"),
        jwk(RSA_KEY, key_ops=["encrypt"]), jwk(RSA_KEY, key_ops="verify"), jwk(RSA_KEY, kid=7),
        jwk(RSA_KEY, kty="EC"), jwk(RSA_KEY, kty="oct"), jwk(RSA_KEY, kty=["RSA"]), jwk(RSA_KEY, n="!!"),
        jwk(RSA_KEY, n="é"), jwk(RSA_KEY, e=""), jwk(RSA_KEY, n=7), jwk(SHORT_KEY),
        jwk(EC_KEYS["ES256"], crv="secp256k1"), jwk(EC_KEYS["ES256"], crv="Ed25519"),
        jwk(EC_KEYS["ES256"], alg="ES384"), jwk(EC_KEYS["ES256"], x="AAAA"), jwk(ED_KEY, crv="P-256"),
        jwk(ED_KEY, crv="X25519"), jwk(EC_KEYS["ES256"], crv=7), jwk(ec.generate_private_key(ec.SECP256K1())),
        {}, [], "k1", None,
    ],
)  # fmt: skip
def test_a_key_that_is_of_no_use_is_passed_over(key):
    with pytest.raises(ValueError, match="no usable key"):
        key_set(key)
    [usable] = key_set(key, jwk(ED_KEY, "good"))
    assert usable.kid == "good"


def test_a_key_is_for_what_it_is_made_for_and_what_is_accepted():
    keys = {
        "rsa": jwk(RSA_KEY), "pinned": jwk(RSA_KEY, alg="PS256"), "ed": jwk(ED_KEY),
        "p384": jwk(EC_KEYS["ES384"]), "p521": jwk(EC_KEYS["ES512"], use="sig", key_ops=["verify"]),
    }  # fmt: skip
    made = {name: set(key_set(key)[0].algorithms) for name, key in keys.items()}
    assert made == {
        "rsa": {"RS256", "PS256"}, "pinned": {"PS256"}, "ed": {"EdDSA"}, "p384": {"ES384"}, "p521": {"ES512"},
    }  # fmt: skip
    with pytest.raises(ValueError, match="none of the algorithms"):
        key_set(keys["rsa"], algorithms=("ES256",))


def test_a_set_is_bounded():
    assert len(key_set(*[jwk(ED_KEY, f"k{number}") for number in range(150)])) == jwks.MOST_KEYS
    with pytest.raises(ValueError, match="longer than"):
        jwks.key_set(b" " * (jwks.MOST_BYTES + 1), ALL)


# --- reload


def test_a_reload_keeps_what_has_been_fetched():
    issuer = Issuer()

    async def inside():
        async with running(issuer.verifier()) as verifier:
            await settled(verifier, token())
        again = issuer.verifier(previous=verifier, roles=("viewer",))
        assert again.identify(token()).roles == ("viewer",)
        other = issuer.verifier(configured(jwks_url="https://id.example/other"), previous=verifier)
        assert isinstance(other.identify(token()), PendingToken)
        assert len(issuer.asked) == 1

    asyncio.run(inside())


def test_times_of_the_issuer_that_is_there_now_count_after_a_reload():
    issuer = Issuer()

    async def inside():
        async with running(issuer.verifier(leeway=0.0)) as verifier:
            await settled(verifier, token())
        again = issuer.verifier(previous=verifier, leeway=60.0, refresh=60.0)
        assert again.identify(token(exp=NOW - 30)).key == "corp:ann"
        async with running(again):
            await asyncio.sleep(0)
            assert source_of(again).due() == 60.0

    asyncio.run(inside())


def test_a_token_that_comes_while_keys_are_fetched_waits_for_them():
    """Also for the first fetch of all, which nobody asked for."""
    issuer = Issuer()

    async def inside():
        issuer.hold = asyncio.Event()
        verifier = issuer.verifier()
        async with running(verifier):
            await issuer.begun.wait()
            waiting = [asyncio.create_task(settled(verifier, token())) for _ in range(3)]
            await asyncio.sleep(0)
            issuer.hold.set()
            assert {(await one).key for one in waiting} == {"corp:ann"}
        assert len(issuer.asked) == 1

    asyncio.run(inside())
