"""Making a campaign and changing its draft: what is sent, over which channel. Recipients come after it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from litestar import Response, get, post

from tallycast import campaigns, channels, db, drafts, parameters, readiness, sendings, templates
from tallycast.channels import Channel
from tallycast.dashboard import mistakes, once
from tallycast.dashboard.forms import Form, form_of
from tallycast.dashboard.guard import local_path, person_of, viewer_of
from tallycast.dashboard.pages import make_flash, redirect, render
from tallycast.dashboard.places import base_of
from tallycast.dashboard.sayings import say
from tallycast.drafts import Fallback, NewSending, SendingChange
from tallycast.errors import BadQuery, ServiceUnavailable, Unprocessable
from tallycast.sendings import Kind, Sending
from tallycast.templates import Listed, TemplateUse
from tallycast.web.answers import Asked, read_choice, read_query, read_text
from tallycast.web.services import of

KINDS: dict[Kind, channels.ChannelType] = {"smsDynamic": "sms", "smsStandard": "sms", "whatsApp": "whatsApp"}
UNITS = {"minutes": 60, "hours": 3600, "days": 86_400}
# Form fields by what the domain calls them.
_FIELDS = {
    "campaignName": "name",
    "channelID": "channel",
    "content": "content",
    "template": "template",
    "fallback.channelID": "fallback_channel",
    "fallback.text": "fallback_text",
    "fallback.afterSeconds": "fallback_after",
    "kind": "channel",
}
_MAX_AFTER_DIGITS = 7


class Wording(NamedTuple):
    """What a WhatsApp campaign can say: the templates of its channel, the one that is chosen, and how old the list is."""

    listed: list[Listed]
    chosen: Listed | None
    age: templates.Age | None


class Draft(NamedTuple):
    """What the form is about; `sending` is None while there is none yet."""

    kind: Kind
    channel: Channel | None
    sending: Sending | None


@get("/apps/{appID:str}/campaigns/new", role="editor")
async def show_new(request: Asked, appID: str) -> Response[bytes]:
    """First the kind, for WhatsApp then the channel and the template, then all that this takes."""
    kind = read_choice(read_query(request), "kind", tuple(KINDS))
    if kind is None:
        return render(request, "new.html", kinds=tuple(KINDS))
    asked = read_text(read_query(request), "channel") or ""
    async with of(request).pool.connection() as connection:
        own = await _list_channels(connection, appID, KINDS[kind])
    channel = next((one for one in own if one.channel_id == asked), None)
    if channel is None and (kind == "whatsApp" or not asked):
        ready = [one for one in own if _is_ready(request, one)]
        channel = ready[0] if len(ready) == 1 else None
    typed = {"once": once.make_mark(), "channel": channel.channel_id if channel else "", "track_links": "1"}
    return await _show(request, appID, Draft(kind, channel, None), typed)


async def _list_channels(
    connection: db.Connection, app_id: str, channel_type: channels.ChannelType
) -> list[Channel]:
    """Those that can send: a generic one only hears of what others send."""
    found = await channels.list_all(connection, app_id)
    return [one for one in found if one.type == channel_type and one.rate_per_second is not None]


def _is_ready(request: Asked, channel: Channel) -> bool:
    """Whether it has all that sending needs."""
    try:
        return not readiness.find_missing(channel, of(request).cipher)
    except Unprocessable:
        return False


async def _show(
    request: Asked,
    app_id: str,
    draft: Draft,
    typed: Mapping[str, str],
    errors: Mapping[str, str] | None = None,
) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        wording = await _find_wording(connection, draft, _name_template(request, draft))
        own = await _list_channels(connection, app_id, KINDS[draft.kind])
        spare = await _list_channels(connection, app_id, "sms") if draft.kind == "whatsApp" else []
    return render(
        request,
        "draft.html",
        status=422 if errors else 200,
        draft=draft,
        base="" if draft.sending is None else base_of(app_id, draft.sending.campaign_id),
        channels=own,
        spare=spare,
        not_ready={one.channel_id for one in (*own, *spare) if not _is_ready(request, one)},
        wording=wording,
        slots=parameters.list_slots(wording.chosen) if wording.chosen else [],
        typed=typed,
        errors=mistakes.tell(request, errors or {}),
        units=tuple(UNITS),
    )


def _name_template(request: Asked, draft: Draft) -> tuple[str, str]:
    """Name and language of the template that the form, the URL or the draft says."""
    form = form_of(request) if request.scope["state"]["method"] == "POST" else Form({})
    said = form.text("template") or read_text(read_query(request), "template") or ""
    if said:
        name, _, language = said.rpartition("/")
        return name, language
    use = None if draft.sending is None else draft.sending.template_use()
    return ("", "") if use is None else (use.name, use.language)


async def _find_wording(connection: db.Connection, draft: Draft, named: tuple[str, str]) -> Wording:
    if draft.kind != "whatsApp" or draft.channel is None:
        return Wording([], None, None)
    key = (connection, draft.channel.app_id, draft.channel.channel_number)
    listed = await templates.list_cached(*key)
    chosen = next((one for one in listed if (one.name, one.language) == named), None)
    return Wording(listed, chosen, await templates.find_age(*key))


@post("/apps/{appID:str}/campaigns/new", role="editor", status_code=303)
async def create(request: Asked, appID: str) -> Response[bytes]:
    form, person = form_of(request), person_of(request)
    kind = next((one for one in KINDS if one == form.text("kind")), None)
    if kind is None:
        raise BadQuery.of(f"kind must be one of {', '.join(KINDS)}")
    async with of(request).pool.connection() as connection:
        own = await _list_channels(connection, appID, KINDS[kind])
        draft = Draft(kind, next((one for one in own if one.channel_id == form.text("channel")), None), None)
        wording = await _find_wording(connection, draft, _name_template(request, draft))

    async def work(connection: db.Connection) -> str:
        new = NewSending(
            form.text("name"),
            kind,
            form.text("channel"),
            person.name,
            person.eid,
            content=_read_text(form, "content") if kind == "smsDynamic" else "",
            template=_fill(form, wording.chosen),
            track_links=bool(form.text("track_links")),
            fallback=_read_fallback(form),
        )
        made = await drafts.create(connection, appID, new, person.actor)
        return base_of(appID, made.campaign_id)

    errors = _find_gaps(form, draft, wording.chosen)
    if draft.channel is not None and not _is_ready(request, draft.channel):
        errors |= {"channel": "draft.channel_not_ready"}
    try:
        base = "" if errors else await once.run_once(request, appID, work)
    except (BadQuery, Unprocessable) as problem:
        errors = mistakes.place(problem, _FIELDS)
    if errors:
        return await _show(request, appID, draft, _read_typed(form), errors)
    return redirect(request, f"{base}/audience", flash=make_flash(request, "draft.made"))


def _read_typed(form: Form) -> dict[str, str]:
    return {name: values[0] for name, values in form.items()}


def _read_text(form: Form, name: str) -> str:
    """A text of several lines: browsers end each with two characters, and an SMS shall not pay for both."""
    return form.text(name).replace("\r\n", "\n")


def _find_gaps(form: Form, draft: Draft, chosen: Listed | None) -> dict[str, str]:
    """Fields that must not be empty, and are; the texts are keys of the catalogue."""
    needed = ["name"] + (["content"] if draft.kind == "smsDynamic" else [])
    gaps = {name: "form.required" for name in needed if not form.text(name)}
    if draft.channel is None:
        gaps["channel"] = "draft.no_channel"
    elif draft.kind == "whatsApp" and chosen is None:
        gaps["template"] = "draft.no_template"
    slots: Sequence[parameters.Slot] = parameters.list_slots(chosen) if chosen else ()
    return gaps | {
        f"slot.{slot.key}": "form.required"
        for slot in slots
        if slot.is_needed and not form.text(f"slot.{slot.key}")
    }


def _fill(form: Form, chosen: Listed | None) -> TemplateUse | None:
    if chosen is None:
        return None
    keys = [slot.key for slot in parameters.list_slots(chosen)]
    return parameters.fill(chosen, {key: form.text(f"slot.{key}") for key in keys})


def _read_fallback(form: Form) -> Fallback | None:
    if not form.text("fallback_channel"):
        return None
    after = form.text("fallback_after")
    count = int(after) if after.isascii() and after.isdecimal() and len(after) <= _MAX_AFTER_DIGITS else 0
    seconds = count * UNITS.get(form.text("fallback_unit"), 1)
    return Fallback(form.text("fallback_channel"), _read_text(form, "fallback_text"), seconds)


async def _find_draft(connection: db.Connection, app_id: str, campaign_id: int) -> Draft:
    sending = await sendings.find(connection, app_id, campaign_id)
    known = await channels.list_all(connection, app_id)
    channel = next((one for one in known if one.channel_number == sending.channel_number), None)
    return Draft(sending.kind, channel, sending)


@get("/apps/{appID:str}/campaigns/{campaignID:str}/edit", role="editor")
async def show_edit(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    async with of(request).pool.connection() as connection:
        draft = await _find_draft(connection, appID, campaigns.parse_id(campaignID))
    assert draft.sending is not None
    if draft.sending.stage != "draft":
        return redirect(request, base_of(appID, draft.sending.campaign_id))
    return await _show(request, appID, draft, _describe(draft.sending))


def _describe(sending: Sending) -> dict[str, str]:
    """A draft as the fields of its form."""
    use = sending.template_use()
    seconds = sending.fallback_seconds or 0
    unit = next((name for name, size in reversed(UNITS.items()) if seconds and not seconds % size), "minutes")
    slots = parameters.read(use) if use else {}
    return {
        "name": sending.name,
        "channel": sending.channel_id,
        "content": sending.content,
        "track_links": "1" if sending.track_links else "",
        "fallback_channel": sending.fallback_channel_id or "",
        "fallback_text": sending.fallback_text or "",
        "fallback_after": str(seconds // UNITS[unit]) if seconds else "",
        "fallback_unit": unit,
        **{f"slot.{key}": value for key, value in slots.items()},
    }


@post("/apps/{appID:str}/campaigns/{campaignID:str}/edit", role="editor", status_code=303)
async def change(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    form, campaign_id = form_of(request), campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection:
        draft = await _find_draft(connection, appID, campaign_id)
        wording = await _find_wording(connection, draft, _name_template(request, draft))
        errors = _find_gaps(form, draft, wording.chosen)
        if not errors:
            try:
                wanted = _read_change(form, draft, wording.chosen)
                async with connection.transaction():
                    await drafts.change(connection, appID, campaign_id, wanted)
            except (BadQuery, Unprocessable) as problem:
                errors = mistakes.place(problem, _FIELDS)
    if errors:
        return await _show(request, appID, draft, _read_typed(form), errors)
    base = base_of(appID, campaign_id)
    return redirect(request, f"{base}/audience", flash=make_flash(request, "form.saved"))


def _read_change(form: Form, draft: Draft, chosen: Listed | None) -> SendingChange:
    is_whatsapp = draft.kind == "whatsApp"
    return SendingChange(
        campaign_name=form.text("name"),
        content=_read_text(form, "content") if draft.kind == "smsDynamic" else msgspec.UNSET,
        template=(_fill(form, chosen) or msgspec.UNSET) if is_whatsapp else msgspec.UNSET,
        track_links=bool(form.text("track_links")),
        fallback=_read_fallback(form) if is_whatsapp else msgspec.UNSET,
    )


@post("/apps/{appID:str}/campaigns/{campaignID:str}/delete", role="editor", status_code=303)
async def delete(request: Asked, appID: str, campaignID: str) -> Response[bytes]:
    campaign_id = campaigns.parse_id(campaignID)
    async with of(request).pool.connection() as connection, connection.transaction():
        name = (await sendings.find(connection, appID, campaign_id)).name
        await drafts.delete(connection, appID, campaign_id)
    flash = make_flash(request, "draft.deleted", name=name)
    return redirect(request, f"/apps/{appID}/campaigns?stage=draft", flash=flash)


@post("/apps/{appID:str}/channels/{channelID:str}/templates", role="editor", status_code=303)
async def refresh_templates(request: Asked, appID: str, channelID: str) -> Response[bytes]:
    """Ask the provider for its templates, and go back to where they are chosen."""
    services = of(request)
    async with services.pool.connection() as connection:
        channel = await channels.find(connection, appID, channelID)
    flash: dict[str, Any] = {"key": "draft.templates_listed"}
    try:
        hosts = services.settings.private_hosts
        listed = await templates.refresh(services.pool.connection, services.cipher, hosts, channel)
        flash["n"] = len(listed)
    except (Unprocessable, ServiceUnavailable) as problem:
        why = say(viewer_of(request).language, problem.message)
        flash = {"key": "draft.templates_not_listed", "mood": "bad", "why": why}
    return redirect(request, local_path(form_of(request).text("next")), flash=make_flash(request, **flash))
