"""What the cache refuses. Apart from the rest, as the classes of errors are not compiled."""

from __future__ import annotations

from ghostllm.errors import GhostError


class NotCached(GhostError):
    """`only-if-cached`, and there is nothing (RFC 9111 section 5.2.1.7)."""

    status = 504
    code = "not_cached"
