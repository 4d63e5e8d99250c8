"""Going on with a stream of which the client has been given a part, by whatever backend.

Two ways, tried in this order. The rest of a text can be asked for: the conversation is sent with the text so
far as the assistant's last, unfinished message, where the server knows how to go on with one; a plain text
goes on by itself. Where that cannot be (a call half made, an output bound by a grammar) and the request
leaves nothing to chance, it is sent again as it was, and nothing of the new answer is given out until it has
repeated all that was told. Everything else is CannotContinue.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ghostllm import jsonx
from ghostllm.api.anthropic import kept as anthropic
from ghostllm.api.canonical import Continuation, Conversation
from ghostllm.api.continued import Beginning, continued, lowered
from ghostllm.api.doors import neutral
from ghostllm.api.ollama import kept as ollama
from ghostllm.api.openai import kept as openai
from ghostllm.api.replay import Repetition, Rest
from ghostllm.api.resumed import Passed, Resumed
from ghostllm.api.told import Said, Telling, Told
from ghostllm.api.translation import Mint, Neutral, Reader, Translation
from ghostllm.errors import CannotContinue, RequestError
from ghostllm.message import Call, UpstreamRequest
from ghostllm.ports import Answer

GRAMMARS = (
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "grammar",
    "json_schema", "regex", "ebnf", "prediction", "echo", "continue_final_message", "add_generation_prompt",
    "chat_template", "prompt_logprobs",
)  # fmt: skip
"""Members of local servers that bind an answer from its first token on, or that say how it begins."""

Members = dict[str, Any]
Prepare = Callable[[Call, Mapping[str, Any]], tuple[UpstreamRequest, Answer]]


@dataclass(slots=True, frozen=True, kw_only=True)
class Server:
    """What is to be known of the backend that is to go on.

    label: how errors name it. prepare: as the backend's own, for its model. adapt: changes the body of a chat
    request that ends with the beginning of the answer; None where the server knows no way to go on with one.
    thoughts: it takes the thinking that led to a text. created, mint: as for writers.
    """

    label: str
    prepare: Prepare
    adapt: Callable[[Members], None] | None
    thoughts: bool
    created: int
    mint: Mint


def resume(
    call: Call, extra: Mapping[str, Any], broken: Answer, server: Server
) -> tuple[UpstreamRequest, Answer]:
    """See ports.Translator. Raises CannotContinue."""
    if not isinstance(broken, Telling) or not call.stream:
        raise CannotContinue("nobody has kept what the answer said so far")
    if broken.complete:
        raise CannotContinue("the answer is complete")
    told = broken.told(server.created, server.mint)
    if told.said.unknown:
        raise CannotContinue(f"what the answer said so far cannot be taken up: {told.said.unknown}")
    wanted = replace(call, wants_usage=True, rescue=False)
    try:
        asked = neutral(call, extra)
        obstacle = _obstacle(asked, told.said, server)
        if obstacle is None:
            return _continue(call, wanted, extra, told, server)
        if not _is_certain(asked):
            raise CannotContinue(f"{server.label} cannot go on with the answer: {obstacle}")
        request, again = server.prepare(wanted, extra)
    except RequestError as error:
        raise CannotContinue(f"{server.label} cannot go on with the answer: {error.message}") from None
    course = Repetition(told.said, server.label)
    return request, Resumed(_reader(wanted, again, server.mint), course, told, again.usage)


def _continue(
    call: Call, wanted: Call, extra: Mapping[str, Any], told: Told, server: Server
) -> tuple[UpstreamRequest, Answer]:
    said = told.said
    text = said.of("text")
    sent = text.rstrip()
    if sent:
        thought = said.of("reasoning") if server.thoughts else ""
        wanted = continued(wanted, Beginning(sent, thought, said.deltas))
        extra = lowered(extra, said.deltas)
    request, rest = server.prepare(wanted, extra)
    if sent and call.operation == "chat" and server.adapt is not None:
        body = jsonx.loads(b"".join(request.body))
        server.adapt(body)
        request.body = [jsonx.dumps(body)]
    course = Rest(sent, text[len(sent) :])
    reader = _reader(wanted, rest, server.mint)
    return request, Resumed(reader, course, told, rest.usage, continues=bool(sent))


def _obstacle(asked: Neutral, said: Said, server: Server) -> str | None:
    """Why the rest of the text cannot be asked for."""
    if said.calls:
        return "it has called a tool"
    if any(run.sort == "refusal" for run in said.runs):
        return "it has refused"
    if not isinstance(asked, Conversation | Continuation):
        return "it is no text"
    sampling = asked.sampling
    if sampling.logprobs or sampling.n not in (None, 1):
        return "logprobs, or several answers, are wanted"
    if bound := next((name for name in GRAMMARS if asked.extensions.get(name)), None):
        return f"{bound} binds it"
    if isinstance(asked, Continuation):
        return "it has a suffix, or an echo" if asked.suffix or asked.echo else None
    return _chat_obstacle(asked, said, server)


def _chat_obstacle(asked: Conversation, said: Said, server: Server) -> str | None:
    if asked.response_format is not None and asked.response_format.kind != "text":
        return "it is bound to a format"
    if asked.tool_choice is not None and asked.tool_choice.mode == "required":
        return "a call is required"
    if said.last != "text":
        return "it is thinking"
    if not said.of("text").strip():
        return None if not said.runs or said.runs[0].sort == "text" else "it has said nothing but thoughts"
    return None if server.adapt is not None else "the server begins every answer anew"


def _is_certain(asked: Neutral) -> bool:
    """Whether the same request gives the same answer, as far as anybody can ask for that."""
    if not isinstance(asked, Conversation | Continuation):
        return False
    sampling = asked.sampling
    if sampling.logprobs or sampling.n not in (None, 1):
        return False
    return sampling.temperature == 0 or sampling.seed is not None


def _reader(call: Call, answer: Answer, mint: Mint) -> Reader:
    if isinstance(answer, Translation):
        return answer.reader
    if call.door == "openai":
        return Passed(answer, openai.reader_of(call.operation, mint))
    return Passed(answer, anthropic.reader_of(mint) if call.door == "anthropic" else ollama.reader_of(mint))
