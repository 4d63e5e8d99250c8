"""Which tokens open the door. Every way in that has been found elsewhere is tried here."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json

import jwt as pyjwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from ghostllm.config.kinds import Secret
from ghostllm.errors import ConfigError, InvalidKey
from ghostllm.policy import tokens as module
from ghostllm.policy.compact import LONGEST
from ghostllm.policy.jwks import key_set
from ghostllm.policy.jwt import verified
from tests.policy.issuer import (
    EC_KEYS,
    ED_KEY,
    ISSUER,
    NOW,
    OTHER_RSA_KEY,
    RSA_KEY,
    SECRET,
    Issuer,
    claims,
    configured,
    jwk,
    pem,
    private_key,
    running,
    settled,
    token,
)

SIGNED = [
    ("RS256", jwk(RSA_KEY)), ("RS384", jwk(RSA_KEY)), ("RS512", jwk(RSA_KEY)),
    ("PS256", jwk(RSA_KEY)), ("PS384", jwk(RSA_KEY)), ("PS512", jwk(RSA_KEY)),
    *((name, jwk(key)) for name, key in EC_KEYS.items()), ("EdDSA", jwk(ED_KEY)),
]  # fmt: skip


def outcome(*given_tokens, issuer=None, **config):
    """What each of the tokens leads to: an identity, or the words of the refusal."""
    issuer = issuer or Issuer()

    async def inside():
        async with running(issuer.verifier(**config)) as verifier:
            return [await one(verifier, each) for each in given_tokens]

    async def one(verifier, each):
        try:
            return await settled(verifier, each)
        except InvalidKey as error:
            return error.message

    results = asyncio.run(inside())
    return results[0] if len(results) == 1 else results


def segment(value):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=")


def forged(header, payload, signature=b"x"):
    return b".".join((segment(header), segment(payload), segment(signature)))


def hs256(header, payload, secret):
    signing = segment(header) + b"." + segment(payload)
    return signing + b"." + segment(hmac.digest(secret, signing, hashlib.sha256))


@pytest.mark.parametrize(("algorithm", "key"), SIGNED)
def test_every_algorithm_of_public_keys(algorithm, key):
    identity = outcome(token(algorithm), issuer=Issuer([key]), algorithms=(algorithm,))
    assert (identity.key, identity.roles, identity.source) == ("corp:ann", ("user",), "token")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_every_algorithm_of_shared_secrets(algorithm):
    issuer = Issuer()
    config = {"algorithms": (algorithm,), "secret": Secret(SECRET), "jwks_url": ""}
    assert outcome(token(algorithm, kid=None), issuer=issuer, **config).key == "corp:ann"
    assert outcome(token(algorithm, kid="any"), issuer=issuer, **config).key == "corp:ann"
    wrong = token(algorithm, key="t" * 64)
    assert "signature is wrong" in outcome(wrong, issuer=issuer, **config)
    assert issuer.asked == []


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE", "", "HS256", "RS512", "rs256"])
def test_the_algorithm_is_that_of_the_configuration(algorithm):
    for signature in (b"", b"x"):
        made = segment({"alg": algorithm, "kid": "k1"}) + b"." + segment(claims()) + b"." + segment(signature)
        assert "not accepted" in outcome(made)


@pytest.mark.parametrize(
    "material", [pem(RSA_KEY), pem(RSA_KEY).strip(), json.dumps(jwk(RSA_KEY)).encode(), b""]
)
def test_a_public_key_is_no_shared_secret(material):
    """Algorithm confusion: an HMAC over the token, keyed with the issuer's own public key."""
    made = hs256({"alg": "HS256", "kid": "k1"}, claims(), material)
    assert "algorithm is not accepted" in outcome(made)
    posing = hs256({"alg": "RS256", "kid": "k1"}, claims(), material)
    assert "signature is wrong" in outcome(posing)
    with_secret = {"algorithms": ("HS256",), "secret": Secret(SECRET), "jwks_url": ""}
    assert "signature is wrong" in outcome(made, **with_secret)


def test_a_key_of_one_kind_verifies_no_other_algorithm():
    """An issuer that accepts several still binds each key to what it is made for."""
    keys = [jwk(RSA_KEY, "k1"), jwk(EC_KEYS["ES256"], "k2"), jwk(RSA_KEY, "k3", alg="RS512")]
    config = {"algorithms": ("RS256", "ES256", "RS512")}
    assert outcome(token("ES256", kid="k2"), issuer=Issuer(keys), **config).key == "corp:ann"
    for made in (token("ES256", kid="k1"), token("RS256", kid="k2"), token("RS256", kid="k3")):
        assert "no such key" in outcome(made, issuer=Issuer(keys), **config)


def test_a_signature_is_looked_at_only_with_what_the_key_is_for():
    made = token("RS256")
    [broad] = key_set(json.dumps({"keys": [jwk(RSA_KEY)]}).encode(), ("RS256", "PS256"))
    [narrow] = key_set(json.dumps({"keys": [jwk(RSA_KEY)]}).encode(), ("PS256",))
    assert json.loads(verified(made, broad, "RS256"))["sub"] == "ann"
    assert verified(made, broad, "PS256") is None and verified(made, narrow, "RS256") is None


EVIL = {"kty": "oct", "k": segment(b"evil").decode()}


@pytest.mark.parametrize(
    "headers",
    [
        {"jku": "https://evil.example/keys"}, {"x5u": "https://evil.example/cert"}, {"jwk": EVIL},
        {"x5c": ["AAAA"]}, {"jwk": jwk(OTHER_RSA_KEY)},
    ],
)  # fmt: skip
def test_keys_that_a_token_brings_along_are_not_looked_at(headers):
    issuer = Issuer()
    made = token(key=OTHER_RSA_KEY, headers=headers)
    assert "signature is wrong" in outcome(made, issuer=issuer)
    assert set(issuer.asked) == {"https://id.example/keys"}
    assert outcome(token(headers=headers), issuer=issuer).key == "corp:ann"


@pytest.mark.parametrize(
    "kid",
    ["../../etc/passwd", "/dev/null", "https://evil.example/keys", "k1' OR '1'='1", "k1\0", "K1", " k1"],
)
def test_a_kid_is_only_compared(kid):
    issuer = Issuer()
    assert "no such key" in outcome(token(kid=kid), issuer=issuer)
    assert issuer.asked == ["https://id.example/keys"]


def test_a_kid_is_short_text():
    for kid in (7, None, ["k1"], {"a": 1}, "k" * 1000):
        assert "kid is no text" in outcome(forged({"alg": "RS256", "kid": kid}, claims()))


def test_without_a_kid_the_only_key_is_meant():
    made = token(kid=None)
    assert outcome(made).key == "corp:ann"
    assert "no such key" in outcome(made, issuer=Issuer([jwk(RSA_KEY, "k1"), jwk(OTHER_RSA_KEY, "k2")]))


@pytest.mark.parametrize(
    "extension", [{"crit": ["exp"], "exp": 1}, {"b64": False}, {"crit": []}, {"b64": True}]
)
def test_extensions_are_refused(extension):
    assert "extension" in outcome(forged({"alg": "RS256", "kid": "k1", **extension}, claims()))


@pytest.mark.parametrize("kind", ["logout+jwt", "dpop+jwt", "JWE", "", 1, None])
def test_tokens_of_other_types_are_refused(kind):
    header = {"alg": "RS256", "kid": "k1", "typ": kind}
    signing = segment(header) + b"." + segment(claims())
    algorithm = pyjwt.get_algorithm_by_name("RS256")
    assert "another type" in outcome(signing + b"." + segment(algorithm.sign(signing, RSA_KEY)))
    assert outcome(token(headers={"typ": "at+JWT"})).key == "corp:ann"


def test_a_name_that_stands_twice_is_refused():
    """Two readers could take it for two different things."""
    for header, payload in (
        (b'{"alg":"RS256","kid":"k1","kid":"k2"}', json.dumps(claims()).encode()),
        (b'{"alg":"none","alg":"RS256","kid":"k1"}', json.dumps(claims()).encode()),
        (b'{"alg":"RS256","kid":"k1"}', json.dumps(claims()).encode()[:-1] + b',"sub":"root"}'),
        (b'{"alg":"RS256","kid":"k1"}', b'{"iss":"x",' + json.dumps(claims()).encode()[1:]),
    ):
        signing = segment(header) + b"." + segment(payload)
        signature = pyjwt.get_algorithm_by_name("RS256").sign(signing, RSA_KEY)
        assert "stands twice" in outcome(signing + b"." + segment(signature))


def test_a_token_is_bounded():
    assert outcome(token(padding="p" * (LONGEST // 2))).key == "corp:ann"
    assert f"longer than {LONGEST}" in outcome(token(padding="p" * LONGEST))
    nested = b"[" * 9_000
    assert "no sound JSON" in outcome(forged({"alg": "RS256"}, nested))
    assert "no sound JSON" in outcome(forged(b"[" * 9_000, b"{}"))


def test_times():
    leeway = {"leeway": 30.0}
    good = [
        claims(), claims(exp=NOW - 29), claims(nbf=NOW + 30), claims(iat=NOW + 30), claims(iat=None),
        claims(exp=int(NOW) + 1),
    ]  # fmt: skip
    for each in good:
        assert outcome(token(**each), **leeway).key == "corp:ann"
    for words, each in (
        ("has expired", claims(exp=NOW - 30)), ("does not hold yet", claims(nbf=NOW + 31)),
        ("issued in the future", claims(iat=NOW + 31)), ("has expired", claims(exp=-1)),
    ):  # fmt: skip
        assert words in outcome(signed(each), **leeway)
    assert "has no expiry" in outcome(signed({**claims(), "exp": None}))


def signed(payload, text=None):
    """With whatever claims, also those that no library writes."""
    signing = segment({"alg": "RS256", "kid": "k1"}) + b"." + segment(text or json.dumps(payload).encode())
    return signing + b"." + segment(pyjwt.get_algorithm_by_name("RS256").sign(signing, RSA_KEY))


@pytest.mark.parametrize("name", ["exp", "nbf", "iat"])
@pytest.mark.parametrize("value", ['"1900000600"', "true", "[]", "1e999", "-1e999", "1" + "0" * 400, "{}"])
def test_a_time_is_a_number(name, value):
    text = json.dumps({**claims(), name: "HERE"}).replace('"HERE"', value)
    assert f"its {name} is no" in outcome(signed(None, text.encode()))


def test_numbers_that_json_does_not_have():
    text = json.dumps({**claims(), "exp": float("nan")}).encode()
    assert "NaN is no number" in outcome(signed(None, text))


@pytest.mark.parametrize("audience", ["gateway", ["gateway"], ["other", "gateway"], [7, "gateway"]])
def test_an_audience_that_names_the_gateway(audience):
    assert outcome(signed(claims(aud=audience))).key == "corp:ann"


@pytest.mark.parametrize(
    "audience",
    ["other", "gatewa", "gateway2", "gateway other", [], ["other"], None, 7, {"gateway": 1}, [["gateway"]]],
)
def test_an_audience_that_does_not(audience):
    assert "another audience" in outcome(signed({**claims(), "aud": audience}))


@pytest.mark.parametrize("issuer", [ISSUER + "/", ISSUER.upper(), ISSUER[:-1], "https://evil.example", ""])
def test_an_issuer_is_compared_as_a_whole(issuer):
    assert "issuer is not known" in outcome(token(iss=issuer))
    assert "names no issuer" in outcome(signed({**claims(), "iss": [ISSUER]}))


def test_an_issuer_speaks_for_itself_only():
    """Two issuers, one key each: a token of one signed with the key of the other is none."""
    issuer = Issuer()
    issuer.publish([jwk(OTHER_RSA_KEY)], "https://two.example/keys")
    two = configured(name="two", issuer="https://two.example", jwks_url="https://two.example/keys")

    async def inside():
        async with running(issuer.verifier(configured(), two)) as verifier:
            assert (await settled(verifier, token())).key == "corp:ann"
            other = token(key=OTHER_RSA_KEY, iss="https://two.example")
            assert (await settled(verifier, other)).key == "two:ann"
            for made in (token(key=OTHER_RSA_KEY), token(iss="https://two.example")):
                with pytest.raises(InvalidKey, match="signature is wrong"):
                    await settled(verifier, made)

    asyncio.run(inside())


def test_a_token_is_known_by_the_whole_of_it():
    """CVE-2026-35030: a cache that is asked with the first characters lets strangers in."""
    issuer = Issuer()
    good = token()
    header, payload, signature = good.split(b".")
    other = segment({**claims(), "sub": "root"})
    strangers = [
        good[:-2], good[:20] + b"A" * (len(good) - 20), b".".join((header, other, signature)),
        b".".join((header, payload, signature[:-4] + b"AAAA")), good + b"A",
    ]  # fmt: skip

    async def inside():
        async with running(issuer.verifier()) as verifier:
            assert (await settled(verifier, good)).key == "corp:ann"
            for stranger in strangers:
                with pytest.raises(InvalidKey):
                    await settled(verifier, stranger)
            assert verifier.identify(good) is verifier.identify(good)
            assert len(verifier._known) == 1

    asyncio.run(inside())


def test_a_token_that_is_known_expires_all_the_same():
    issuer = Issuer()

    async def inside():
        async with running(issuer.verifier(leeway=30.0)) as verifier:
            made = token(exp=NOW + 100)
            assert (await settled(verifier, made)).key == "corp:ann"
            issuer.time = NOW + 129.9
            assert verifier.identify(made).key == "corp:ann"
            issuer.time = NOW + 130
            with pytest.raises(InvalidKey, match="has expired"):
                verifier.identify(made)
            assert len(verifier._known) == 0

    asyncio.run(inside())


def test_what_is_known_is_bounded(monkeypatch):
    monkeypatch.setattr(module, "MOST_KNOWN", 5)
    issuer = Issuer()

    async def inside():
        async with running(issuer.verifier()) as verifier:
            made = [token(sub=f"s{number}") for number in range(12)]
            for each in made:
                await settled(verifier, each)
            assert len(verifier._known) == 5
            assert verifier.identify(made[0]).key == "corp:s0"

    asyncio.run(inside())


def test_a_verified_token_costs_no_second_look(monkeypatch):
    issuer = Issuer()

    async def inside():
        async with running(issuer.verifier()) as verifier:
            made = token()
            first = await settled(verifier, made)
            monkeypatch.setattr(module, "verified", None)  # would be an error
            assert verifier.identify(made) is first

    asyncio.run(inside())


def test_what_is_a_token_at_all():
    verifier = Issuer().verifier()
    assert verifier.could_be(token())
    for key in (b"gk_abc", b"sk-a.b.c", b"eyJhbGciOi", b"", b"ey.a", b"ey.a.b.c"):
        assert not verifier.could_be(key)


def test_a_key_file_that_cannot_be_used_is_told_at_the_start(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text('{"keys": []}')
    with pytest.raises(ConfigError, match="jwt: corp: the key set has no usable key: it is empty"):
        Issuer().verifier(jwks_url="", jwks_file=str(path))
    with pytest.raises(ConfigError, match="cannot read .*No such file"):
        Issuer().verifier(jwks_url="", jwks_file=str(tmp_path / "none.json"))
    path.write_text(json.dumps({"keys": [jwk(RSA_KEY)]}))
    assert Issuer().verifier(jwks_url="", jwks_file=str(path)).identify(token()).key == "corp:ann"


def test_nothing_of_a_token_is_shown():
    verifier = Issuer().verifier(algorithms=("HS256",), secret=Secret(SECRET), jwks_url="")
    made = token("HS256")
    verifier.identify(made)
    assert SECRET not in repr(verifier) and "ann" not in repr(verifier)
    with pytest.raises(InvalidKey) as caught:
        verifier.identify(token("HS256", key="t" * 64, sub="somebody"))
    assert "somebody" not in caught.value.message


# --- anything at all

VERIFIER = Issuer().verifier(algorithms=("HS256",), secret=Secret(SECRET), jwks_url="")
GOOD = token("HS256")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(["alg", "kid", "typ", "crit", "iss", "sub", "aud", "exp", "nbf", "iat"])


def refused(made):
    try:
        return VERIFIER.identify(made).key != "corp:ann"
    except InvalidKey:
        return True


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_noise_is_refused(noise):
    assert refused(noise)
    assert refused(b"ey." + noise)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=3))
def test_a_changed_token_is_refused(place, put):
    changed = GOOD[:place] + put + GOOD[place + len(put) :]
    assert changed == GOOD or refused(changed)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(NAMES, JSON), st.dictionaries(NAMES, JSON))
def test_strange_headers_and_claims_are_refused_or_read(header, payload):
    """Signed with the right secret, so that what is behind the signature is met, too."""
    made = hs256({"alg": "HS256", **header}, {**claims(), **payload}, SECRET.encode())
    try:
        identity = VERIFIER.identify(made)
    except InvalidKey:
        return
    assert identity.key.startswith("corp:") and identity.key.isascii() and identity.key.isprintable()
    assert payload.get("iss", ISSUER) == ISSUER and payload.get("exp", NOW + 600) > NOW - 30


def test_a_private_key_in_the_wrong_place_still_verifies():
    made = pyjwt.get_algorithm_by_name("RS256").to_jwk(RSA_KEY, as_dict=True)
    made = {**made, "kid": "k1", "key_ops": ["sign", "verify"]}
    assert "d" in made and isinstance(private_key("RS256"), rsa.RSAPrivateKey)
    assert outcome(token(), issuer=Issuer([made])).key == "corp:ann"
