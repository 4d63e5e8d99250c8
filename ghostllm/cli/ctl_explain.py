"""One request as a story: what was asked, what was planned and why, what was tried, what took how long."""

from __future__ import annotations

from typing import Any, TypeGuard

from ghostllm.cli.ctl_show import Told, mapping, milliseconds, objects, plain, table


def explanation(told: Told) -> list[str]:
    lines = [*_head(told), ""]
    if isinstance(told.get("plan"), dict):
        lines += [*_plan(told["plan"]), ""]
    return lines + _timeline(objects(told.get("timeline")))


def _head(told: Told) -> list[str]:
    asked = plain(told.get("model"))
    if told.get("arm"):
        asked += f" (arm {plain(told['arm'])})"
    if told.get("stream") is True:
        asked += ", streamed"
    took = f"{milliseconds(told.get('duration_ms'))}"
    parts = [("in queue", told.get("queued_ms")), ("beside attempts and queue", told.get("overhead_ms"))]
    took += "".join(f", {milliseconds(value)} {name}" for name, value in parts if value)
    rows = [
        ["request", plain(told.get("id"))],
        ["time", plain(told.get("time"))],
        ["asked", f"{plain(told.get('method'))} {plain(told.get('path'))} by {plain(told.get('key'))}"],
        ["model", asked],
        ["outcome", _outcome(told)],
        ["took", took],
    ]
    if told.get("cache"):
        age = told.get("cache_age_s")
        rows.append(["cache", plain(told["cache"]) + (f", {age:.0f} s old" if _is_number(age) else "")])
    rescued = told.get("rescued")
    if rescued:
        rows.append(["rescued", f"{plain(rescued)} x: another backend went on with the stream"])
    tokens = _tokens(told.get("usage"))
    if tokens:
        rows.append(["tokens", tokens])
    return table(rows)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _outcome(told: Told) -> str:
    words = plain(told.get("outcome"))
    if told.get("status") is not None:
        words += f" ({plain(told['status'])})"
    if told.get("backend"):
        words += f" from {plain(told['backend'])}"
    error = _error(told.get("error"))
    return f"{words}: {error}" if error else words


def _error(error: Any) -> str:
    """Of the exchange an object, of an attempt its message."""
    if isinstance(error, dict):
        words = [plain(error[name]) for name in ("code", "message") if error.get(name)]
        return ": ".join(words)
    return plain(error) if error else ""


def _tokens(usage: Any) -> str:
    counts = mapping(usage)
    words = [
        f"{plain(counts[name])} {name.replace('_', ' ')}"
        for name in ("prompt", "completion", "cached", "cache_write", "reasoning")
        if counts.get(name) is not None
    ]
    words += [name for name in ("estimated", "partial") if words and counts.get(name) is True]
    return ", ".join(words)


def _plan(plan: Told) -> list[str]:
    """The members that a plan is known to have; the others as they are."""
    title = "PLAN"
    if plan.get("policy"):
        title += f"  {plain(plan['policy'])}"
    if plan.get("model"):
        title += f" for {plain(plan['model'])}"
    lines = [title]
    rows = [[f"{number}.", *_target(item)] for number, item in enumerate(_items(plan.get("targets")), 1)]
    rows += [["not", *_target(item)] for item in _items(plan.get("refused"))]
    lines += table(rows, "  ")
    rest = [name for name in plan if name not in ("policy", "model", "targets", "refused")]
    return lines + table([[plain(name), plain(plan[name])] for name in rest if plan[name] is not None], "  ")


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _target(item: Any) -> list[str]:
    """Backend, model, why."""
    target = mapping(item)
    if not target:
        return [plain(item), "", ""]
    rest = {name: value for name, value in target.items() if name not in ("backend", "model", "why")}
    words = [plain(target["why"])] if target.get("why") else []
    words += [f"{plain(name)} {plain(value)}" for name, value in rest.items() if value is not None]
    return [plain(target.get("backend")), plain(target.get("model")), ", ".join(words)]


def _timeline(events: list[Told]) -> list[str]:
    rows = []
    for event in events:
        at = event.get("at_ms")
        shown = f"{at:.1f}" if isinstance(at, (int, float)) else ""
        rows.append((shown, _event(event)))
    width = max((len(shown) for shown, _ in rows), default=0)
    return ["TIMELINE  in ms", *(f"  {shown.rjust(width)}  {words}".rstrip() for shown, words in rows)]


def _event(event: Told) -> str:
    kind = event.get("event")
    number = f"attempt {plain(event.get('attempt'))}"
    if kind == "queued":
        return f"waited {milliseconds(event.get('waited_ms'))} for a turn"
    if kind == "attempt":
        words = f"{number}: {plain(event.get('backend'))}, model {plain(event.get('model'))}"
        reasons = [plain(event[name]) for name in ("purpose", "why") if event.get(name)]
        return f"{words} ({': '.join(reasons)})" if reasons else words
    if kind == "first_token":
        return f"{number}: first token"
    if kind == "attempt_ended":
        tokens = _tokens(event.get("usage"))
        return f"{number}: {_outcome(event)}" + (f" [{tokens}]" if tokens else "")
    if kind == "committed":
        return "the client gets the first content"
    if kind == "finished":
        return f"finished: {_outcome(event)}"
    return plain(kind)
