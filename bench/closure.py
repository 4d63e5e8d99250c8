"""Bytes on disk of a distribution and all it needs: `PYTHON closure.py NAME[EXTRA] [FOLDER]`.

Run by the Python whose packages are meant, so it uses nothing but the standard library and what pip brings
along. FOLDER: where they lie, if not in that Python's own place. Prints {distribution: bytes}. Python itself
does not count.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement
from pip._vendor.packaging.utils import canonicalize_name


def closure(wanted: str, path: list[str] | None) -> dict[str, int]:
    found = {
        canonicalize_name(one.metadata["Name"]): one
        for one in (metadata.distributions(path=path) if path else metadata.distributions())
        if one.metadata["Name"]
    }
    sizes: dict[str, int] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(wanted)]
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        distribution = found.get(name)
        if distribution is None:  # for another platform, or of an extra that is not asked for
            continue
        sizes.setdefault(name, size(distribution))
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in distribution.requires or []:
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({"extra": extra}):
                    waiting.append(needed)
    return sizes


def size(distribution: metadata.Distribution) -> int:
    total = 0
    for file in distribution.files or []:
        try:
            total += Path(str(file.locate())).stat().st_size
        except OSError:
            continue
    return total


if __name__ == "__main__":
    print(json.dumps(closure(sys.argv[1], sys.argv[2:] or None)))
