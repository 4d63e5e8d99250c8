"""How many tokens a conversation has, roughly: for clients that ask beforehand, where no backend can count.

A rule of thumb, not a tokeniser: vocabularies differ by more than any one of them could tell. Of English,
vocabularies of today make a token of about four bytes, of source code one of three to four; of Chinese,
Japanese and Korean one of a character or a little less; of other scripts (Cyrillic, Greek, Arabic, Hindi) one
of two or three characters, which have two or three bytes each. So a byte of UTF-8 counts a quarter, and a
character that has three bytes or more counts as one token: too many rather than too few, for those who ask
want to know whether something fits.
"""

from __future__ import annotations

import re
from functools import cache

BYTES_PER_TOKEN = 4
PER_CONVERSATION = 3  # what a template puts in front of the answer
PER_MESSAGE = 4  # role and marks around a turn
PER_TOOL = 12  # marks around the description of a tool
TOOLING = 60  # the template's words on how to call any tool
PER_CALL = 8  # marks around a call or a result
PER_IMAGE = 1_100  # about a megapixel at Anthropic (pixels / 750, at most 1600) and at OpenAI (765 to 1105)
PER_PAGE = 2_000  # of a file: Anthropic counts 1,500 to 3,000 for one page of a PDF
PAGE_BYTES = 50_000  # base64 that makes one page
AUDIO_BYTES_PER_TOKEN = 4_000  # base64 of 16-bit samples at 16 kHz: about ten tokens a second


@cache
def _wide() -> re.Pattern[str]:
    """Characters of three or four bytes in UTF-8. Made when needed: it is a table of them all."""
    return re.compile("[\u0800-\U0010ffff]")


def estimate_text(text: str) -> int:
    """Tokens of a plain text."""
    if text.isascii():
        return -(-len(text) // BYTES_PER_TOKEN)
    narrow, wide = _wide().subn("", text)
    return -(-len(narrow.encode("utf-8", "replace")) // BYTES_PER_TOKEN) + wide
