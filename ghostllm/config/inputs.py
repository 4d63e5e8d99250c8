"""Everything that a configuration is made of, kept so that it can be made again while the gateway runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ghostllm.config.load import load_text
from ghostllm.config.schema import Config
from ghostllm.config.sources import find_file, read_text


class Source(NamedTuple):
    """A file as it was read. name: its path, "" where there is no file."""

    name: str
    text: str


class Inputs:
    """path: of the file; None: none has been found yet, in which case every reading looks for one anew. Once
    there was one it is this one: a file that is gone is a mistake, not a wish for the defaults.

    profile, overrides, flags: as `load` takes them. environ: read again each time.
    """

    def __init__(
        self,
        path: str | None,
        *,
        environ: Mapping[str, str],
        profile: str | None = None,
        overrides: Sequence[tuple[str, str]] = (),
        flags: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = path or find_file(environ)
        self._environ = environ
        self._profile = profile
        self._overrides = overrides
        self._flags = flags

    def __repr__(self) -> str:
        return f"<Inputs {self.path or 'without a file'}>"

    def read(self) -> Source:
        """Raises ConfigError."""
        if self.path is None:
            self.path = find_file(self._environ)
        return Source(self.path, read_text(self.path)) if self.path else Source("", "")

    def build(self, source: Source) -> Config:
        """The configuration with `source` as its file. Raises ConfigError with every mistake."""
        return load_text(
            source.text if source.name else None,
            source.name,
            profile=self._profile,
            environ=self._environ,
            overrides=self._overrides,
            flags=self._flags,
        )
