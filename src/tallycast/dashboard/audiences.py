"""The recipients of a draft: a file, what its columns are, how its import goes, and what of it was not taken."""

from litestar import Response, get, post
from litestar.response import Stream

from tallycast import audience, campaigns, db, error_logs, held, imports, samples, sendings, standstills
from tallycast.audience import Upload
from tallycast.candidates import Guess, Mapping, Misfit, find_variables
from tallycast.dashboard import once
from tallycast.dashboard.forms import Form, form_of
from tallycast.dashboard.guard import person_of
from tallycast.dashboard.pages import is_partial, make_flash, redirect, render
from tallycast.dashboard.places import base_of
from tallycast.errors import BadQuery, NotFound, TooLarge, Unprocessable, UnsupportedMediaType
from tallycast.imports import ENDED, Import
from tallycast.rows import Unreadable
from tallycast.sendings import Kind, Sending
from tallycast.spreadsheets import CSV, XLSX
from tallycast.web.answers import Asked, read_query, read_text
from tallycast.web.services import of
from tallycast.web.uploads import Received, receive_file

_SHOWN = 20
_FIRST_ERRORS = 10
_SAMPLES: dict[Kind, str] = {
    "smsStandard": "sms-standard",
    "smsDynamic": "sms-dynamic",
    "whatsApp": "whatsapp",
}


@get("/apps/{appID:str}/campaigns/{campaignID:str}/audience", role="editor")
async def show_audience(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    return await _show(request, appID, campaigns.parse_id(campaignID))


async def _show(
    request: Asked, app_id: str, campaign_id: int, status: int = 200, error: str = ""
) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        sending = await sendings.find(connection, app_id, campaign_id)
        found = await imports.list_imports(connection, app_id, campaign_id, _SHOWN, 0)
        untaken = await standstills.list_untaken(connection, app_id, campaign_id)
    template = "_imports.html" if is_partial(request) and not error else "audience.html"
    return render(
        request,
        template,
        status=status,
        sending=sending,
        base=base_of(app_id, campaign_id),
        imports=found,
        untaken=untaken,
        is_running=any(one.state in {"waiting", "running"} for one in found),
        used=_name_variables(sending),
        sample=_SAMPLES[sending.kind],
        once=once.make_mark(),
        max_mb=of(request).settings.max_upload_mb,
        error=error,
    )


def _name_variables(sending: Sending) -> list[str]:
    try:
        return find_variables(sending)
    except Misfit:  # a text from before texts were checked
        return []


@post("/apps/{appID:str}/campaigns/{campaignID:str}/audience", role="editor", status_code=303)
async def receive(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Keep the file until a person has said what its columns are."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:  # before the file is read: it may be large
        sending = await sendings.find(connection, appID, campaign_id)
    try:
        import_id = await _take_file(request, sending)
    except (TooLarge, UnsupportedMediaType, Unprocessable, BadQuery) as problem:
        said = problem.message.removeprefix("Bad query: ")
        return await _show(request, appID, campaign_id, problem.status, said)
    except (Unreadable, Misfit) as error:
        return await _show(request, appID, campaign_id, 422, str(error))
    return redirect(request, f"{base_of(appID, campaign_id)}/audience/{import_id}")


async def _take_file(request: Asked, sending: Sending) -> str:
    received = await receive_file(request)
    with received.file:
        if not received.size:
            raise Unreadable("the file is empty")
        head = await held.look(received.file, received.media_type, sending)
        upload = _make_upload(received)

        async def work(connection: db.Connection) -> str:
            actor = person_of(request).actor
            return await held.hold(connection, sending.app_id, sending.campaign_id, upload, head, actor)

        mark = f"{read_text(read_query(request), once.FIELD)} {received.digest.hex()}"
        return await once.run_once(request, sending.app_id, work, mark)


def _make_upload(received: Received) -> Upload:
    return Upload(received.file, received.size, received.file_name, received.media_type, True, Mapping())


@get("/apps/{appID:str}/campaigns/{campaignID:str}/audience/{importID:str}", role="editor")
async def show_import(request: Asked, appID: str, campaignID: str, importID: str) -> Response[bytes]:
    """Of a file that waits: its first rows, and the question what is what. Of others how far they are."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        sending = await sendings.find(connection, appID, campaign_id)
        found = await imports.find_import(connection, appID, campaign_id, importID)
        errors = await imports.list_errors(connection, appID, found.import_id, 0, _FIRST_ERRORS)
        untaken = await standstills.list_untaken(connection, appID, campaign_id)
    if found.state == "uploading":
        return await _ask(request, sending, found)
    return render(
        request,
        "_import.html" if is_partial(request) else "import.html",
        sending=sending,
        base=base_of(appID, campaign_id),
        one=found,
        errors=errors,
        is_running=found.state not in ENDED,
        is_untaken=found.import_id in untaken,
    )


async def _ask(
    request: Asked, sending: Sending, found: Import, chosen: Guess | None = None, error: str = ""
) -> Response[bytes]:
    head = await held.look_again(of(request).pool.connection, sending.app_id, found, sending)
    return render(
        request,
        "columns.html",
        status=422 if error else 200,
        sending=sending,
        base=base_of(sending.app_id, sending.campaign_id),
        one=found,
        head=head,
        chosen=chosen or head.guess,
        error=error,
    )


@post(
    "/apps/{appID:str}/campaigns/{campaignID:str}/audience/{importID:str}/begin",
    role="editor",
    status_code=303,
)
async def begin(request: Asked, appID: str, campaignID: str, importID: str) -> Response[bytes]:
    """Import the file as a person says."""
    form, campaign_id = form_of(request), campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        sending = await sendings.find(connection, appID, campaign_id)
        found = await imports.find_import(connection, appID, campaign_id, importID)
        chosen = _read_chosen(form, sending)
        try:
            if found.state == "uploading":  # else somebody was quicker: a second click
                async with connection.transaction():
                    keeps = form.text("on_error") != "refuse"
                    await held.begin(
                        connection, appID, campaign_id, found.import_id, chosen, keeps_valid=keeps
                    )
        except Misfit as misfit:
            error = str(misfit)
        else:
            return redirect(request, f"{base_of(appID, campaign_id)}/audience/{found.import_id}")
    return await _ask(request, sending, found, chosen, error)


def _read_chosen(form: Form, sending: Sending) -> Guess:
    variables = {name: form.text(f"variable.{n}") or None for n, name in enumerate(_name_variables(sending))}
    return Guess(form.text("recipient") or None, form.text("content") or None, variables)


@post("/apps/{appID:str}/campaigns/{campaignID:str}/audience/discard", role="editor", status_code=303)
async def discard(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Forget the file that waits."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        await sendings.find(connection, appID, campaign_id)
        await held.discard(connection, appID, campaign_id)
    flash = make_flash(request, "audience.discarded")
    return redirect(request, f"{base_of(appID, campaign_id)}/audience", flash=flash)


@post("/apps/{appID:str}/campaigns/{campaignID:str}/audience/clear", role="editor", status_code=303)
async def clear(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    """Remove all recipients of a draft."""
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection, connection.transaction():
        removed = await audience.clear(connection, appID, campaign_id)
    flash = make_flash(request, "audience.cleared", n=removed)
    return redirect(request, f"{base_of(appID, campaign_id)}/audience", flash=flash)


@get("/apps/{appID:str}/campaigns/{campaignID:str}/audience/{importID:str}/errors", role="editor")
async def download_errors(request: Asked, appID: str, campaignID: str, importID: str) -> Stream:
    """The rows that were not taken, to be mended and imported again."""
    async with of(request).pool.connection() as connection:
        found = await imports.find_import(connection, appID, campaigns.parse_id(campaignID), importID)
    headers = {"Content-Disposition": 'attachment; filename="error-log.csv"'}
    rows = error_logs.write(of(request).pool.connection, appID, found)
    return Stream(rows, media_type=CSV, headers=headers)


@get("/apps/{appID:str}/audience-samples/{fileName:str}", role="editor")
async def download_sample(request: Asked, appID: str, fileName: str) -> Response[bytes]:  # noqa: ARG001 - the guard reads appID
    """A file to fill in."""
    kind, _, suffix = fileName.rpartition(".")
    if kind not in samples.SAMPLES or suffix not in {"csv", "xlsx"}:
        raise NotFound
    content = samples.write_csv(kind) if suffix == "csv" else samples.write_xlsx(kind)
    headers = {"Content-Disposition": f'attachment; filename="{fileName}"'}
    return Response(content, media_type=CSV if suffix == "csv" else XLSX, headers=headers)
