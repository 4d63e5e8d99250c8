"""What a page of another site in a manager's browser cannot do. Whether the manager's key may do it has been
decided before, by the groups of the routes.
"""

from __future__ import annotations

import functools

from ghostllm.errors import Forbidden
from ghostllm.message import Exchange, Request
from ghostllm.ports import Handler, Responder, Work

OWN_HEADER = b"x-ghostllm-admin"


def reading(handler: Handler) -> Handler:
    """Raises Forbidden for the client."""

    @functools.wraps(handler)
    def guarded(exchange: Exchange, responder: Responder) -> Work | None:
        _check(exchange.request)
        return handler(exchange, responder)

    return guarded


def changing(handler: Handler) -> Handler:
    """As `reading`, for what changes something."""

    @functools.wraps(handler)
    def guarded(exchange: Exchange, responder: Responder) -> Work | None:
        _check(exchange.request)
        if not _deliberate(exchange.request):
            raise Forbidden(
                "this changes something, and could have been sent by a page that somebody looks at: "
                "send `x-ghostllm-admin: 1` or `content-type: application/json` with it"
            )
        return handler(exchange, responder)

    return guarded


def _check(request: Request) -> None:
    headers = request.headers
    # A browser that has no key to give needs none where no keys are configured, whatever page asks it to, and
    # server.cors may let any page read the answers: that is for the models, not for this.
    origin = headers.get(b"origin")
    if origin is not None and origin.partition(b"://")[2].lower() != headers.get(b"host", b"").lower():
        raise Forbidden("the admin API is not for pages of other sites (the Origin is not this Host)")


def _deliberate(request: Request) -> bool:
    """A page of another site cannot send these without asking first, and is then told no."""
    kind = request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
    return request.headers.get(OWN_HEADER) == b"1" or kind == b"application/json"
