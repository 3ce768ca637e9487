"""The API's own description (OpenAPI 3.1), made from the route table and the types that the routes answer with.

Each route carries a `Doc`; its handler's docstring is the description. Nothing is described twice.
"""

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from litestar import Litestar, Response, get
from litestar.routes import HTTPRoute

import tallycast
from tallycast.errors import (
    BadQuery,
    Forbidden,
    NotFound,
    Problem,
    ServiceFailure,
    ServiceUnavailable,
    TooManyRequests,
    Unauthorized,
)
from tallycast.web.answers import Asked, Failure
from tallycast.web.services import of

STATIC = Path(__file__).parent / "static"
PAGE = STATIC / "docs.html"
_REF = "#/components/schemas/{name}"
_JSON = "application/json"
_FORM = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query parameter: what it means, and its JSON schema."""

    name: str
    description: str
    schema: dict[str, Any]
    required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Doc:
    """What a route takes and gives. `result` is what stands in the envelope; None where the body is described alone."""

    operation_id: str
    summary: str
    tag: str
    query: tuple[Parameter, ...] = ()
    body: Any = None
    body_types: tuple[str, ...] = (_JSON,)
    body_example: Any = None
    is_body_optional: bool = False
    result: Any = None
    status: int = 200
    later: int | None = None  # the same result, while it goes on
    example: Any = None
    content_type: str = _JSON
    other_types: tuple[str, ...] = ()  # what it may be instead, as the query says
    errors: tuple[type[Problem], ...] = field(default=())
    is_idempotent: bool = False
    is_tagged: bool = False  # the answer has an entity tag

    def __deepcopy__(self, _memo: dict[int, Any]) -> "Doc":
        """The framework copies its routes; what describes one does not change, and its types cannot be copied."""
        return self


LIMIT = Parameter(
    "limit",
    "How many to return at most; 0 gives an empty list.",
    {"type": "integer", "format": "int32", "minimum": 0, "maximum": 200, "default": 10},
)
OFFSET = Parameter(
    "offset",
    "How many to skip.",
    {"type": "integer", "format": "int32", "minimum": 0, "default": 0},
)
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A key of your choice: the same request with the same key is done once.",
    "schema": {"type": "string", "maxLength": 255},
}
_IF_NONE_MATCH = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "The ETag of an answer that you have.",
    "schema": {"type": "string"},
}
_TAG_HEADERS = {"ETag": {"description": "Stands for the result.", "schema": {"type": "string"}}}
_UNCHANGED = {"description": "The result is still the one of If-None-Match.", "headers": _TAG_HEADERS}
_APP_ERRORS: tuple[type[Problem], ...] = (Unauthorized, Forbidden, TooManyRequests)
_MEANINGS: dict[type[Problem], str] = {
    BadQuery: "A parameter or the body cannot be read; the message names it.",
    Unauthorized: "No valid token.",
    Forbidden: "A valid token of another app, or without the scope.",
    NotFound: "Not found.",
    TooManyRequests: "Over the token's rate limit; Retry-After says how long to wait.",
    ServiceFailure: "Something failed here; the cid finds it in the log.",
    ServiceUnavailable: "The database is away; try again.",
}


def describe(app: Litestar, server_url: str) -> dict[str, Any]:
    """The whole document, as JSON values."""
    operations = list(_operations(app))
    kinds = [kind for one in operations for kind in (one.doc.body, one.doc.result) if kind is not None]
    schemas, components = _name_plainly(*msgspec.json.schema_components([*kinds, Failure], ref_template=_REF))
    by_kind = dict(zip(map(id, kinds), schemas, strict=False))
    paths: dict[str, dict[str, Any]] = {}
    for one in operations:
        paths.setdefault(one.path, {})[one.method.lower()] = _write_operation(one, by_kind)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tallycast",
            "version": tallycast.__version__,
            "description": "Self-hosted WhatsApp and SMS campaigns, with numbers that add up.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": server_url}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "AppToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An AppToken: tallycast token create",
                }
            },
        },
    }


def _name_plainly(
    schemas: Iterable[dict[str, Any]], components: dict[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Types of one name come as `tallycast.insights.ButtonUse`; SDKs' classes are better called InsightsButtonUse."""
    plain = {
        name: "".join(p[:1].upper() + p[1:] for p in name.split(".")[1:])
        for name in components
        if "." in name
    }
    text = msgspec.json.encode([list(schemas), components]).decode()
    for name, better in plain.items():
        text = text.replace(f'"{_REF.format(name=name)}"', f'"{_REF.format(name=better)}"')
    schemas, components = msgspec.json.decode(text)
    for name, better in plain.items():
        components[better] = {**components.pop(name), "title": better}
    return list(schemas), components


class Operation(NamedTuple):
    """One method of one path: what explains it, and the scope that it needs."""

    path: str
    method: str
    explained_by: Any
    doc: Doc
    scope: str | None = None


def _operations(app: Litestar) -> Iterator[Operation]:
    yield from app.state["unrouted"]
    for route in app.routes:
        # The framework keeps a route's handlers in no order.
        for handler in sorted(route.route_handlers, key=str) if isinstance(route, HTTPRoute) else ():
            for method in sorted({str(method) for method in handler.http_methods} - {"OPTIONS"}):
                if "doc" in handler.opt:
                    yield Operation(
                        route.path_format, method, handler.fn, handler.opt["doc"], handler.opt.get("scope")
                    )


def _write_operation(operation: Operation, schemas: dict[int, Any]) -> dict[str, Any]:
    doc = operation.doc
    errors: tuple[type[Problem], ...] = (*doc.errors, ServiceFailure, ServiceUnavailable)
    written: dict[str, Any] = {
        "operationId": doc.operation_id,
        "summary": doc.summary,
        "description": inspect.getdoc(operation.explained_by) or doc.summary,
        "tags": [doc.tag],
        "parameters": _parameters(operation.path, doc),
    }
    if operation.scope is not None:
        errors = (*doc.errors, *_APP_ERRORS, ServiceFailure, ServiceUnavailable)
        written["security"] = [{"AppToken": []}]
        written["description"] += f"\n\nNeeds the scope `{operation.scope}`."
    written["responses"] = {
        **{str(status): _success(doc, schemas) for status in (doc.status, doc.later) if status},
        **({"304": _UNCHANGED} if doc.is_tagged else {}),
        **{str(e.status): _failure(e) for e in errors},
    }
    if doc.body is not None:
        example = {} if doc.body_example is None else {"example": doc.body_example}
        schema = schemas[id(doc.body)]
        has_lines = _JSON not in doc.body_types and "$ref" in schema
        written["requestBody"] = {
            "required": not (doc.is_body_optional or has_lines),  # of lines there may be none
            "content": {kind: {"schema": _write_body(kind, schema), **example} for kind in doc.body_types},
        }
    return written


def _write_body(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
    """JSON as it is; a form has one file; a stream has many of what is described, one in each line."""
    if kind == _FORM:
        return {"type": "object", "properties": {"file": schema}, "required": ["file"]}
    if kind == _JSON or "$ref" not in schema:
        return schema
    lines = {"type": "string", "format": "binary", "description": "Lines: each is one such object."}
    return {**lines, "contentMediaType": kind, "contentSchema": schema}


def _parameters(path: str, doc: Doc) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    found: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names
    ]
    found += [
        {
            "name": p.name,
            "in": "query",
            "required": p.required,
            "description": p.description,
            "schema": p.schema,
        }
        for p in doc.query
    ]
    found += [_IDEMPOTENCY_KEY] if doc.is_idempotent else []
    found += [_IF_NONE_MATCH] if doc.is_tagged else []
    return found


def _success(doc: Doc, schemas: dict[int, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": "Success"} | ({"headers": _TAG_HEADERS} if doc.is_tagged else {})
    if doc.status == 302:  # noqa: PLR2004 - Found
        return {
            "description": "Redirect to the target",
            "headers": {"Location": {"schema": {"type": "string"}}},
        }
    if doc.result is None:
        kinds = (doc.content_type, *doc.other_types)
        answer["content"] = {kind: {"schema": {"type": "string"}} for kind in kinds}
        return answer
    properties = {
        "code": {"type": "integer", "const": 200},
        "result": schemas[id(doc.result)],
        "cid": {
            "type": "string",
            "description": "This request's id, also in X-Correlation-ID and in the log",
        },
    }
    schema = {"type": "object", "properties": properties, "required": ["code", "result", "cid"]}
    answer["content"] = {doc.content_type: {"schema": schema}}
    if doc.example is not None:
        answer["content"][doc.content_type]["example"] = {
            "code": 200,
            "result": doc.example,
            "cid": "9f2c5a7be1d000000001",
        }
    return answer


def _failure(problem: type[Problem]) -> dict[str, Any]:
    example = {"code": problem.code, "message": problem().message, "cid": "9f2c5a7be1d000000002"}
    return {
        "description": _MEANINGS.get(problem, problem().message),
        "content": {_JSON: {"schema": {"$ref": _REF.format(name="Failure")}, "example": example}},
    }


@get("/openapi.json")
async def get_openapi(request: Asked) -> Response[bytes]:
    state = request.app.state
    if "openapi" not in state:
        state["openapi"] = msgspec.json.encode(describe(request.app, of(request).settings.public_url or "/"))
    return Response(state["openapi"], media_type=_JSON)
