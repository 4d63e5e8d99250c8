"""An issuer of tokens with real keys, and the addresses at which it publishes them."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ghostllm.config.identity import JwtIssuer
from ghostllm.policy.issuers import World
from ghostllm.policy.roles import RoleBook
from ghostllm.policy.tokens import TokenVerifier

NOW = 1_900_000_000.0
ISSUER = "https://id.example/realm"
KEYS_AT = "https://id.example/keys"
WELL_KNOWN = "https://id.example/realm/.well-known/openid-configuration"

RSA_KEY = rsa.generate_private_key(65537, 2048)
OTHER_RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEYS = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "ES384": ec.generate_private_key(ec.SECP384R1()),
    "ES512": ec.generate_private_key(ec.SECP521R1()),
}
ED_KEY = ed25519.Ed25519PrivateKey.generate()
SECRET = "s" * 64


def private_key(algorithm):
    if algorithm.startswith("HS"):
        return SECRET
    return EC_KEYS.get(algorithm) or (ED_KEY if algorithm == "EdDSA" else RSA_KEY)


def jwk(key, kid="k1", **members):
    name = "RS256" if isinstance(key, rsa.RSAPrivateKey) else "EdDSA" if key is ED_KEY else "ES256"
    made = jwt.get_algorithm_by_name(name).to_jwk(key.public_key(), as_dict=True)
    made.pop("key_ops", None)
    return {**made, "kid": kid, **members}


def pem(key):
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def claims(**changed):
    usual = {"iss": ISSUER, "sub": "ann", "aud": "gateway", "exp": NOW + 600, "iat": NOW}
    return {name: value for name, value in {**usual, **changed}.items() if value is not None}


def token(algorithm="RS256", key=None, kid="k1", headers=None, **changed):
    header = {**({"kid": kid} if kid is not None else {}), **(headers or {})}
    made = jwt.encode(claims(**changed), key or private_key(algorithm), algorithm, header)
    return made.encode()


def configured(**changed):
    usual = {"name": "corp", "issuer": ISSUER, "audience": ("gateway",), "jwks_url": KEYS_AT}
    return JwtIssuer(**{**usual, **changed})


class Issuer:
    """pages: what is at which address; an exception is raised. A page may be changed at any time."""

    def __init__(self, keys=None):
        self.pages = {}
        self.asked = []
        self.reports = []
        self.time = NOW
        self.ticks = 100.0
        self.hold = None
        self.begun = asyncio.Event()
        self.publish(keys or [jwk(RSA_KEY)])

    def publish(self, keys, at=KEYS_AT):
        self.pages[at] = json.dumps({"keys": keys}).encode()

    async def fetch(self, address):
        self.asked.append(address)
        self.begun.set()
        await asyncio.sleep(0)
        if self.hold is not None:
            await self.hold.wait()
        page = self.pages.get(address, OSError(None, "nothing there"))
        if isinstance(page, Exception):
            raise page
        return page

    @property
    def world(self):
        return World(
            fetch=self.fetch,
            report=lambda name, reason: self.reports.append((name, reason)),
            clock=lambda: self.time,
            ticks=lambda: self.ticks,
        )

    def verifier(self, *issuers, book=None, previous=None, **changed):
        return TokenVerifier(issuers or [configured(**changed)], book or RoleBook(), self.world, previous)


@asynccontextmanager
async def running(verifier):
    task = asyncio.create_task(verifier.run())
    try:
        yield verifier
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def settled(verifier, given):
    """The identity of a token, whether or not keys have to be fetched for it."""
    found = verifier.identify(given)
    return await found.settle() if hasattr(found, "settle") else found
