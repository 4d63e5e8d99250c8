"""The gateways that are compared; one that is not on this machine is skipped, and says how to get it.

Peers out of PyPI live in virtual environments below `.cache` (`peers`, and `litellm`, which pins much), the
one out of npm in `.cache/portkey`.
"""

from __future__ import annotations

from bench.peers.gateways import Compiled, GhostLLM, LiteLLM, Portkey, Smg, VllmRouter
from bench.peers.peer import ROOT, Peer
from bench.peers.proxies import Direct, Envoy, Nginx

__all__ = ["ALL", "ROOT", "Peer", "chosen"]

ALL: list[type[Peer]] = [Direct, Nginx, Envoy, VllmRouter, Smg, Portkey, LiteLLM, GhostLLM, Compiled]


def chosen(names: list[str]) -> tuple[list[type[Peer]], list[str]]:
    """Those that are wanted and here, `direct` always; and a line for each that is not. No names: all.

    Raises ValueError for a name that nobody has.
    """
    known = {peer.name for peer in ALL}
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no peer {unknown[0]!r}; there are {', '.join(sorted(known))}")
    here, skipped = [], []
    for peer in ALL:
        if names and peer.name not in {*names, "direct"}:
            continue
        if (reason := peer.missing()) is None:
            here.append(peer)
        else:
            skipped.append(f"skipped: {peer.name}: {reason}")
    return here, skipped
