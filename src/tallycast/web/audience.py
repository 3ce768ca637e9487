"""Audiences over HTTP: sending a file, how its import goes, what was set aside, samples."""

import asyncio
import time
from typing import Annotated

import msgspec
from litestar import Response, delete, get, post
from litestar.response import Stream

from tallycast import audience, campaigns, db, error_logs, imports, samples, sendings, standstills
from tallycast.audience import Upload
from tallycast.candidates import Mapping
from tallycast.errors import BadQuery, NotFound, TooLarge, Unprocessable, UnsupportedMediaType
from tallycast.idempotency import Answer
from tallycast.imports import ENDED, Import, State
from tallycast.moments import write_moment
from tallycast.spreadsheets import CSV, NDJSON, XLSX
from tallycast.standstills import NO_WORKER, WaitingFor
from tallycast.web.answers import (
    Asked,
    create,
    encode,
    read_choice,
    read_int,
    read_page,
    read_query,
    read_text,
    succeed,
)
from tallycast.web.auth import actor_of
from tallycast.web.openapi import LIMIT, OFFSET, Doc, Parameter
from tallycast.web.services import of
from tallycast.web.uploads import FORM, Received, clean_name, receive_file

_MAX_WAIT = 30
_LOOK_SECONDS = 0.2
_MAX_MAPPING = 8000
_EXAMPLE = {
    "id": "5d0c2f64-5b0e-4a57-9a57-0f6f3f4f9a10",
    "campaignID": "1882651363373254867",
    "state": "done",
    "percent": 100,
    "rows": 1000,
    "accepted": 993,
    "duplicate": 3,
    "optedOut": 1,
    "invalid": 2,
    "landline": 1,
    "onError": "keep",
    "fileName": "customers.xlsx",
    "bytes": 48211,
    "reason": "",
    "createdAs": "token 4fGh7Kq2Lm (shop)",
    "createdAt": "2026-11-23T03:00:00.000Z",
    "endedAt": "2026-11-23T03:00:01.204Z",
}
File = Annotated[str, msgspec.Meta(extra_json_schema={"format": "binary"})]
Moment = Annotated[str, msgspec.Meta(extra_json_schema={"format": "date-time"})]


class ImportView(msgspec.Struct, rename="camel", omit_defaults=True):
    """How an import goes: rows = accepted + duplicate + optedOut + invalid + landline, at every moment.

    `state`: uploading (a person has yet to say which column is what, on the dashboard), waiting, running, done, refused (the file's fault, or rows were bad and onError is refuse: nothing was
    kept) or failed (not the file's fault). `reason` says why it was refused or failed. `waitingFor`: no worker does it.
    """

    id: str
    campaign_id: str = msgspec.field(name="campaignID")
    state: State
    percent: int
    rows: int
    accepted: int
    duplicate: int
    opted_out: int
    invalid: int
    landline: int
    on_error: str
    file_name: str
    bytes: int
    reason: str
    created_as: str
    created_at: Moment
    ended_at: Moment | None = None
    waiting_for: WaitingFor | None = None


class Removed(msgspec.Struct, rename="camel"):
    """How many recipients were removed."""

    removed: int


async def _view_all(
    connection: db.Connection, app_id: str, campaign_id: int, found: list[Import]
) -> list[ImportView]:
    untaken = await standstills.list_untaken(connection, app_id, campaign_id)
    return [_view(one, one.import_id in untaken) for one in found]


def _view(found: Import, is_untaken: bool) -> ImportView:
    return ImportView(
        found.import_id,
        str(found.campaign_id),
        found.state,
        found.percent,
        found.rows,
        found.accepted,
        found.duplicate,
        found.opted_out,
        found.invalid,
        found.landline,
        "keep" if found.keeps_valid else "refuse",
        found.file_name,
        found.bytes,
        found.reason,
        found.asked_as,
        write_moment(found.created_at),
        None if found.ended_at is None else write_moment(found.ended_at),
        WaitingFor(NO_WORKER) if is_untaken else None,
    )


@post(
    "/campaigns/{campaignID:str}/audience",
    scope="campaigns:write",
    doc=Doc(
        operation_id="importAudience",
        summary="Import the recipients of a draft from a file",
        tag="Audience",
        query=(
            Parameter(
                "onError",
                "keep: valid rows are taken, bad ones set aside. refuse: one bad row, and none is taken.",
                {"type": "string", "enum": ["keep", "refuse"], "default": "keep"},
            ),
            Parameter("fileName", "The file's name, for people.", {"type": "string", "maxLength": 255}),
            Parameter(
                "mapping",
                "Which column is what, as JSON, where the headers are not the usual ones: "
                '{"recipient": "Mobile", "content": "Text", "variables": {"name": "First name"}}. '
                "May stand in the header Audience-Mapping instead.",
                {"type": "string"},
            ),
            Parameter(
                "wait",
                "How many seconds to wait for the import's end before answering 202.",
                {"type": "integer", "minimum": 0, "maximum": _MAX_WAIT, "default": 0},
            ),
        ),
        body=File,
        body_types=(CSV, XLSX, NDJSON, FORM),
        result=ImportView,
        status=201,
        later=202,
        example=_EXAMPLE,
        errors=(BadQuery, NotFound, TooLarge, UnsupportedMediaType, Unprocessable),
        is_idempotent=True,
    ),
)
async def import_audience(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """The first row names the columns: `Recipients Number` (or recipient, phone, mobile, …), `Content` for
    smsStandard; every other column is a variable. Encoding and delimiter are found out. Send the file as the body, or
    as the one file of a form. 201 when the import has ended within `wait` seconds, else 202: poll it by its id.
    """
    campaign_id = campaigns.parse_id(campaignID)
    query = read_query(request)
    keeps_valid = read_choice(query, "onError", ("keep", "refuse")) != "refuse"
    seconds = read_int(query, "wait", 0)
    if not 0 <= seconds <= _MAX_WAIT:
        raise BadQuery.of(f"wait must be a number from 0 to {_MAX_WAIT}")
    mapping = _read_mapping(read_text(query, "mapping") or request.headers.get("audience-mapping"))
    file_name = clean_name(read_text(query, "fileName") or "")
    async with of(request).pool.connection() as connection:  # before the file is read: it may be large
        await sendings.find(connection, appID, campaign_id)
    received = await receive_file(request)
    with received.file:
        name = file_name or received.file_name
        upload = Upload(received.file, received.size, name, received.media_type, keeps_valid, mapping)
        answer = await _store(request, appID, campaign_id, upload, received)
    import_id: str = msgspec.json.decode(answer.content)["result"]
    found = await _await_end(request, appID, campaign_id, import_id, seconds)
    async with of(request).pool.connection() as connection:
        [view] = await _view_all(connection, appID, campaign_id, [found])
    replayed = {n: v for n, v in answer.headers.items() if n.lower() == "idempotency-replayed"}
    return succeed(request, view, 201 if found.state in ENDED else 202, replayed)


async def _store(
    request: Asked, app_id: str, campaign_id: int, upload: Upload, received: Received
) -> Response[bytes]:
    async def work(connection: db.Connection) -> Answer:
        import_id = await audience.add_import(connection, app_id, campaign_id, upload, actor_of(request))
        return Answer(202, encode(import_id))

    asked = encode([upload.keeps_valid, upload.mapping, upload.file_name])
    return await create(request, app_id, received.digest + asked, work)


def _read_mapping(text: str | None) -> Mapping:
    if not text:
        return Mapping()
    if len(text) > _MAX_MAPPING:
        raise BadQuery.of(f"mapping must be at most {_MAX_MAPPING} characters")
    try:
        return msgspec.json.decode(text, type=Mapping)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise BadQuery.of(f"mapping is not what is expected: {error}") from None


async def _await_end(request: Asked, app_id: str, campaign_id: int, import_id: str, seconds: int) -> Import:
    deadline = time.monotonic() + seconds
    while True:
        async with of(request).pool.connection() as connection:
            found = await imports.find_import(connection, app_id, campaign_id, import_id)
        if found.state in ENDED or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(_LOOK_SECONDS)


@get(
    "/campaigns/{campaignID:str}/audience",
    scope="campaigns:write",
    doc=Doc(
        operation_id="listImports",
        summary="The imports of a campaign's audience",
        tag="Audience",
        query=(LIMIT, OFFSET),
        result=list[ImportView],
        example=[_EXAMPLE],
        errors=(BadQuery, NotFound),
    ),
)
async def list_imports(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """The latest first."""
    campaign_id = campaigns.parse_id(campaignID)
    limit, offset = read_page(read_query(request))
    async with of(request).pool.connection() as connection:
        await sendings.find(connection, appID, campaign_id)
        found = await imports.list_imports(connection, appID, campaign_id, limit, offset)
        return succeed(request, await _view_all(connection, appID, campaign_id, found))


@get(
    "/campaigns/{campaignID:str}/audience/{importID:str}",
    scope="campaigns:write",
    doc=Doc(
        operation_id="getImport",
        summary="How an import goes",
        tag="Audience",
        result=ImportView,
        example=_EXAMPLE,
        errors=(NotFound,),
    ),
)
async def get_import(request: Asked, appID: str, campaignID: str, importID: str) -> Response[bytes]:
    """`waitingFor` is there while no worker does it, and says what to do."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        found = await imports.find_import(connection, appID, campaign_id, importID)
        [view] = await _view_all(connection, appID, campaign_id, [found])
    return succeed(request, view)


@get(
    "/campaigns/{campaignID:str}/audience/{importID:str}/errors",
    scope="campaigns:write",
    doc=Doc(
        operation_id="getImportErrors",
        summary="The rows that were not taken, as CSV",
        tag="Audience",
        content_type=CSV,
        errors=(NotFound,),
    ),
)
async def get_errors(request: Asked, appID: str, campaignID: str, importID: str) -> Stream:
    """The file's own columns, then `Error`; UTF-8 with a byte order mark, for spreadsheets. Mend the rows and import
    the file again, as it is: the column `Error` is left out.
    """
    async with of(request).pool.connection() as connection:
        found = await imports.find_import(connection, appID, campaigns.parse_id(campaignID), importID)
    headers = {"Content-Disposition": 'attachment; filename="error-log.csv"'}
    rows = error_logs.write(of(request).pool.connection, appID, found)
    return Stream(rows, media_type=CSV, headers=headers)


@delete(
    "/campaigns/{campaignID:str}/audience",
    status_code=200,
    scope="campaigns:write",
    doc=Doc(
        operation_id="clearAudience",
        summary="Remove all recipients of a draft",
        tag="Audience",
        result=Removed,
        example={"removed": 1000},
        errors=(NotFound, Unprocessable),
    ),
)
async def clear_audience(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Its imports stay in the list."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection, connection.transaction():
        removed = await audience.clear(connection, appID, campaign_id)
    return succeed(request, Removed(removed))


@get(
    "/audience-samples/{fileName:str}",
    scope="campaigns:write",
    doc=Doc(
        operation_id="getAudienceSample",
        summary="A sample file to fill in",
        tag="Audience",
        content_type=XLSX,
        errors=(NotFound,),
    ),
)
async def get_sample(request: Asked, appID: str, fileName: str) -> Response[bytes]:  # noqa: ARG001 - the guard reads appID
    """`sms-standard`, `sms-dynamic` or `whatsapp`, with `.csv` or `.xlsx`."""
    kind, _, suffix = fileName.rpartition(".")
    if kind not in samples.SAMPLES or suffix not in {"csv", "xlsx"}:
        names = " or ".join(samples.SAMPLES)
        raise NotFound(f"no sample {fileName[:80]!r}: there is {names}, with .csv or .xlsx")
    content = samples.write_csv(kind) if suffix == "csv" else samples.write_xlsx(kind)
    headers = {"Content-Disposition": f'attachment; filename="{fileName}"'}
    return Response(content, media_type=CSV if suffix == "csv" else XLSX, headers=headers)
