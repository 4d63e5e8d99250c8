"""Secrets by reference: `env:NAME` and `file:PATH`, or the literal itself. No message here holds a value."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LARGEST_FILE = 65_536
"""Bytes. A key is short; a path to something large is a mistake."""


def read_secret(text: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The value behind `text`, and its origin ("" for a literal). Raises ValueError saying why not."""
    scheme, colon, rest = text.partition(":")
    if colon and scheme == "env":
        return _from_environment(rest, environ), text
    if colon and scheme == "file":
        return _from_file(rest), text
    return text, ""


def key_fault(value: str) -> str | None:
    """Keys travel in a header field: visible ASCII without spaces."""
    if not value:
        return "is empty"
    return None if re.fullmatch("[!-~]+", value) else "holds spaces or characters other than visible ASCII"


def field_fault(value: str) -> str | None:
    """A header field's value: printable ASCII, no space around it (RFC 9110 section 5.5)."""
    return (
        None
        if re.fullmatch(r"(?:[!-~](?:[\t -~]*[!-~])?)?", value)
        else "is not a header value: printable ASCII only"
    )


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    if not name:
        raise ValueError("env: needs a variable's name after the colon")
    value = environ.get(name)
    if value is None:
        raise ValueError(f"environment variable {ascii(name)[1:-1]} is not set")
    return value


def _from_file(path: str) -> str:
    """The content without the newline that editors and `echo` put at the end."""
    shown = ascii(path)[1:-1]
    try:
        with open(path, "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        raise ValueError(f"cannot read {shown}: {reason}") from None
    if len(content) > _LARGEST_FILE:
        raise ValueError(f"{shown} is larger than {_LARGEST_FILE} bytes: not a secret")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ValueError(f"{shown} is not UTF-8 text") from None
