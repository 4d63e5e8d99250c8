"""What a request has by URL: images, and other media that some server would fetch if it were passed on.

Looked for where the dialects have content, and nowhere else: the arguments of a tool may well be addresses,
and nobody fetches those.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

IMAGE, OTHER = "image", "other"

_ROOTS = ("messages", "input", "system")
_INSIDE = ("content", "output")  # the latter: a tool's result in Responses
_MEDIA = {"image_url": IMAGE, "video_url": OTHER, "audio_url": OTHER, "file_url": OTHER}


@dataclass(slots=True, frozen=True)
class Link:
    """holder: the object whose member `member` is the URL, or the object that has it. param: its path."""

    kind: str
    url: str
    param: str
    holder: dict[str, Any]
    member: str

    def put(self, media_type: str, data: str) -> None:
        """Puts the image in the URL's place: media type, base64."""
        if self.member == "source":
            self.holder["source"] = {"type": "base64", "media_type": media_type, "data": data}
            return
        url = f"data:{media_type};base64,{data}"
        inner = self.holder[self.member]
        self.holder[self.member] = {**inner, "url": url} if isinstance(inner, dict) else url


def links(fields: Mapping[str, Any]) -> list[Link]:
    """Of the body of a call, in whichever dialect. Without recursion: a client may nest as deep as JSON
    goes.
    """
    return [link for name in _ROOTS for link in links_in(fields.get(name), name)]


def links_in(parts: Any, param: str) -> list[Link]:
    """Of a list of messages, items or parts; `param` is its path."""
    found: list[Link] = []
    left: list[tuple[Any, str]] = [(parts, param)]
    while left:
        parts, param = left.pop()
        if not isinstance(parts, list):
            continue
        for index, part in enumerate(parts):
            if isinstance(part, dict):
                place = f"{param}[{index}]"
                found += _of_part(part, place)
                left += [(part[name], f"{place}.{name}") for name in _INSIDE if name in part]
                source = part.get("source")
                if isinstance(source, dict):  # a document of Anthropic's may be made of parts
                    left.append((source.get("content"), f"{place}.source.content"))
    return found


def _of_part(part: dict[str, Any], place: str) -> Iterator[Link]:
    for member, kind in _MEDIA.items():
        value = part.get(member)
        if isinstance(value, dict):
            url, at = value.get("url"), f"{place}.{member}.url"
        else:
            url, at = value, f"{place}.{member}"
        if _leads_out(url):
            yield Link(kind, url, at, part, member)
    source = part.get("source")
    if isinstance(source, dict) and source.get("type") == "url" and _leads_out(source.get("url")):
        kind = IMAGE if part.get("type") == "image" else OTHER
        yield Link(kind, source["url"], f"{place}.source.url", part, "source")
    file = part.get("file")
    data = file.get("file_data") if isinstance(file, dict) else None
    if isinstance(data, str) and "://" in data[:20]:
        yield Link(OTHER, data, f"{place}.file.file_data", part, "file")


def _leads_out(url: Any) -> TypeGuard[str]:
    """Whatever is no data URL: servers read paths of files, too."""
    return isinstance(url, str) and url[:5].lower() != "data:"
