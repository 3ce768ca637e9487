"""Opt-outs over HTTP: who does not want messages any more."""

import tempfile

import msgspec
from litestar import Response, delete, get, post
from litestar.response import Stream

from tallycast import administrations, db, digests, messages, optouts, recordings
from tallycast.errors import BadQuery, NotFound, UnsupportedMediaType
from tallycast.idempotency import Answer
from tallycast.messages import Entry, Line, Rejected
from tallycast.moments import write_moment
from tallycast.optouts import AnyKind, OptOut
from tallycast.web.answers import (
    Asked,
    Query,
    cid_of,
    create,
    decode,
    encode,
    read_choice,
    read_json,
    read_page,
    read_query,
    read_text,
    refuse_compressed,
    succeed,
)
from tallycast.web.auth import actor_of, by_of
from tallycast.web.openapi import LIMIT, OFFSET, Doc, Parameter
from tallycast.web.services import of
from tallycast.web.streams import read_chunks, send_report

_ANY = ("sms", "whatsApp", "all")
_KIND = Parameter("kind", "Only of this kind.", {"type": "string", "enum": list(optouts.KINDS)})
_RECIPIENT = Parameter("recipient", "Only this number.", {"type": "string"})
_IMPORT_KIND = Parameter("kind", "Opt out of what.", {"type": "string", "enum": list(_ANY)}, required=True)
_EXAMPLE = {
    "kind": "sms",
    "recipient": "+85298765432",
    "source": "reply",
    "evidence": "SM00000000000000000000000000000001",
    "optedOutAt": "2026-11-23T03:00:00.000Z",
}


class OptOutView(msgspec.Struct, frozen=True, rename="camel"):
    kind: optouts.Kind
    recipient: str
    source: str
    evidence: str
    opted_out_at: str


class NewOptOuts(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`source`: what is kept as the reason; `api` when it is left out."""

    kind: AnyKind
    recipients: list[str]
    source: str = "api"


class AddedOptOuts(msgspec.Struct, frozen=True):
    accepted: int
    rejected: list[Rejected]


def _view(one: OptOut) -> OptOutView:
    return OptOutView(one.kind, one.recipient, one.source, one.evidence, write_moment(one.opted_out_at))


def _read_kind(query: Query) -> AnyKind:
    text = read_choice(query, "kind", _ANY)
    if text is None:
        raise BadQuery.of("kind must be sms, whatsApp or all")
    kind: AnyKind = msgspec.convert(text, AnyKind)
    return kind


@get(
    "/opt-outs",
    scope="campaigns:write",
    doc=Doc(
        operation_id="listOptOuts",
        summary="Who does not want messages any more",
        tag="Consent",
        query=(_KIND, _RECIPIENT, LIMIT, OFFSET),
        result=list[OptOutView],
        example=[_EXAMPLE],
        errors=(BadQuery,),
    ),
)
async def list_opt_outs(request: Asked, appID: str) -> Response[bytes]:
    """By kind and number. `source` says how it is known (`reply`, `button`, `preference`, `refusal`, `import`, or what
    the API was told), `evidence` is the provider's id of the message that says so. A recipient may be a WhatsApp user
    id whose number is not known yet.
    """
    query = read_query(request)
    limit, offset = read_page(query)
    text = read_choice(query, "kind", optouts.KINDS)
    kind = None if text is None else msgspec.convert(text, optouts.Kind)
    recipient = read_text(query, "recipient")
    async with of(request).pool.connection() as connection:
        if recipient is None:
            found = await optouts.list_all(connection, appID, kind, limit, offset)
        else:
            address = optouts.address_of(_storable(recipient))
            places = await digests.find_addresses(connection, of(request).cipher, appID, [address])
            known = [place for _, place in places]
            found = await optouts.find(connection, appID, kind, known, limit, offset)
    return succeed(request, [_view(one) for one in found])


def _storable(recipient: str) -> str:
    """A recipient from a URL: a `+` that was not escaped has come as a space."""
    if "\0" in recipient:
        raise BadQuery.of("recipient must be a number")
    return f"+{recipient[1:]}" if recipient.startswith(" ") else recipient


@post(
    "/opt-outs",
    scope="campaigns:write",
    doc=Doc(
        operation_id="addOptOuts",
        summary="Opt numbers out",
        tag="Consent",
        body=NewOptOuts,
        body_example={"kind": "all", "recipients": ["+85298765432"], "source": "complaint by letter"},
        result=AddedOptOuts,
        status=201,
        example={"accepted": 1, "rejected": []},
        errors=(BadQuery, UnsupportedMediaType),
        is_idempotent=True,
    ),
)
async def add_opt_outs(request: Asked, appID: str) -> Response[bytes]:
    """From now on campaigns leave them out, at the import of an audience and again when they send. Who is opted out
    already keeps the source and the evidence.
    """
    body = await read_json(request)
    new = decode(body, NewOptOuts)
    lines = [
        messages.check_entry(index, msgspec.UNSET, Entry(recipient))
        for index, recipient in enumerate(new.recipients)
    ]

    async def work(connection: db.Connection) -> Answer:
        accepted, rejected = await optouts.add_lines(connection, appID, new.kind, lines, new.source)
        return Answer(201, encode(AddedOptOuts(accepted, rejected)))

    return await create(request, appID, body, work)


@post(
    "/opt-outs/import",
    status_code=201,
    scope="campaigns:write",
    doc=Doc(
        operation_id="importOptOuts",
        summary="Opt out a list of numbers, streamed",
        tag="Consent",
        query=(_IMPORT_KIND,),
        body=Entry,
        body_types=("application/x-ndjson", "text/csv"),
        result=AddedOptOuts,
        status=201,
        example={
            "accepted": 999_999,
            "rejected": [{"index": 6, "recipient": "12", "error": "too short", "line": 7}],
        },
        errors=(BadQuery, UnsupportedMediaType),
    ),
)
async def import_opt_outs(request: Asked, appID: str) -> Stream:
    """CSV with a column `recipient`, or one JSON object `{"recipient"}` per line, of any number. Lines are kept as they
    come; each bad line is answered with its number and the reason. Sending the list again changes nothing, but for
    those who have opted in meanwhile.
    """
    kind = _read_kind(read_query(request))
    read = recordings.reader_of(request.headers.get("content-type", ""))
    refuse_compressed(request)
    accepted = count = 0
    # Rejections can be as many as lines: beyond a megabyte they wait on disk, not in memory.
    report = tempfile.SpooledTemporaryFile(max_size=1_000_000)  # noqa: SIM115 - closed by the answer's stream
    async for lines in recordings.batches(read(read_chunks(request))):
        taken, rejected = await _add_batch(request, appID, kind, lines)
        accepted += taken
        for row in rejected:
            report.write((b"," if count else b"") + encode(row))
            count += 1
    head = b'{"code":200,"result":{"accepted":%d,"rejected":[' % accepted
    return Stream(send_report(report, head, cid_of(request)), status_code=201, media_type="application/json")


async def _add_batch(
    request: Asked, app_id: str, kind: AnyKind, lines: list[Line]
) -> tuple[int, list[Rejected]]:
    async with of(request).pool.connection() as connection:

        async def work() -> tuple[int, list[Rejected]]:
            async with connection.transaction():
                return await optouts.add_lines(connection, app_id, kind, lines, "import")

        return await db.retry_conflicts(work)


@delete(
    "/opt-outs/{kind:str}/{recipient:str}",
    status_code=200,
    scope="campaigns:write",
    doc=Doc(
        operation_id="removeOptOut",
        summary="Take an opt-out back",
        tag="Consent",
        result=dict[str, int],
        example={"removed": 1},
        errors=(BadQuery, NotFound),
    ),
)
async def remove_opt_out(request: Asked, appID: str, kind: str, recipient: str) -> Response[bytes]:
    """`kind` is sms, whatsApp or all. Only for recipients who asked for it: what they say later counts again."""
    if kind not in _ANY:
        raise BadQuery.of(f"kind must be sms, whatsApp or all, not {kind[:40]!r}")
    address = optouts.address_of(_storable(recipient))
    services = of(request)
    async with services.pool.connection() as connection, connection.transaction():
        any_kind = msgspec.convert(kind, AnyKind)
        why = actor_of(request)
        removed = await optouts.remove(connection, services.cipher, appID, any_kind, [address], why)
        if not removed:
            raise NotFound(f"{recipient[:40]} is not opted out of {kind}")
        whom = (await digests.take_key(connection, services.cipher, appID)).digest(address)
        await administrations.note(connection, appID, by_of(request), "optOut.removed", whom, kind=kind)
    return succeed(request, {"removed": removed})
