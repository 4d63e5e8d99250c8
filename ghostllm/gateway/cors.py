"""Cross-origin requests from browsers, as the Fetch standard's CORS protocol has it."""

from __future__ import annotations

from ghostllm.config.schema import Cors
from ghostllm.message import Pairs, Request

EXPOSED = (
    b"x-request-id, retry-after, x-should-retry, x-ratelimit-limit-requests, x-ratelimit-remaining-requests, "
    b"x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, "
    b"x-ratelimit-reset-tokens, x-ghostllm-budget"
)


class CorsPolicy:
    """Header fields that tell a browser what its page may see. Without origins configured there are none."""

    def __init__(self, cors: Cors) -> None:
        self._any = "*" in cors.origins
        self._origins = frozenset(origin.encode() for origin in cors.origins)
        self._headers = b", ".join(header.encode() for header in cors.headers if header != "*")
        self._any_header = "*" in cors.headers
        self._max_age = b"%d" % cors.max_age
        self._credentials = cors.credentials

    def answer_headers(self, request: Request) -> Pairs:
        """For every answer to a request that carries an Origin."""
        origin = request.headers.get(b"origin")
        if origin is None or not self._origins:
            return ()
        if not self._any and origin not in self._origins:
            return ((b"vary", b"origin"),)
        headers: Pairs = (
            (b"access-control-allow-origin", b"*" if self._any else origin),
            (b"access-control-expose-headers", EXPOSED),
            (b"vary", b"origin"),
        )
        return (*headers, (b"access-control-allow-credentials", b"true")) if self._credentials else headers

    def preflight_headers(self, request: Request, allow: str) -> Pairs:
        """For the answer to an OPTIONS request, beside `answer_headers`; () for a foreign origin."""
        origin = request.headers.get(b"origin")
        if origin is None or not (self._any or origin in self._origins):
            return ()
        asked = request.headers.get(b"access-control-request-headers", b"")
        return (
            (b"access-control-allow-methods", allow.encode()),
            (b"access-control-allow-headers", asked if self._any_header and asked else self._headers),
            (b"access-control-max-age", self._max_age),
        )
