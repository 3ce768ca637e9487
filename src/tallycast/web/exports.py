"""Exports over HTTP: tables as files, streamed."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from litestar import get

from tallycast import administrations, campaigns, db, exports
from tallycast.administrations import By
from tallycast.cells import Options
from tallycast.errors import BadQuery, NotFound
from tallycast.exports import FORMATS, STATES, Format, Table
from tallycast.spreadsheets import CSV, NDJSON, XLSX
from tallycast.web.answers import Asked, Query, read_choice, read_period, read_query, read_text
from tallycast.web.auth import by_of
from tallycast.web.downloads import Download, File
from tallycast.web.openapi import Doc, Parameter
from tallycast.web.services import of

_MEDIA_TYPES: dict[Format, str] = {
    "csv": CSV,
    "xlsx": XLSX,
    "parquet": "application/vnd.apache.parquet",
    "ndjson": NDJSON,
}
_OTHER_TYPES = tuple(kind for kind in _MEDIA_TYPES.values() if kind != CSV)
_MOMENT = {"type": "string", "format": "date-time", "examples": ["2022-11-07T00:00:00.000Z"]}
_PERIOD = (
    Parameter("startAt", "The period's begin (RFC 3339), included. Needs endAt.", _MOMENT),
    Parameter("endAt", "The period's end (RFC 3339), not included. Needs startAt.", _MOMENT),
    Parameter(
        "channel", "sms or whatsApp; both when empty.", {"type": "string", "enum": ["sms", "whatsApp", ""]}
    ),
)
_FLAG = {"type": "string", "enum": ["true", "false"], "default": "false"}
_HOW = (
    Parameter(
        "format", "What the file is to be.", {"type": "string", "enum": list(FORMATS), "default": "csv"}
    ),
    Parameter("bom", "CSV: begin with a byte order mark, by which Excel knows UTF-8.", _FLAG),
    Parameter(
        "excel",
        'CSV: for opening in Excel. So is bom, and telephone numbers and ids stand as ="+85298765432", which Excel '
        "and LibreOffice show as they are.",
        _FLAG,
    ),
    Parameter(
        "raw",
        "CSV and XLSX: keep texts as they are. Otherwise one that a spreadsheet would run as a formula gets an "
        "apostrophe before it.",
        _FLAG,
    ),
)


@get(
    "/exports/recipients",
    scope="reports:read",
    doc=Doc(
        operation_id="exportRecipients",
        summary="The recipients of a campaign as a file",
        tag="Exports",
        query=(
            Parameter("campaign", "A campaign's id.", {"type": "string"}, required=True),
            Parameter("state", "Only recipients in this state.", {"type": "string", "enum": list(STATES)}),
            *_HOW,
        ),
        content_type=CSV,
        other_types=_OTHER_TYPES,
        errors=(BadQuery, NotFound),
    ),
)
async def export_recipients(request: Asked, appID: str) -> Download:
    """In the order in which they were recorded, all of one moment, however long it takes. `X-Total-Rows` says how many
    there are. A connection that breaks before the end of the body means that the file is not complete: ask again.
    """
    return send_recipients(request, appID, by_of(request))


def send_recipients(request: Asked, app_id: str, by: By) -> Download:
    """It is written down before the first row goes out."""
    query = read_query(request)
    campaign = read_text(query, "campaign")
    if campaign is None:
        raise BadQuery.of("campaign is required: the id of a campaign")
    state = read_choice(query, "state", STATES)
    campaign_id = campaigns.parse_id(campaign)

    async def find(connection: db.Connection) -> Table:
        table = await exports.find_recipients(connection, app_id, campaign_id, state)
        if request.scope["state"]["method"] != "HEAD":
            async with of(request).pool.connection() as writing:
                await administrations.note(
                    writing, app_id, by, "recipients.exported", campaign, state=state or "all"
                )
        return table

    return _download(request, app_id, query, find)


@get(
    "/exports/campaigns",
    scope="reports:read",
    doc=Doc(
        operation_id="exportCampaigns",
        summary="The summaries of a period as a file",
        tag="Exports",
        query=(
            *_PERIOD,
            Parameter(
                "search", "Only campaigns with this text in their name, in any case.", {"type": "string"}
            ),
            *_HOW,
        ),
        content_type=CSV,
        other_types=_OTHER_TYPES,
        errors=(BadQuery,),
    ),
)
async def export_campaigns(request: Asked, appID: str) -> Download:
    """The campaigns of `sent-campaigns-summary` with its figures, the newest first, and `queued` beside them. Fields
    that a channel does not have are empty. Otherwise as the export of recipients.
    """
    return send_campaigns(request, appID)


def send_campaigns(request: Asked, app_id: str) -> Download:
    query = read_query(request)
    start_at, end_at = read_period(query)
    channel_type = read_choice(query, "channel", ("sms", "whatsApp"))
    search = read_text(query, "search")
    if search is not None and "\0" in search:
        raise BadQuery.of("search must not contain NUL")
    return _download(
        request,
        app_id,
        query,
        lambda connection: exports.find_campaigns(connection, app_id, start_at, end_at, channel_type, search),
    )


def _download(
    request: Asked, app_id: str, query: Query, find: Callable[[db.Connection], Awaitable[Table]]
) -> Download:
    file_format = read_choice(query, "format", FORMATS) or "csv"
    options = Options(_read_flag(query, "bom"), _read_flag(query, "excel"), _read_flag(query, "raw"))
    services = of(request)

    @contextlib.asynccontextmanager
    async def open_() -> AsyncIterator[File]:
        with services.exports.take(app_id):
            async with exports.open_snapshot(services.readers.connect()) as connection:
                table = await find(connection)
                chunks = exports.stream(table, file_format, options)
                name = f"{table.file_name}.{file_format}"
                yield File(name, _MEDIA_TYPES[file_format], table.total, chunks, table.note)

    return Download(open_)


def _read_flag(query: Query, name: str) -> bool:
    return read_choice(query, name, ("true", "false")) == "true"
