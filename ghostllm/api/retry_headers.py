"""The header fields of an error answer that do not depend on the dialect: HTTP's own, and those by which the
SDKs of OpenAI and Anthropic decide whether to try again (both read the same ones).
"""

from __future__ import annotations

import math

from ghostllm.errors import GhostError, MethodNotAllowed, UpstreamError
from ghostllm.message import Pairs


def retry_headers(error: GhostError, status: int) -> Pairs:
    """status: the one that the client sees.

    `retry-after` in seconds, `retry-after-ms`, and `x-should-retry: false` where SDKs would retry by the
    status alone but should not, since the gateway has tried already or trying again cannot help. `allow` and
    `www-authenticate` belong to their statuses (RFC 9110).
    """
    headers: list[tuple[bytes, bytes]] = []
    if isinstance(error, MethodNotAllowed):
        headers.append((b"allow", error.allow.encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.retry_after is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(error.retry_after)))
        headers.append((b"retry-after-ms", b"%d" % math.ceil(error.retry_after * 1000)))
    retried = status in (408, 409, 429) or status >= 500
    if retried and (isinstance(error, UpstreamError) or error.status in (500, 501, 505)):
        headers.append((b"x-should-retry", b"false"))
    return tuple(headers)
