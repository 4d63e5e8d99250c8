"""Keys, tokens and addresses together: which of them decides."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from ghostllm.config.identity import Anonymous
from ghostllm.config.kinds import Secret
from ghostllm.config.schema import KeyConfig
from ghostllm.errors import InvalidKey
from ghostllm.policy.anonymous import AnonymousRules
from ghostllm.policy.authenticator import Authenticator
from ghostllm.policy.issuers import token_verifier
from ghostllm.policy.keyless import OWNER, STRANGER
from ghostllm.policy.keys import KeyRing
from ghostllm.policy.roles import RoleBook
from tests.policy.issuer import RSA_KEY, SECRET, Issuer, configured, running, token

BOOK = RoleBook()
KEYS = KeyRing([KeyConfig(name="ann", key=Secret("gk_ann"))], book=BOOK)
RULES = AnonymousRules([Anonymous(networks=("10.0.0.0/8",))], BOOK)
HS = {"algorithms": ("HS256",), "secret": Secret(SECRET), "jwks_url": ""}


def bearer(credential):
    return {b"authorization": b"Bearer " + credential}


def everything():
    return Authenticator(KEYS, Issuer().verifier(**HS), RULES)


def test_each_is_known_in_its_own_way():
    door = everything()
    assert door.identify(bearer(b"gk_ann"), "10.1.1.1").key == "ann"
    for header in ({b"x-api-key": token("HS256")}, {b"api-key": token("HS256")}, bearer(token("HS256"))):
        assert door.identify(header, "11.1.1.1").key == "corp:ann"
    assert door.identify({}, "10.1.1.1").key == "anonymous"
    assert door.identify(bearer(b"EMPTY"), "10.1.1.1").key == "anonymous"


@pytest.mark.parametrize(
    ("headers", "peer", "words"),
    [
        ({}, "11.1.1.1", "no API key"), ({}, "", "no API key"), (bearer(b""), "11.1.1.1", "no API key"),
        (bearer(b"gk_bob"), "10.1.1.1", "not known here"), (bearer(b"EMPTY"), "11.1.1.1", "not known here"),
        (bearer(token("HS256", key="t" * 64)), "10.1.1.1", "signature is wrong"),
        (bearer(token("RS256", key=RSA_KEY)), "10.1.1.1", "algorithm is not accepted"),
        ({b"authorization": b"Basic Z2tfYW5u"}, "11.1.1.1", "no API key"),
    ],
)  # fmt: skip
def test_who_means_to_be_somebody_and_is_not_is_refused(headers, peer, words):
    with pytest.raises(InvalidKey, match=words):
        everything().identify(headers, peer)


def test_with_nothing_set_up_this_machine_may_all_and_with_anything_not():
    door = Authenticator(KeyRing([]))
    assert door.keyless and door.identify({b"host": b"localhost"}, "127.0.0.1") is OWNER
    assert door.identify({b"host": b"localhost"}, "11.1.1.1") is STRANGER
    for door in (
        Authenticator(KeyRing([]), Issuer().verifier(**HS)), Authenticator(KeyRing([]), anonymous=RULES),
        Authenticator(KEYS),
    ):  # fmt: skip
        assert not door.keyless
        for headers in ({}, bearer(b"gk_x")):
            with pytest.raises(InvalidKey):
                door.identify(headers, "11.1.1.1")


def test_who_has_to_be_waited_for():
    issuer = Issuer()

    async def inside():
        verifier = issuer.verifier()
        door = Authenticator(KEYS, verifier)
        async with running(verifier):
            assert (await door.identify(bearer(token())).settle()).key == "corp:ann"
            assert door.identify(bearer(token())).key == "corp:ann"

    asyncio.run(inside())


def test_without_issuers_no_verifier_and_no_import_of_it():
    assert token_verifier([], BOOK, Issuer().world) is None
    assert token_verifier([configured(**HS)], BOOK, Issuer().world).identify(token("HS256")).key == "corp:ann"
    code = (
        "import sys; sys.modules['jwt'] = None\n"
        "from ghostllm.policy import anonymous, authenticator, issued, issuers, roles\n"
        "from ghostllm.config.identity import JwtIssuer\n"
        "from ghostllm.errors import ConfigError\n"
        "world = issuers.World(fetch=None)\n"
        "issuer = JwtIssuer(name='a', issuer='b', audience=('c',))\n"
        "try: issuers.token_verifier([issuer], roles.RoleBook(), world)\n"
        "except ConfigError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told == "jwt: tokens need an extra: pip install 'ghostllm[jwt]'\n"
