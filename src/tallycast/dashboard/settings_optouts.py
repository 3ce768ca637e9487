"""Settings of an app: who does not want messages any more."""

from collections.abc import Mapping

from litestar import Response, get, post

from tallycast import administrations, digests, messages, optout_files, optouts
from tallycast.candidates import Misfit
from tallycast.dashboard import mistakes
from tallycast.dashboard.forms import form_of
from tallycast.dashboard.guard import by_of, person_of
from tallycast.dashboard.pages import make_flash, redirect, render
from tallycast.errors import BadQuery, TooLarge, UnsupportedMediaType
from tallycast.messages import Entry, Rejected
from tallycast.optouts import AnyKind, Kind
from tallycast.rows import Unreadable
from tallycast.web.answers import Asked, read_choice, read_int, read_query, read_text
from tallycast.web.services import of
from tallycast.web.uploads import receive_file

_PAGE = 50
_MAX_LINES = 2000
_MAX_SEARCH = 60
ANY: tuple[AnyKind, ...] = ("all", "sms", "whatsApp")
_FIELDS = {"recipients": "recipients", "source": "source", "kind": "kind"}


@get("/apps/{appID:str}/settings/opt-outs", role="admin")
async def list_opt_outs(request: Asked, appID: str) -> Response[bytes]:
    return await _show(request, appID)


async def _show(
    request: Asked,
    app_id: str,
    typed: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
    rejected: list[Rejected] | None = None,
) -> Response[bytes]:
    query = read_query(request)
    kind: Kind | None = read_choice(query, "kind", optouts.KINDS)
    search = (read_text(query, "q") or "").replace("\0", "").strip()[:_MAX_SEARCH]
    offset = max(0, read_int(query, "offset", 0))
    async with of(request).pool.connection() as connection:
        places: list[str] = []
        if search:
            address = optouts.address_of(search)
            known = await digests.find_addresses(connection, of(request).cipher, app_id, [address])
            places = [place for _, place in known]
            rows = await optouts.find(connection, app_id, kind, places, _PAGE + 1, offset)
        else:
            rows = await optouts.list_all(connection, app_id, kind, _PAGE + 1, offset)
        taken_back = await optouts.find_taken_back(connection, app_id, places) if places else []
    return render(
        request,
        "opt_outs.html",
        status=422 if errors else 200,
        rows=rows[:_PAGE],
        taken_back=taken_back,
        kind=kind,
        kinds=optouts.KINDS,
        any_kinds=ANY,
        search=search,
        previous={"offset": max(0, offset - _PAGE) or None} if offset else None,
        next={"offset": offset + _PAGE} if len(rows) > _PAGE else None,
        typed=typed or {},
        errors=mistakes.tell(request, errors or {}),
        rejected=rejected or [],
        max_mb=of(request).settings.max_upload_mb,
    )


def _read_kind(text: str | None) -> AnyKind:
    kind = next((one for one in ANY if one == text), None)
    if kind is None:
        raise BadQuery.of("kind must be sms, whatsApp or all")
    return kind


@post("/apps/{appID:str}/settings/opt-outs", role="admin", status_code=303)
async def add(request: Asked, appID: str) -> Response[bytes]:
    """Numbers as they are typed, one a line. Those that are none stay in the form."""
    form = form_of(request)
    typed = {name: form.text(name) for name in _FIELDS}
    numbers = [line.strip() for line in typed["recipients"].replace(",", "\n").splitlines() if line.strip()]
    lines = [messages.check_entry(n, n + 1, Entry(number)) for n, number in enumerate(numbers[:_MAX_LINES])]
    if not lines:
        return await _show(request, appID, typed, {"recipients": "form.required"})
    try:
        async with of(request).pool.connection() as connection, connection.transaction():
            kind, actor = _read_kind(form.text("kind")), person_of(request).actor
            accepted, rejected = await optouts.add_lines(
                connection, appID, kind, lines, typed["source"], actor
            )
    except BadQuery as problem:
        return await _show(request, appID, typed, mistakes.place(problem, _FIELDS))
    left = "\n".join([*(one.recipient for one in rejected), *numbers[_MAX_LINES:]])
    if left:
        errors = {"recipients": "opt_outs.not_numbers"}
        return await _show(request, appID, {**typed, "recipients": left}, errors, rejected)
    flash = make_flash(request, "opt_outs.added", n=accepted)
    return redirect(request, f"/apps/{appID}/settings/opt-outs", flash=flash)


@post("/apps/{appID:str}/settings/opt-outs/import", role="admin", status_code=303)
async def import_file(request: Asked, appID: str) -> Response[bytes]:
    """A file with a column of numbers."""
    kind = _read_kind(read_text(read_query(request), "kinds"))
    services = of(request)
    try:
        received = await receive_file(request)
        with received.file:
            taken = await optout_files.take(
                services.pool.connection,
                appID,
                kind,
                received.file,
                received.media_type,
                "import",
                person_of(request).actor,
            )
    except (Unreadable, Misfit) as error:
        return await _show(request, appID, None, {"file": str(error)})
    except (TooLarge, UnsupportedMediaType, BadQuery) as problem:
        said = problem.message.removeprefix("Bad query: ")
        return await _show(request, appID, None, {"file": said})
    flash = make_flash(request, "opt_outs.imported", n=taken.accepted, rejected=taken.rejected)
    if taken.first:
        return await _show(request, appID, None, {"file": "opt_outs.not_all"}, taken.first)
    return redirect(request, f"/apps/{appID}/settings/opt-outs", flash=flash)


@post("/apps/{appID:str}/settings/opt-outs/remove", role="admin", status_code=303)
async def remove(request: Asked, appID: str) -> Response[bytes]:
    """Take an opt-out back. The reason is kept, with who did it."""
    form, services = form_of(request), of(request)
    recipient, why = form.text("recipient"), form.text("why")
    kind = _read_kind(form.text("kind"))
    if not why:
        return await _show(request, appID, None, {"": "opt_outs.no_reason"})
    async with services.pool.connection() as connection, connection.transaction():
        said = f"{person_of(request).actor}: {why[:500]}"
        address = optouts.address_of(recipient)
        if await optouts.remove(connection, services.cipher, appID, kind, [address], said):
            whom = (await digests.take_key(connection, services.cipher, appID)).digest(address)
            await administrations.note(connection, appID, by_of(request), "optOut.removed", whom, kind=kind)
    flash = make_flash(request, "opt_outs.removed", recipient=recipient)
    return redirect(request, f"/apps/{appID}/settings/opt-outs", flash=flash)
