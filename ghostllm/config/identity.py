"""The schema of who may come in and what they may do: roles, issuers of tokens, anonymous clients.

Part of `schema`, which see for how a field is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Literal, get_args

from ghostllm.config.constraints import Count, Form, Pattern
from ghostllm.config.kinds import ModelName, Name, Seconds, Secret

Group = Literal[
    "chat", "embeddings", "rerank", "audio", "images", "moderations", "files", "models", "models:write",
    "metrics", "admin:read", "admin:write", "admin:keys",
]  # fmt: skip
"""What a request does, as far as permissions tell requests apart: every route and method has one."""

GROUPS: frozenset[str] = frozenset(get_args(Group))
BUILT_IN_ROLES = ("admin", "operator", "user", "viewer")

RoleName = Annotated[str, Pattern("[A-Za-z0-9][A-Za-z0-9._-]*", "a name of letters, digits, . _ and -")]
Moment = Annotated[
    str,
    Pattern(
        r"[0-9]{4}-[0-9]{2}-[0-9]{2}([T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?(Z|[+-][0-9]{2}:[0-9]{2})?)?",
        "a date or a time such as 2027-01-31 or 2027-01-31T18:00:00Z",
    ),
]
"""UTC where no offset is given; a date is its first moment."""
WebAddress = Annotated[
    str, Pattern(r"https?://[^\s#@/?]+([/?][^\s#]*)?", "an http(s) address without credentials and fragment")
]
"""Unlike a backend's, it may have a query."""
Algorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
    "ES256", "ES384", "ES512", "EdDSA",
]  # fmt: skip


def moment(text: str) -> float:
    """Seconds since 1970 of a Moment. Raises ValueError for a day or an hour that does not exist."""
    read = datetime.fromisoformat(text)
    return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()


@dataclass(slots=True, frozen=True, kw_only=True)
class KeyAccess:
    """What a key may do, and until when."""

    roles: Annotated[
        tuple[RoleName, ...], 'What it may do; empty: "user", or "admin" where `manage` is set.'
    ] = ()
    team: Annotated[Name | Literal[""], "Whom its use is counted for, beside itself; empty: nobody."] = ""
    expires: Annotated[Moment | Literal[""], "It opens nothing from then on; empty: never."] = ""


@dataclass(slots=True, frozen=True, kw_only=True)
class Role:
    """A role beside the built-in ones: admin, operator, user, viewer."""

    name: Annotated[RoleName, "Unique; none of the built-in ones."]
    allow: Annotated[
        tuple[Literal["*", "admin:*"] | Group, ...],
        Count(1),
        'What it may do; "*" is everything, "admin:*" the whole admin API.',
    ]
    models: Annotated[
        tuple[ModelName, ...], "Names or patterns (*, ?, [..]) of models it may do that with; empty: all."
    ] = ()


@dataclass(slots=True, frozen=True, kw_only=True)
class Claims:
    """Where a token says what. A path goes down by dots: `realm_access.roles`; a claim of exactly that name
    is found first.
    """

    key: Annotated[str, Pattern(".+", "the path of a claim"), "Who it is: text."] = "sub"
    roles: Annotated[str, "Its roles there: a list of texts, or one with spaces between; empty: none."] = ""
    team: Annotated[str, "Its team: text; empty: none."] = ""
    limits: Annotated[str, "The name of its limits: text; empty: none."] = ""


@dataclass(slots=True, frozen=True, kw_only=True)
class JwtIssuer:
    """Somebody whose tokens (JWT) are taken as credentials; needs the extra `jwt`."""

    name: Annotated[RoleName, "Unique; logs and metrics show a client as NAME:its-key-claim."]
    issuer: Annotated[str, Pattern(r"\S+", "text without spaces"), "The exact `iss` of its tokens."]
    audience: Annotated[tuple[str, ...], Count(1), "A token's `aud` must name one of these."]
    algorithms: Annotated[
        tuple[Algorithm, ...], Count(1), "Signatures that are accepted; what the token says changes nothing."
    ] = ("RS256",)
    secret: Annotated[Secret | None, "HS256, HS384, HS512: the shared secret, 32 bytes or more."] = None
    jwks_url: Annotated[WebAddress | Literal[""], "Where its public keys are (JWKS), best by https."] = ""
    jwks_file: Annotated[str, Form("file"), "A file that holds them instead."] = ""
    discovery: Annotated[
        bool, "Find them by OpenID Connect: ISSUER/.well-known/openid-configuration has their address."
    ] = False
    refresh: Annotated[Seconds, "The keys are fetched again after this; 0 = only for an unknown one."] = (
        3600.0
    )
    leeway: Annotated[Seconds, "How far clocks may disagree, in seconds."] = 30.0
    claims: Annotated[Claims, "Where a token says what."] = field(default_factory=Claims)
    role_map: Annotated[
        Mapping[str, tuple[RoleName, ...]],
        "Roles here for each role there; one that is not named counts for nothing.",
    ] = field(default_factory=dict)
    roles: Annotated[tuple[RoleName, ...], "Roles of whoever has a valid token, beside those mapped."] = (
        "user",
    )
    models: Annotated[
        tuple[ModelName, ...],
        "Names or patterns (*, ?, [..]) of models that its clients may use; empty: all.",
    ] = ()
    team: Annotated[Name | Literal[""], "Their team, where the token names none."] = ""
    limits: Annotated[Name | Literal[""], "The name of their limits, where the token names none."] = ""


@dataclass(slots=True, frozen=True, kw_only=True)
class Anonymous:
    """Clients that need no key, by where they are."""

    name: Annotated[Name, "Unique among these and the keys; what logs and metrics show."] = "anonymous"
    networks: Annotated[
        tuple[Annotated[str, Form("network")], ...],
        Count(1),
        'Where they are: "192.168.1.0/24"; everywhere is "0.0.0.0/0" and "::/0".',
    ]
    roles: Annotated[tuple[RoleName, ...], "What they may do."] = ("user",)
    models: Annotated[
        tuple[ModelName, ...], "Names or patterns (*, ?, [..]) of models they may use; empty: all."
    ] = ()
    team: Annotated[Name | Literal[""], "Whom their use is counted for."] = ""
    limits: Annotated[Name | Literal[""], "The name of their limits."] = ""
    placeholders: Annotated[
        tuple[Name, ...], "Keys that stand for none: client libraries insist on sending something."
    ] = ("EMPTY", "none", "dummy", "ollama", "no-key", "sk-no-key-required")
