"""JSON, by orjson where it loads and by the standard library where it does not (a zipapp cannot load native
modules).

Both give `dumps` -> compact UTF-8 bytes, `canonical` -> the same with the members of objects in order, so
that equal values are equal bytes, and `loads` <- bytes-like or str. `loads` raises `DecodeError` (a
ValueError) on anything that is not JSON, on invalid UTF-8 and lone surrogates, on NaN, Infinity and numbers
that are as good as infinite, and on nesting too deep to parse; its message says where.
"""

from __future__ import annotations

import json
import math
import os
import re
from typing import Any

try:
    if os.environ.get("GHOSTLLM_PURE") == "1":  # the test suite runs once more this way: as a zipapp would
        raise ImportError
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment]

DecodeError = json.JSONDecodeError
"""orjson's own is one of these."""

if orjson is not None:
    BACKEND = "orjson"
    dumps = orjson.dumps
    loads = orjson.loads

    def canonical(value: Any) -> bytes:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

else:
    BACKEND = "json"
    _encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode

    def dumps(value: Any) -> bytes:
        return _encode(value).encode("utf-8", "replace")

    # ASCII: surrogates that stand alone must not become one and the same character.
    _ordered = json.JSONEncoder(separators=(",", ":"), allow_nan=False, sort_keys=True).encode

    def canonical(value: Any) -> bytes:
        return _ordered(value).encode("ascii")

    _SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

    def _refuse(name: str) -> Any:
        raise DecodeError(f"{name} is not JSON", "", 0)

    def _finite(digits: str) -> float:
        value = float(digits)
        if math.isinf(value):
            raise DecodeError("a number is too large", "", 0)
        return value

    def _check_surrogates(value: Any) -> None:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise DecodeError("half of a surrogate pair in a string", "", 0) from None

    def loads(data: bytes | bytearray | memoryview | str) -> Any:
        try:
            text = data if isinstance(data, str) else str(data, "utf-8")
            value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
            if _SURROGATE.search(text) is not None:
                _check_surrogates(value)
            return value
        except RecursionError:
            raise DecodeError("nested too deeply", "", 0) from None
        except DecodeError:
            raise
        except ValueError as error:
            raise DecodeError(str(error), "", 0) from None
