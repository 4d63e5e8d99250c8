"""The schema of how backends are found. Part of `schema`, which see for how a field is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ghostllm.config.constraints import Form, Pattern, Range
from ghostllm.config.kinds import Kind, Name, Number, Seconds, Secret, Size, Weight

Port = Annotated[int, Range(0, 65535)]
HostName = Annotated[str, Pattern(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?", "a host name")]


@dataclass(slots=True, frozen=True, kw_only=True)
class DnsSource:
    """Backends behind a DNS name: one for each of its addresses, looked up again and again."""

    name: Annotated[Name, "Backends are called after it: NAME-ADDRESS-PORT."]
    host: Annotated[HostName, "The name to look up."]
    record: Annotated[
        Literal["address", "srv"], '"address": A and AAAA; "srv": SRV, with ports and weights (extra "dns").'
    ] = "address"
    port: Annotated[Port, "Port of the servers; srv records have their own."] = 8000
    tls: Annotated[bool, "They are spoken to by https."] = False
    kind: Annotated[Kind, '"auto" asks each server what it is.'] = "auto"
    api_key: Annotated[Secret | None, "Sent as bearer token to these backends only."] = None
    weight: Annotated[Weight, "Share of requests of each."] = 1.0
    max_inflight: Annotated[Number, "Most requests at one time, for each; 0 = no limit."] = 0


@dataclass(slots=True, frozen=True, kw_only=True)
class KubernetesSource:
    """Backends behind a Kubernetes service, watched through the API with the pod's own token."""

    name: Annotated[Name, "Backends are called after it: NAME-ADDRESS-PORT."]
    service: Annotated[HostName, "The service whose ready endpoints are the backends."]
    namespace: Annotated[HostName | Literal[""], "Its namespace; empty: the pod's own."] = ""
    port: Annotated[str, "Name or number of the port; empty: the only one, or the first."] = ""
    tls: Annotated[bool, "They are spoken to by https."] = False
    kind: Annotated[Kind, '"auto" asks each server what it is.'] = "auto"
    api_key: Annotated[Secret | None, "Sent as bearer token to these backends only."] = None
    weight: Annotated[Weight, "Share of requests of each."] = 1.0
    max_inflight: Annotated[Number, "Most requests at one time, for each; 0 = no limit."] = 0


@dataclass(slots=True, frozen=True, kw_only=True)
class Discovery:
    """Finding LLM servers without being told."""

    local: Annotated[bool, "Look for servers on this machine when no backend is configured."] = True
    timeout: Annotated[Seconds, "Longest wait for a candidate's answer, in seconds."] = 0.5
    interval: Annotated[Seconds, "Between two looks, in seconds; 0 = only at start."] = 30.0
    file: Annotated[
        str,
        "A TOML, YAML or JSON file with [[backends]] as here, read again whenever it changes; empty: none.",
    ] = ""
    network: Annotated[
        tuple[Annotated[str, Form("network")], ...],
        'Networks to look through for LLM servers, such as "192.168.1.0/24"; empty: none.',
    ] = ()
    ports: Annotated[
        tuple[Annotated[int, Range(1, 65535)], ...],
        "Ports to look at there; empty: those that LLM servers use.",
    ] = ()
    addresses: Annotated[Size, "Most addresses of one network."] = 1024
    dns: Annotated[tuple[DnsSource, ...], "Names whose addresses are backends."] = ()
    kubernetes: Annotated[tuple[KubernetesSource, ...], "Services whose endpoints are backends."] = field(
        default=()
    )
