"""Images by URL, fetched here: for backends that take bytes only, or for all, so that none of them goes where
a client sends it (`outbound.images`).
"""

from __future__ import annotations

import asyncio
from base64 import b64encode

from ghostllm import jsonx
from ghostllm.api.links import IMAGE, Link, links, links_in
from ghostllm.api.responses.door import ResponsesCall
from ghostllm.config.outbound import Outbound
from ghostllm.errors import BodyTooLarge, GhostError, RequestError, UnsupportedValue
from ghostllm.message import Call
from ghostllm.net.guarded import GuardedClient, guarded_client

AT_ONCE = 16  # fetches of the whole gateway under way; further ones wait
ACCEPT = b"image/png, image/jpeg, image/webp, image/gif"
_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


class Pictures:
    """most: bytes of all images of one request. first: whether a request is looked at before any backend is
    asked.
    """

    def __init__(self, config: Outbound, most: int, client: GuardedClient) -> None:
        self._config = config
        self._most = most
        self._client = client
        self._turns = asyncio.Semaphore(AT_ONCE)
        self.first = config.images in ("always", "refuse")

    def __repr__(self) -> str:
        return f"<Pictures {self._config.images}>"

    def wanted(self, call: Call) -> bool:
        """Whether there is something to be fetched. Raises RequestError for what may not be sent."""
        found = _links_of(call)
        for link in found:
            if self._config.images == "refuse" or link.kind != IMAGE:
                what = "images" if link.kind == IMAGE else "media"
                raise UnsupportedValue(f"{what} by URL are not taken here: send the data", param=link.param)
        return bool(found)

    def helps(self, call: Call) -> bool:
        """Whether there are images to be fetched: once they have been, there are none."""
        return any(link.kind == IMAGE for link in _links_of(call))

    async def inline(self, call: Call) -> None:
        """Puts the bytes in the place of the URLs, in the call's fields and its body. Raises GhostError for
        the client.
        """
        fresh = jsonx.loads(call.body)  # the call's own fields may be another's as well
        found = [link for link in links(fresh) if link.kind == IMAGE]
        earlier = None
        if isinstance(call, ResponsesCall) and (call.previous or call.references):
            earlier = jsonx.loads(jsonx.dumps([call.previous, call.references]))
            found += [link for link in _earlier(*earlier) if link.kind == IMAGE]
        await self._fetch(found)
        try:
            body = jsonx.dumps(fresh)
        except (TypeError, ValueError, RecursionError):  # parsers take what writers do not: depth, for one
            raise RequestError("the body is nested too deeply") from None
        call.fields, call.body = fresh, body
        if earlier is not None and isinstance(call, ResponsesCall):
            call.previous, call.references = earlier

    async def _fetch(self, found: list[Link]) -> None:
        first = {link.url: link for link in reversed(found)}
        if len(first) > self._config.image_count:
            raise RequestError(
                f"{len(first)} images by URL: at most {self._config.image_count} are fetched for a request",
                param=found[self._config.image_count].param,
            )
        left = [self._most]
        tasks = [asyncio.ensure_future(self._one(link, left)) for link in first.values()]
        try:
            pictures = dict(zip(first, await asyncio.gather(*tasks), strict=True))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for link in found:
            link.put(*pictures[link.url])

    async def _one(self, link: Link, left: list[int]) -> tuple[str, str]:
        """Media type and base64 of one image. left: bytes that the whole request may still have."""
        try:
            async with self._turns:
                answer = await self._client.get(link.url, ACCEPT)
        except GhostError as error:
            raise _unfetched(error.message, link) from None
        kind = _kind(answer.body)
        if not kind:
            said = answer.headers.get(b"content-type", b"nothing").decode("latin-1")[:100]
            raise _unfetched(f"it is no png, jpeg, webp or gif (content-type: {said!r})", link)
        left[0] -= len(answer.body)
        if left[0] < 0:
            raise BodyTooLarge(f"with its images the request exceeds {self._most} bytes", param=link.param)
        return kind, b64encode(answer.body).decode()


def pictures(config: Outbound, most: int) -> Pictures | None:
    """None where images by URL are passed on as they are. Raises OSError (SSLError too) for a tls_ca that
    cannot be used.
    """
    if config.images == "pass":
        return None
    return Pictures(config, most, guarded_client(config, config.image_bytes))


def _links_of(call: Call) -> list[Link]:
    found = links(call.fields)
    if isinstance(call, ResponsesCall):
        found += _earlier(call.previous, call.references)
    return found


def _earlier(previous: list[dict[str, object]], references: dict[str, dict[str, object]]) -> list[Link]:
    """Of the turns before, and of items that the input refers to."""
    return [
        *links_in(previous, "previous_response_id"),
        *(link for item in references.values() for link in links_in([item], "input")),
    ]


def _unfetched(why: str, link: Link) -> RequestError:
    error = RequestError(f"the image cannot be fetched: {why}", param=link.param)
    error.code = "invalid_image_url"
    return error


def _kind(data: bytes) -> str:
    """By its first bytes: what a server says of a file is not always so. "" for no image."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for signature, kind in _SIGNATURES if data.startswith(signature)), "")
