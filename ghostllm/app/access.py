"""Who may come in, from the configuration and the state file: keys of both, tokens of others, addresses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ghostllm.config.schema import Config
from ghostllm.errors import ConfigError
from ghostllm.net.guarded import GuardedClient, guarded_client
from ghostllm.observe.log import Logger
from ghostllm.policy.anonymous import AnonymousRules
from ghostllm.policy.authenticator import Authenticator
from ghostllm.policy.issued import USE_SECONDS, IssuedKeys
from ghostllm.policy.issuers import World, hosts, token_verifier
from ghostllm.policy.keyhash import KeyHash, make_secret
from ghostllm.policy.keys import KeyRing
from ghostllm.policy.roles import RoleBook
from ghostllm.ports import Authenticator as AnyAuthenticator
from ghostllm.state.database import Database
from ghostllm.state.keys import KeyTable

if TYPE_CHECKING:
    from ghostllm.policy.tokens import TokenVerifier

LARGEST_DOCUMENT = 1 << 20


class Access:
    """authenticator: by the configuration that was applied last. issued: keys made at run time, hashed by
    hasher. They are there once it is open. told: where nodes share keys, waits until the others can know of
    what was changed; False: they hear of it later. Raises ConfigError for issuers whose tokens cannot be
    verified here.
    """

    authenticator: AnyAuthenticator
    issued: IssuedKeys
    hasher: KeyHash

    def __init__(self, config: Config, log: Logger) -> None:
        self.config = config
        self.book = RoleBook(config.roles)
        self._log = log
        self._client = _client_of(config)
        self._world = World(fetch=self._fetch, report=self._report)
        self._tokens: TokenVerifier | None = token_verifier(config.jwt, self.book, self._world)
        self._changed = asyncio.Event()
        self.told: Callable[[], Awaitable[bool]] | None = None

    def __repr__(self) -> str:
        return f"<Access {self.authenticator!r}>"

    async def open(self, database: Database) -> None:
        """Takes up the keys of the state file. Raises GhostError when it cannot be read."""
        table, secret = KeyTable(database), self.config.state.key_secret
        self.hasher = KeyHash(
            await table.secret(make_secret()) if secret is None else secret.reveal().encode()
        )
        self.issued = IssuedKeys(table, self.hasher, self.book)
        if strange := await self.issued.load(purge=not shares_keys(self.config)):
            self._log.warning("keys of another state file's secret open nothing", keys=strange)
        self._put_up(self.config, self.book)

    def prepare(self, config: Config) -> Callable[[], None]:
        """Another configuration, which holds once what this returns is called. Keys made at run time and what
        has been fetched of issuers stay. Raises ConfigError.
        """
        book = RoleBook(config.roles)
        client = _client_of(config)
        tokens = token_verifier(config.jwt, book, self._world, self._tokens)

        def commit() -> None:
            self._client = client
            self._tokens = tokens
            self.issued.set_roles(book)
            self._put_up(config, book)
            self._changed.set()

        return commit

    def _put_up(self, config: Config, book: RoleBook) -> None:
        self.config, self.book = config, book
        ring = KeyRing(config.keys, book=book, hasher=self.hasher, made=self.issued.made)
        rules = AnonymousRules(config.anonymous, book) if config.anonymous else None
        whole = Authenticator(ring, self._tokens, rules)
        self.authenticator = ring if self._tokens is None and rules is None else whole
        self.issued.keyless = whole.keyless
        self.issued.reserve([*(key.name for key in config.keys), *(rule.name for rule in config.anonymous)])

    # --- as long as the gateway runs

    async def run(self) -> None:
        """Fetches the keys of issuers, and writes down when keys were used; for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._note_uses())
            group.create_task(self._fetch_keys())

    def close(self) -> None:
        """Before the state file is closed."""
        self.issued.note_uses()

    async def _note_uses(self) -> None:
        while True:
            await asyncio.sleep(USE_SECONDS)
            self.issued.note_uses()

    async def _fetch_keys(self) -> None:
        while True:
            self._changed.clear()
            async with asyncio.TaskGroup() as group:
                fetching = group.create_task(self._tokens.run()) if self._tokens is not None else None
                await self._changed.wait()
                if fetching is not None:
                    fetching.cancel()

    async def _fetch(self, address: str) -> bytes:
        return await self._client.body(address)

    def _report(self, issuer: str, reason: str) -> None:
        if reason:
            self._log.warning("keys of an issuer not fetched", issuer=issuer, reason=reason)
        else:
            self._log.info("keys of an issuer fetched again", issuer=issuer)


def shares_keys(config: Config) -> bool:
    """Whether keys made at run time are those of all nodes."""
    return bool(config.redis.url) and config.state.key_secret is not None


def check_issuers(config: Config) -> None:
    """Raises ConfigError where tokens cannot be verified: an extra is missing, or a file of keys is none."""
    token_verifier(config.jwt, RoleBook(config.roles), World(fetch=_client_of(config).body))


def _client_of(config: Config) -> GuardedClient:
    """What fetches keys. The hosts that the configuration names may be anywhere; where their documents and
    redirects lead may not. Raises ConfigError.
    """
    try:
        return guarded_client(config.outbound, LARGEST_DOCUMENT, hosts(config.jwt))
    except OSError as error:
        raise ConfigError([f"outbound.tls_ca: {error.strerror or error}"]) from None
