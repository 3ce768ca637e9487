"""Calls and their answers: sending until it is answered for good, and what an answer says."""

import itertools
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from tallycast_client.errors import (
    ConnectionFailed,
    TallycastError,
    UnreadableAnswer,
    class_of,
    status_of,
)
from tallycast_client.retries import Retries, read_retry_after
from tallycast_client.steps import Call, Save, Script, Send, Target, Wait

_SUCCESSES = (0, 200)  # CINNOX's pages have both


@dataclass(frozen=True, slots=True)
class Answer:
    """`result` is what stands in the envelope; a bare JSON value is taken for it."""

    result: Any
    response: httpx.Response


def ask(call: Call, retries: Retries) -> Script[Answer]:
    """The answer to a call; a TallycastError where there is none, or it is a failure."""
    return (yield from _send(call, retries))


def save(call: Call, target: Target, retries: Retries) -> Script[int]:
    """Write the body of an answer to a file or stream; the number of bytes."""
    answer = yield from _send(call, retries)
    saved = yield Save(answer.response, target)
    if isinstance(saved, httpx.RequestError):
        raise _cut(saved) from saved
    size: int = saved
    return size


def _send(call: Call, retries: Retries) -> Script[Answer]:
    began = time.monotonic()
    for attempt in itertools.count(1):
        outcome = yield Send(call)
        try:
            return _judge(call, outcome)
        except TallycastError as problem:
            elapsed = time.monotonic() - began
            wait = retries.pause(problem, attempt, elapsed) if call.is_repeatable else None
            if wait is None:
                raise
        yield Wait(wait)
    raise AssertionError  # pragma: no cover - the count has no end


def _judge(call: Call, outcome: httpx.Response | httpx.RequestError) -> Answer:
    if isinstance(outcome, httpx.RequestError):
        raise _cut(outcome) from outcome
    if call.is_streamed and outcome.is_success:
        return Answer(None, outcome)
    body = _read_json(outcome)
    envelope = body if isinstance(body, Mapping) else {}
    code = _read_code(envelope)
    if outcome.is_success and code in (None, *_SUCCESSES):
        return Answer(envelope.get("result") if isinstance(body, Mapping) else body, outcome)
    raise _refusal(outcome, envelope, code)


def _cut(error: httpx.RequestError) -> ConnectionFailed:
    return ConnectionFailed(f"no answer: {str(error) or type(error).__name__}")


def _read_json(response: httpx.Response) -> Any:
    """A failure's body may be a proxy's page; a success must be JSON."""
    try:
        return json.loads(response.content)
    except ValueError:
        if response.is_success:
            raise UnreadableAnswer(
                f"the answer is not JSON: {response.text[:80]!r}", status=response.status_code
            ) from None
        return None


def _read_code(envelope: Mapping[str, Any]) -> int | None:
    try:
        return int(envelope["code"])
    except (KeyError, TypeError, ValueError):
        return None


def _refusal(response: httpx.Response, envelope: Mapping[str, Any], code: int | None) -> TallycastError:
    """A failure may come with HTTP 200: then its code says what it is."""
    status = status_of(code or 0) if response.is_success else response.status_code
    return class_of(status)(
        str(envelope.get("message") or response.reason_phrase or f"HTTP {status}"),
        status=status,
        code=code,
        cid=envelope.get("cid") or response.headers.get("X-Correlation-ID"),
        retry_after=read_retry_after(response),
    )
