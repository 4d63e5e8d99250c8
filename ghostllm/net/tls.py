"""TLS towards upstreams: always verified unless the configuration says otherwise by name."""

from __future__ import annotations

import ssl

Context = ssl.SSLContext


def client_context(*, verify: bool = True, ca_file: str = "") -> ssl.SSLContext:
    """A context for upstream connections; ca_file is trusted in addition to the system's. Raises OSError,
    SSLError.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
