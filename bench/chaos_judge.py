"""What came of an answer: whether its client was told the truth about it."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterable
from dataclasses import dataclass

from bench.chaos_doors import Door, Hearing, Question

REPEATED = 12
"""Characters that say the same on both sides of a seam, from which on it is no accident."""
NEAR = 8
"""Characters by which a seam may lie before the place where a text leaves its reference: the same character
may come next by chance.
"""
UNCOUNTED = 24
"""Characters that an answer which was gone on with may lack at its limit. Nobody counts the tokens of a
stream that breaks: the pieces it came in stand for them, and the server's count of the rest is its own.
"""


class Verdict(enum.Enum):
    COMPLETE = "complete"
    RESCUED = "rescued"
    FAILED = "honestly failed"
    LYING = "lying"
    HUNG = "hung"


@dataclass(eq=False)
class Answer:
    """One answer as its client saw it. calm: it was asked for while nothing was disturbed. status: 0 where no
    head came. framed: its body came to its end. began, first: on the loop's clock. rescued: how often
    another backend went on with it, by the gateway's account; None where that is not known.
    """

    door: Door
    question: Question
    hearing: Hearing
    calm: bool
    began: float
    status: int = 0
    framed: bool = False
    hung: bool = False
    backend: str = ""
    request_id: str = ""
    body: bytes = b""
    rescued: int | None = 0

    @property
    def waited(self) -> float | None:
        """Seconds to the first text."""
        return None if self.hearing.first is None else self.hearing.first - self.began


@dataclass(frozen=True)
class Reference:
    """The whole answer to a question, when nothing was disturbed. cut: it reached its limit."""

    text: str
    cut: bool


def judge(answer: Answer, reference: Reference) -> tuple[Verdict, str]:
    """The verdict, and why."""
    hearing = answer.hearing
    if answer.hung:
        return Verdict.HUNG, f"nothing more came, after {len(hearing.text)} characters"
    if answer.status == 0:
        return Verdict.LYING, "the connection was closed without an answer"
    if answer.status != 200:
        told = b'"error"' in answer.body and answer.framed
        return (
            (Verdict.FAILED, f"status {answer.status}") if told else (Verdict.LYING, "an error without one")
        )
    if hearing.after:
        return Verdict.LYING, f"it went on after its end: {hearing.after[0][:100]}"
    if hearing.error is not None:
        return Verdict.FAILED, f"in its stream: {hearing.error}"
    fault = _unfinished(answer) or _shortened(answer, reference)
    if answer.rescued and not fault:
        twice = repeated(hearing.text, reference.text, hearing.seams)
        fault = f"said twice at a seam: {twice!r}" if twice else ""
    if fault:
        return Verdict.LYING, fault
    return (Verdict.RESCUED if answer.rescued else Verdict.COMPLETE), ""


def _unfinished(answer: Answer) -> str:
    """What an answer that tells of no error lacks."""
    hearing = answer.hearing
    if not hearing.ended:
        return "it ended without its terminator and without an error"
    if not answer.framed:
        return "its body has no end"
    return "" if hearing.finish else "it has no finish reason"


def _shortened(answer: Answer, reference: Reference) -> str:
    """Greedy decoding gives the same text again, or by the rounding of another batch another one; never a
    part of it.
    """
    text, whole = answer.hearing.text, reference.text
    if text == whole or not whole.startswith(text):
        return ""
    limited = answer.hearing.finish == answer.door.cut and reference.cut
    if answer.rescued and limited and len(whole) - len(text) <= UNCOUNTED:
        return ""
    return f"cut after {len(text)} of {len(whole)} characters, finish {answer.hearing.finish!r}"


def repeated(text: str, reference: str, seams: Iterable[int]) -> str:
    """What stands on both sides of a seam; "" if nothing. Looked for where the stream said that there is a
    seam, and where it leaves its reference. A text that repeats itself without help is not blamed for it.
    """
    common = len(os.path.commonprefix([text, reference]))
    for place in sorted({*seams, *range(max(0, common - NEAR), common + 1)}):
        before, after = text[:place], text[place:]
        told_again = after.lstrip()[:REPEATED]
        if place >= REPEATED and len(told_again) == REPEATED and before.lstrip().startswith(told_again):
            if not _its_own(told_again, before, reference, place):
                return told_again
        for size in range(min(len(before), len(after)), REPEATED - 1, -1):
            piece = before[-size:]
            if after.startswith(piece) and not _its_own(piece, before, reference, place):
                return piece
    return ""


def _its_own(piece: str, before: str, reference: str, place: int) -> bool:
    """Whether the model repeats that by itself: it had done so before, or does so in the reference."""
    return before.count(piece[-REPEATED:]) > 1 or (
        reference.startswith(before) and reference.startswith(piece.strip(), place)
    )
