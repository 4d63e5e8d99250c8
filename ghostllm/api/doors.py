"""The doors by name: `Call.door` says through which one a call came."""

from __future__ import annotations

from collections.abc import Mapping

from ghostllm.api.openai import door as openai
from ghostllm.api.translation import Dialect

DIALECTS: Mapping[str, Dialect] = {"openai": openai}
