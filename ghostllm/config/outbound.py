"""The schema of what is fetched from addresses that somebody else has chosen.

Part of `schema`, which see for how a field is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ghostllm.config.constraints import Form, Range
from ghostllm.config.kinds import Number, Size


@dataclass(slots=True, frozen=True, kw_only=True)
class Outbound:
    """Addresses that come from clients and from documents: images, the keys of token issuers."""

    allow: Annotated[
        tuple[Annotated[str, Form("reach")], ...],
        'What may be reached beside the open internet: "10.1.0.0/16", "images.lan", "*.lan".',
    ] = ()
    images: Annotated[
        Literal["pass", "fetch", "always", "refuse"],
        'Images by URL: "pass" on; "fetch" for backends that take bytes only; "always" fetch; "refuse".',
    ] = "pass"
    image_bytes: Annotated[Size, "Largest image that is fetched; all of a request: limits.body_bytes."] = (
        10_485_760
    )
    image_count: Annotated[Size, "Most images that are fetched for one request; above: 400."] = 20
    seconds: Annotated[float, Range(0.001), "Longest time that one fetch may take, redirects included."] = (
        10.0
    )
    redirects: Annotated[
        Number, "Most redirects that are followed; each is looked at as the first address."
    ] = 3
    tls_ca: Annotated[
        str, Form("file"), "PEM file of certificate authorities to trust beside the system's."
    ] = ""
