"""The clients of the chaos: each asks one question after another, through all doors in turn."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass

from bench.chaos_doors import DOORS, Door, Question
from bench.chaos_judge import Answer
from tests.fakes.raw import split

PATIENCE = 240.0
"""Seconds after which an answer hangs: the gateway's own limits are well within."""

QUESTIONS = (
    Question("Count from 1 to 60, separated by commas.", 48),
    Question("Name the months of the year.", 40),
    Question("What is 2+2?", 32),
    Question("Write a short poem about the sea.", 64),
    Question("Explain in one paragraph what a river is.", 64),
    Question("Why is the sky blue?", 56),
    Question("List the planets of the solar system.", 48),
    Question("Tell me how to make tea.", 60),
)


@dataclass(eq=False)
class Crowd:
    """answers: all that are over. open: those under way."""

    address: str
    seed: int
    answers: list[Answer]
    open: set[Answer]
    calm: bool = True
    running: bool = False

    def streaming(self, backend: str) -> list[Answer]:
        """The answers that a backend is in the middle of, as far as their clients can tell."""
        return [
            answer
            for answer in self.open
            if answer.backend == backend and answer.hearing.first is not None and not answer.hearing.ended
        ]

    async def run(self, clients: int, seconds: float) -> None:
        """Returns when the last answer that was begun in that time is over."""
        self.running = True
        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(self._client(number))
            await asyncio.sleep(seconds)
            self.running = False

    async def _client(self, number: int) -> None:
        chance = random.Random(f"{self.seed} {number} {self.calm}")
        while self.running:
            door = DOORS[number % len(DOORS)]
            number += 1
            await self.ask(door, chance.choice(QUESTIONS))

    async def ask(self, door: Door, question: Question) -> Answer:
        now = asyncio.get_running_loop().time()
        answer = Answer(door, question, door.hearing(), self.calm, now)
        self.open.add(answer)
        try:
            async with asyncio.timeout(PATIENCE):
                await self._exchange(answer)
        except TimeoutError:
            answer.hung = True
        except (EOFError, ConnectionError):
            pass  # what is missing is seen from what is there
        self.open.discard(answer)
        self.answers.append(answer)
        return answer

    async def _exchange(self, answer: Answer) -> None:
        reader, writer = await asyncio.open_connection(*split(self.address))
        try:
            writer.write(answer.door.request(answer.question))
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            answer.status = int(head.split(" ", 2)[1])
            fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
            answer.backend = fields.get("x-ghostllm-backend", "")
            answer.request_id = fields["x-request-id"]
            if "content-length" in fields:
                answer.body = await reader.readexactly(int(fields["content-length"]))
            else:
                await self._stream(reader, answer)
            answer.framed = True
        finally:
            writer.transport.abort()

    async def _stream(self, reader: asyncio.StreamReader, answer: Answer) -> None:
        clock = asyncio.get_running_loop().time
        while size := int(await reader.readline() or b"", 16):
            data = await reader.readexactly(size + 2)
            answer.hearing.feed(data[:-2], clock())
        await reader.readexactly(2)
