"""The error tree. An error says what happened once; each front-door dialect renders it in its own shape
(`api`).

Class attributes, so that raising the right class is choosing them: `status` and `code`; `retryable`, whether
the same request may be tried on another target (trouble of the upstream, not a fault of the request);
`repeatable`, whether it may be tried once more on the same one.
"""

from __future__ import annotations


class GhostError(Exception):
    """Something the client must be told.

    status: HTTP status. code: machine-readable word (OpenAI's vocabulary) or None. param: path of the
    offending request field. retry_after: seconds until trying again makes sense.
    """

    status: int = 500
    code: str | None = None
    retryable: bool = False
    repeatable: bool = False

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after = retry_after

    def forget(self) -> None:
        """Lets go of the frames it was raised in: who keeps an error would keep the whole request with it, in
        a ring that only the collector undoes.
        """
        self.__traceback__ = self.__context__ = self.__cause__ = None


class RequestError(GhostError):
    """The request itself is at fault; no backend could serve it."""

    status = 400


class FramingError(RequestError):
    """The bytes on the connection are not a sound HTTP request: answered, then the connection is closed."""


class InvalidKey(RequestError):
    status = 401
    code = "invalid_api_key"


class Forbidden(RequestError):
    status = 403


class NotFound(RequestError):
    status = 404


class ModelNotFound(RequestError):
    status = 404
    code = "model_not_found"


class MethodNotAllowed(RequestError):
    status = 405

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class RequestTimeout(RequestError):
    status = 408


class BodyTooLarge(RequestError):
    status = 413


class TargetTooLong(RequestError):
    status = 414


class UnsupportedMediaType(RequestError):
    status = 415


class ExpectationFailed(RequestError):
    status = 417


class HeadTooLarge(RequestError):
    status = 431


class UnsupportedParameter(RequestError):
    code = "unsupported_parameter"


class UnsupportedValue(RequestError):
    code = "unsupported_value"


class BytesWanted(UnsupportedValue):
    """The backend takes images as bytes only, and the request has one by URL."""


class AddressRefused(RequestError):
    """Somebody else's choice of an address that nothing is fetched from."""

    code = "address_refused"


class ContextLengthExceeded(RequestError):
    code = "context_length_exceeded"


class FetchFailed(GhostError):
    """Something that is not a backend's could not be fetched."""

    status = 502
    code = "fetch_failed"


class NotImplementedHere(GhostError):
    """A known path or method that this gateway does not serve."""

    status = 501


class VersionNotSupported(GhostError):
    status = 505


class Overloaded(GhostError):
    """No capacity here: too many connections, no target able to take the request, or shutting down."""

    status = 503
    code = "overloaded"


class AddressFull(GhostError):
    """One client address has as many connections or requests in flight as it may."""

    status = 429
    code = "address_limit"


class QueueFull(GhostError):
    """More requests wait for a turn than may: asking again later is all that helps."""

    status = 429
    code = "queue_full"


class UpstreamError(GhostError):
    """A backend failed. Before the first content has gone to the client, the next target is tried."""

    status = 502
    code: str | None = "upstream_error"
    retryable = True
    repeatable = True


class UpstreamConnectError(UpstreamError):
    """Refused, unreachable, unresolvable, or the TLS handshake failed: nothing was sent."""

    code = "upstream_unreachable"


class UpstreamRefused(UpstreamConnectError):
    """Nothing listens there."""


class UpstreamResting(UpstreamError):
    """The backend has failed so often that it is left alone, and another request is finding out whether it
    is well again: nothing was sent.
    """

    status = 503
    code = "upstream_resting"
    repeatable = False


class UpstreamProtocolError(UpstreamError):
    """The backend's bytes are not what its dialect says: bad framing, not JSON, an empty answer."""

    code = "upstream_invalid_response"


class UpstreamCut(UpstreamError):
    """The answer ended before it was whole."""

    code = "upstream_incomplete"


class UpstreamTimeout(UpstreamError):
    """A time limit fired; `limit` is one of connect, load, head, first_token, idle, total."""

    status = 504
    code = "upstream_timeout"
    repeatable = False  # who has kept the client waiting once is not waited for again

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message)
        self.limit = limit


class CannotContinue(UpstreamError):
    """This backend cannot go on with an answer that broke off elsewhere: it knows no way to, or what was said
    so far cannot be taken up (a tool call half made). No word on its health.
    """

    code = "upstream_cannot_continue"
    repeatable = False


class UpstreamAnswered(UpstreamError):
    """The backend answered with an error of its own, in words that may be passed on.

    upstream_status: what it said. Which of its errors are the request's fault (and so not tried elsewhere) is
    decided by `retryable`, set per instance; `code` likewise follows the backend's.
    """

    def __init__(
        self,
        message: str,
        *,
        upstream_status: int,
        status: int,
        code: str | None,
        retryable: bool,
        param: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, param=param, retry_after=retry_after)
        self.upstream_status = upstream_status
        self.status = status
        self.code = code
        self.retryable = retryable
        self.repeatable = retryable and (upstream_status == 429 or upstream_status >= 500)


class ConfigError(Exception):
    """The configuration cannot be used. `problems` lists every mistake, each a line with its place."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
