"""What a client does, without doing it: scripts that say what to send, how long to wait and what to save, in order.

A client runs a script and gives it what came of each step; so the sync and the async client share all but the doing.
"""

from collections.abc import AsyncIterable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import IO, Any, TypeAlias, TypeVar
from uuid import uuid4

import httpx

Result = TypeVar("Result")
Body: TypeAlias = bytes | Iterable[bytes] | AsyncIterable[bytes] | None
Target: TypeAlias = str | PathLike[str] | IO[bytes]
IDEMPOTENCY_KEY = "Idempotency-Key"
JSON = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request below an app's URL. `seconds` are what the server may take longer than others to answer."""

    method: str = "GET"
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body = None
    is_streamed: bool = False
    seconds: float = 0.0

    @property
    def is_repeatable(self) -> bool:
        """Whether sending it twice has the effect of once, and its body can be had twice."""
        is_once = self.method in {"GET", "HEAD"} or IDEMPOTENCY_KEY in self.headers
        # A list or a file starts anew, an iterator that was begun does not.
        return is_once and not hasattr(self.body, "__next__") and not hasattr(self.body, "__anext__")

    def at(self, params: Mapping[str, str]) -> "Call":
        return replace(self, params=params)


def create(path: str, body: Body = None, content_type: str = JSON, **options: Any) -> Call:
    """A POST that may be repeated: its key lets the server do it once."""
    headers = {IDEMPOTENCY_KEY: str(uuid4()), **({} if body is None else {"Content-Type": content_type})}
    return Call(method="POST", path=path, body=body, headers=headers, **options)


@dataclass(frozen=True, slots=True)
class Send:
    """Gives the answer, whole unless the call is streamed; or the error, where there is none."""

    call: Call


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class Save:
    """Gives the number of bytes written."""

    response: httpx.Response
    target: Target


Step: TypeAlias = Send | Wait | Save
Script: TypeAlias = Generator[Step, Any, Result]
