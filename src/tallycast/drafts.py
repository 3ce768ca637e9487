"""Drafts: making, changing and deleting a campaign before it is submitted."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from tallycast import audience, campaigns, channels, db, links, policies, sendings, texts
from tallycast.campaigns import SentCampaign
from tallycast.channels import Channel
from tallycast.errors import BadQuery, NotFound, Unprocessable
from tallycast.moments import parse_moment
from tallycast.sendings import Kind, Sending
from tallycast.sql import load
from tallycast.templates import TemplateUse

_SQL = load("sendings")
_TYPES = {"smsStandard": "sms", "smsDynamic": "sms", "whatsApp": "whatsApp"}
_MAX_TEXT = 100_000
_MAX_FALLBACK_SECONDS = 30 * 86_400
UNSET = msgspec.UNSET
Unset = msgspec.UnsetType


class Fallback(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The SMS for a WhatsApp campaign's recipients who are not delivered in time, or fail for good."""

    channel_id: str = msgspec.field(name="channelID")
    text: str
    after_seconds: int


class NewSending(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A campaign to be sent. `scheduledAt` is RFC 3339 with an offset; without it the campaign waits for `start`."""

    campaign_name: str
    kind: Kind
    channel_id: str = msgspec.field(name="channelID")
    created_by: str = ""
    sender_eid: str = msgspec.field(name="senderEID", default="")
    content: str = ""
    template: TemplateUse | None = None
    track_links: bool = False
    fallback: Fallback | None = None
    scheduled_at: str | None = None


class SendingChange(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """What a PATCH may change in a draft; what is absent stays, a fallback or schedule that is null is removed."""

    campaign_name: str | Unset = UNSET
    created_by: str | Unset = UNSET
    sender_eid: str | Unset = msgspec.field(name="senderEID", default=UNSET)
    content: str | Unset = UNSET
    template: TemplateUse | Unset = UNSET
    track_links: bool | Unset = UNSET
    fallback: Fallback | Unset | None = UNSET
    scheduled_at: str | Unset | None = UNSET


async def create(connection: db.Connection, app_id: str, new: NewSending, actor: str) -> Sending:
    """Make a draft, in the caller's transaction."""
    _check_content(new.kind, new.content, new.template)
    channel = await _find_channel(connection, app_id, new.channel_id, "channelID")
    if channel.type != _TYPES[new.kind]:
        raise BadQuery.of(f"kind {new.kind} needs a channel of type {_TYPES[new.kind]}, not {channel.type}")
    subject = new.template.name if new.template else ""
    sent = SentCampaign(
        new.campaign_name, new.channel_id, new.created_by, new.sender_eid, subject, new.content
    )
    campaign_id = await campaigns.record(connection, app_id, channel, sent)
    params = {
        "app_id": app_id,
        "campaign_id": campaign_id,
        "channel_number": channel.channel_number,
        "kind": new.kind,
        "template": _encode(new.template),
        "track_links": new.track_links,
        "scheduled_at": await _read_moment(connection, app_id, new.scheduled_at),
        "created_as": actor,
        **await _read_fallback(connection, app_id, new.kind, new.fallback),
    }
    await db.execute(connection, _SQL["add_sending"], params)
    return await sendings.find(connection, app_id, campaign_id)


async def change(connection: db.Connection, app_id: str, campaign_id: int, wanted: SendingChange) -> Sending:
    """Change a draft, in the caller's transaction."""
    was = await _hold_draft(connection, app_id, campaign_id, "changed")
    content = was.content if wanted.content is UNSET else wanted.content
    template = was.template_use() if wanted.template is UNSET else wanted.template
    _check_content(was.kind, content, template)
    key = {"app_id": app_id, "campaign_id": campaign_id}
    names = {
        "name": was.name if wanted.campaign_name is UNSET else wanted.campaign_name,
        "created_by": was.created_by if wanted.created_by is UNSET else wanted.created_by,
        "sender_eid": was.sender_eid if wanted.sender_eid is UNSET else wanted.sender_eid,
        "subject": template.name if template else "",
        "content": content,
    }
    campaigns.check_texts(*names.values())
    fallback = {
        name: getattr(was, name) for name in ("fallback_channel", "fallback_text", "fallback_seconds")
    }
    if wanted.fallback is not UNSET:
        fallback = await _read_fallback(connection, app_id, was.kind, wanted.fallback)
    params = {
        **key,
        **fallback,
        "template": _encode(template),
        "track_links": was.track_links if wanted.track_links is UNSET else wanted.track_links,
        "scheduled_at": was.scheduled_at
        if wanted.scheduled_at is UNSET
        else await _read_moment(connection, app_id, wanted.scheduled_at),
    }
    await db.execute(connection, _SQL["change_campaign"], {**key, **names})
    await db.execute(connection, _SQL["change_sending"], params)
    return await sendings.find(connection, app_id, campaign_id)


async def delete(connection: db.Connection, app_id: str, campaign_id: int) -> None:
    """Delete a draft with its audience, imports and test messages, in the caller's transaction.

    Its tracked links stay, and are never given out again: a test message may hold one.
    """
    await _hold_draft(connection, app_id, campaign_id, "deleted")
    await audience.clear(connection, app_id, campaign_id)
    key = {"app_id": app_id, "campaign_id": campaign_id}
    for query in (
        _SQL["delete_import_chunks"],
        _SQL["delete_import_errors"],
        _SQL["delete_imports"],
        _SQL["delete_trials"],
        _SQL["delete_transitions"],
        _SQL["delete_sending"],
        _SQL["delete_counts"],
        _SQL["delete_campaign"],
    ):
        await db.execute(connection, query, key)


async def _hold_draft(connection: db.Connection, app_id: str, campaign_id: int, what: str) -> Sending:
    sending = await sendings.hold(connection, app_id, campaign_id)
    if sending.stage != "draft":
        raise Unprocessable(f"only a draft can be {what}; the campaign is {sending.stage}")
    return sending


async def _find_channel(connection: db.Connection, app_id: str, channel_id: str, name: str) -> Channel:
    """A channel that can send."""
    try:
        channel = await channels.find(connection, app_id, channel_id)
    except NotFound:
        raise BadQuery.of(f"{name} must be a channel of this app, not {channel_id[:80]!r}") from None
    if channel.provider == "generic":
        raise Unprocessable(
            f"{name} is a generic channel: it only takes receipts of what others send. "
            "Add a channel of the provider that shall send"
        )
    return channel


def _check_content(kind: Kind, content: str, template: TemplateUse | None) -> None:
    if (kind == "smsDynamic") != bool(content.strip()):
        raise BadQuery.of(
            "content must be the text of the SMS, with {{column}} for what differs"
            if kind == "smsDynamic"
            else f"content is for kind smsDynamic; a campaign of kind {kind} must have none"
        )
    if (kind == "whatsApp") != (template is not None):
        raise BadQuery.of(
            "template must name the approved template, its language and its parameters"
            if kind == "whatsApp"
            else f"template is for kind whatsApp; a campaign of kind {kind} must have none"
        )
    _check_braces("content", content)
    for text in texts.strings_of(msgspec.to_builtins(template)):
        if "\0" in text:
            raise BadQuery.of("template must not contain NUL")
        _check_braces("template", text)
    for n, button in enumerate(template.buttons if template else ()):
        if button.tracked_url is not None:
            links.check_url(button.tracked_url, f"template.buttons[{n}].trackedURL")


def _check_braces(name: str, text: str) -> None:
    try:
        texts.read(text)
    except texts.RenderError as error:
        raise BadQuery.of(f"{name}: {error}") from None


def _encode(template: TemplateUse | None) -> str | None:
    return None if template is None else msgspec.json.encode(template).decode()


async def _read_moment(connection: db.Connection, app_id: str, text: str | None) -> datetime | None:
    if not text:
        return None
    due = parse_moment(text, "scheduledAt")
    (await policies.find_policy(connection, app_id)).check_due(due, datetime.now(UTC))
    return due


async def _read_fallback(
    connection: db.Connection, app_id: str, kind: Kind, fallback: Fallback | None
) -> dict[str, Any]:
    """The fallback's columns."""
    if fallback is None:
        return {"fallback_channel": None, "fallback_text": None, "fallback_seconds": None}
    if kind != "whatsApp":
        raise BadQuery.of("fallback is for kind whatsApp: the SMS for those whom WhatsApp does not reach")
    channel = await _find_channel(connection, app_id, fallback.channel_id, "fallback.channelID")
    if channel.type != "sms":
        raise BadQuery.of("fallback.channelID must be an SMS channel")
    if not 0 < fallback.after_seconds <= _MAX_FALLBACK_SECONDS:
        raise BadQuery.of(f"fallback.afterSeconds must be from 1 to {_MAX_FALLBACK_SECONDS}")
    if not fallback.text.strip() or len(fallback.text) > _MAX_TEXT or "\0" in fallback.text:
        raise BadQuery.of(f"fallback.text must be a text of at most {_MAX_TEXT} characters, without NUL")
    _check_braces("fallback.text", fallback.text)
    return {
        "fallback_channel": channel.channel_number,
        "fallback_text": fallback.text,
        "fallback_seconds": fallback.after_seconds,
    }
