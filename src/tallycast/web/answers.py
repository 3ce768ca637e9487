"""Answers: the envelope, errors as the contract has them, and reading parameters and bodies."""

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from urllib.parse import parse_qs, quote

import msgspec
from litestar import Request, Response
from litestar.exceptions import (
    HTTPException,
    MethodNotAllowedException,
    NotFoundException,
    SerializationException,
    ValidationException,
)
from litestar.types import Receive, Scope, Send

from tallycast import db, idempotency
from tallycast.errors import (
    BadQuery,
    MethodNotAllowed,
    MethodNotFound,
    Problem,
    ServiceFailure,
    ServiceUnavailable,
    TooLarge,
    UnsupportedMediaType,
)
from tallycast.idempotency import Answer
from tallycast.moments import parse_moment
from tallycast.web import services

Asked = Request[Any, Any, Any]
Result = TypeVar("Result")
Choice = TypeVar("Choice", bound=str)
MAX_LIMIT = 200
_INT32 = 2**31 - 1
_encoder = msgspec.json.Encoder()
_JSON = b"application/json"
_JSON_TYPES = re.compile(r"application/(?:[\w.+-]+\+)?json\s*(;|$)")


class Failure(msgspec.Struct):
    """Every failure: `code` as in the error table, a message for people, and the request's `cid`."""

    code: int
    message: str
    cid: str


class Encoded(NamedTuple):
    """An answer as it goes out, for what is asked most: the framework's response is copied for each request."""

    body: bytes
    headers: list[tuple[bytes, bytes]]
    status: int = 200

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


def encode_headers(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def encode_answer(
    body: bytes, headers: dict[str, str] | None = None, content_type: bytes = _JSON, status: int = 200
) -> Encoded:
    head = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
    return Encoded(body, head + encode_headers(headers) if headers else head, status)


async def answer_or_fail(work: Awaitable[Encoded], cid: str) -> Encoded:
    """What the work answers, or the failure that it ends in. A mistake of ours goes on to the edge."""
    try:
        return await work
    except Exception as error:
        problem = find_problem(error)
        if problem is None:
            raise
        return encode_answer(write_failure(problem, cid), problem.headers, status=problem.status)


def cid_of(request: Asked) -> str:
    cid: str = request.scope["state"]["cid"]
    return cid


def path_of(request: Asked) -> str:
    """The whole path, also where the framework has cut off a mount's part."""
    path: str = request.scope["state"]["path"]
    return path


def succeed(
    request: Asked, result: object, status: int = 200, headers: dict[str, str] | None = None
) -> Response[bytes]:
    return succeed_raw(request, _encoder.encode(result), status, headers)


def write_success(result: bytes, cid: str) -> bytes:
    return b'{"code":200,"result":%b,"cid":"%b"}' % (result, cid.encode())


def succeed_raw(
    request: Asked, result: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> Response[bytes]:
    body = write_success(result, cid_of(request))
    return Response(body, status_code=status, media_type="application/json", headers=headers)


def succeed_fast(request: Asked, result: object, headers: dict[str, str] | None = None) -> Encoded:
    """The same past the framework's response."""
    return succeed_encoded(request, _encoder.encode(result), headers)


def succeed_encoded(request: Asked, result: bytes, headers: dict[str, str] | None = None) -> Encoded:
    return encode_answer(write_success(result, cid_of(request)), headers)


def write_failure(problem: Problem, cid: str) -> bytes:
    return _encoder.encode(Failure(problem.code, problem.message, cid))


def answer_problem(request: Asked, error: Exception) -> Response[bytes]:
    """The one place where an exception becomes an answer."""
    problem = problem_of(request, error)
    if problem is None:
        raise error  # the edge logs it with its trace and answers 500
    body = write_failure(problem, cid_of(request))
    return Response(body, status_code=problem.status, media_type="application/json", headers=problem.headers)


def problem_of(request: Asked, error: Exception) -> Problem | None:
    """The same for what the framework raises, too."""
    return _translate(request, error) if isinstance(error, HTTPException) else find_problem(error)


def find_problem(error: Exception) -> Problem | None:
    """What an exception is to the client; None for a mistake of ours."""
    if isinstance(error, Problem):
        return error
    return ServiceUnavailable() if isinstance(error, db.AWAY) else None


def _allowed(error: HTTPException) -> str:
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    methods = set(headers.get("allow", "").split(", "))
    return ", ".join(sorted(methods | {"HEAD"} if "GET" in methods else methods))


def _translate(request: Asked, error: HTTPException) -> Problem:
    if isinstance(error, NotFoundException):
        return MethodNotFound.at(request.scope["state"]["method"], path_of(request))
    if isinstance(error, MethodNotAllowedException):
        return MethodNotAllowed(headers={"Allow": _allowed(error)})
    if isinstance(error, ValidationException | SerializationException):
        return BadQuery.of(str(error.detail))
    by_status: dict[int, Problem] = {400: BadQuery(), 413: TooLarge(), 415: UnsupportedMediaType()}
    return by_status.get(error.status_code, ServiceFailure())


Query = dict[str, list[str]]


def read_query(request: Asked) -> Query:
    """The query's parameters with all their values. What is not UTF-8 shows as U+FFFD, and nothing expects that."""
    text = request.scope["query_string"].decode("latin-1")
    return parse_qs(text, keep_blank_values=False, errors="replace", max_num_fields=None)


def _single(query: Query, name: str) -> str | None:
    given = query.get(name, ())
    if len(given) > 1:
        raise BadQuery.of(f"{name} is given {len(given)} times")
    return given[0] if given else None


def read_int(query: Query, name: str, default: int) -> int:
    """An int32 parameter; empty is absent."""
    text = _single(query, name)
    if text is None:
        return default
    if not re.fullmatch(r"[+\- ]?[0-9]{1,20}", text, re.ASCII):
        raise BadQuery.of(f"{name} must be a number, not {text[:40]!r}")
    number = int(text.replace(" ", "+"))
    if not -_INT32 - 1 <= number <= _INT32:
        raise BadQuery.of(f"{name} must be a 32-bit number, at most {_INT32}, not {text}")
    return number


def read_page(query: Query) -> tuple[int, int]:
    """(limit, offset), within the contract: limit defaults to 10 and is at most 200."""
    first, count = read_int(query, "offset", 0), read_int(query, "limit", 10)
    if first < 0:
        raise BadQuery("negative offset")
    if count < 0:
        raise BadQuery("negative limit")
    if count > MAX_LIMIT:
        raise BadQuery(f"exceed maximum limit {MAX_LIMIT}")
    return count, first


def read_period(query: Query) -> tuple[datetime | None, datetime | None]:
    """Both moments or neither, in order."""
    start, end = _single(query, "startAt"), _single(query, "endAt")
    first = None if start is None else parse_moment(start, "startAt")
    last = None if end is None else parse_moment(end, "endAt")
    if (first is None) != (last is None):
        raise BadQuery("missing one of startAt, endAt")
    if first and last and last < first:
        raise BadQuery("endAt is prior to startAt")
    return first, last


def read_choice(query: Query, name: str, choices: tuple[Choice, ...]) -> Choice | None:
    text = _single(query, name)
    chosen = next((one for one in choices if one == text), None)
    if text is not None and chosen is None:
        raise BadQuery.of(f"{name} must be {' or '.join(choices)}, not {text[:40]!r}")
    return chosen


def read_text(query: Query, name: str) -> str | None:
    return _single(query, name)


async def read_body(receive: Receive, said_length: str, max_mb: int) -> bytes:
    """The whole body; TooLarge as soon as it is longer than allowed, or its Content-Length says that it will be."""
    limit = max_mb * 1_000_000
    if said_length.isdecimal() and int(said_length) > limit:
        raise TooLarge(f"the request body must be at most {limit} bytes")
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadQuery.of("the body was cut off")
        parts.append(message["body"])  # type: ignore[typeddict-item]
        size += len(parts[-1])
        if size > limit:
            raise TooLarge(f"the request body must be at most {limit} bytes")
        if not message.get("more_body"):
            return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_json(request: Asked) -> bytes:
    """A JSON body. A Content-Type that says something else is refused; none is taken for JSON."""
    kind = request.headers.get("content-type", "")
    if kind and not _JSON_TYPES.match(kind.lower()):
        raise UnsupportedMediaType(f"send the body with Content-Type: application/json, not {kind[:80]}")
    refuse_compressed(request)
    limit = services.of(request).settings.max_body_mb
    return await read_body(request.receive, request.headers.get("content-length", ""), limit)


def refuse_compressed(request: Asked) -> None:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise UnsupportedMediaType("the request body must not be compressed")


def decode(body: bytes, kind: type[Result]) -> Result:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadQuery.of(f"the body is not what is expected: {error}{_expected(kind, str(error))}") from None


def _expected(kind: type[Any], error: str) -> str:
    """What a field may be, where that is a choice of words."""
    match = re.fullmatch(r"Invalid enum value .* - at `\$\.(\w+)`", error, re.DOTALL)
    if match is None:
        return ""
    known = msgspec.json.schema(kind)["$defs"].get(kind.__name__, {})
    said = known.get("properties", {}).get(match[1], {})
    words = [word for one in said.get("anyOf", [said]) for word in one.get("enum", ()) if word is not None]
    return f"; it must be {' or '.join(words)}" if words else ""


Work = Callable[[db.Connection], Awaitable[Answer]]


def next_link(request: Asked, position: str) -> dict[str, str]:
    """`Link` to the next page (RFC 8288): this one's parameters, from another position."""
    parts = request.scope["query_string"].decode("latin-1").split("&")
    kept = [part for part in parts if part and not part.startswith(("offset=", "cursor="))]
    target = re.sub(r"[^!-~]|[<>]", lambda match: quote(match[0]), "&".join([*kept, position]))
    return {"Link": f'<{request.scope["path"]}?{target}>; rel="next"'}


async def create(request: Asked, app_id: str, body: bytes, work: Work) -> Response[bytes]:
    """Run `work` in one transaction, once per Idempotency-Key, and answer with what it gives.

    The key and what it did commit together, so a crash leaves both or none.
    """
    key = request.headers.get("idempotency-key")
    if key is not None:
        idempotency.check_key(key)
    print_ = idempotency.fingerprint(request.method.encode(), path_of(request).encode(), body)

    async def attempt(connection: db.Connection) -> tuple[Answer, bool]:
        async with connection.transaction():
            known = await idempotency.claim(connection, app_id, key, print_) if key is not None else None
            if known is not None:
                return known, True
            answer = await work(connection)
            if key is not None:
                await idempotency.keep(connection, app_id, key, answer)
            return answer, False

    async with services.of(request).pool.connection() as connection:
        answer, is_replayed = await db.retry_conflicts(lambda: attempt(connection))
    headers = {"Idempotency-Replayed": "true"} if is_replayed else None
    return succeed_raw(request, answer.result, answer.status, headers)


def encode(result: object) -> bytes:
    return _encoder.encode(result)
