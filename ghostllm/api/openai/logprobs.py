"""Logprobs of OpenAI's answers to neutral ones: chat's list of tokens, and the parallel lists of completions.

They are no part of the answer itself, so what is not understood of them is left out: a server with an odd
idea of a token's probability has still answered.
"""

from __future__ import annotations

from typing import Any, TypeGuard

from ghostllm.api.canonical import TokenLogprob


def chat(member: Any) -> tuple[TokenLogprob, ...]:
    content = member.get("content") if isinstance(member, dict) else None
    return _tokens(content)


def completion(member: Any) -> tuple[TokenLogprob, ...]:
    """The first token of an echoed prompt has no probability, and is left out."""
    if not isinstance(member, dict):
        return ()
    if isinstance(member.get("content"), list):  # llama.cpp: chat's form
        return _tokens(member["content"])
    tokens, chances, tops = (member.get(name) for name in ("tokens", "token_logprobs", "top_logprobs"))
    if not isinstance(tokens, list) or not isinstance(chances, list):
        return ()
    others = tops if isinstance(tops, list) and len(tops) == len(tokens) else [None] * len(tokens)
    return tuple(
        TokenLogprob(token, chance, top=_top(top))
        for token, chance, top in zip(tokens, chances, others, strict=False)
        if isinstance(token, str) and _is_number(chance)
    )


def _top(top: Any) -> tuple[TokenLogprob, ...]:
    if not isinstance(top, dict):
        return ()
    return tuple(TokenLogprob(token, chance) for token, chance in top.items() if _is_number(chance))


def _tokens(values: Any) -> tuple[TokenLogprob, ...]:
    if not isinstance(values, list):
        return ()
    return tuple(read for value in values if (read := _token(value)) is not None)


def _token(value: Any) -> TokenLogprob | None:
    if not isinstance(value, dict):
        return None
    token, chance = value.get("token"), value.get("logprob")
    if not isinstance(token, str) or not _is_number(chance):
        return None
    return TokenLogprob(token, chance, _bytes(value.get("bytes")), _tokens(value.get("top_logprobs")))


def _bytes(octets: Any) -> tuple[int, ...] | None:
    if not isinstance(octets, list) or not all(type(octet) is int and 0 <= octet < 256 for octet in octets):
        return None
    return tuple(octets)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
