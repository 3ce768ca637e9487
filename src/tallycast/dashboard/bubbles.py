"""What a campaign says, as it looks on a phone: a text, or a template with its parameters filled in."""

import re
from typing import Any, NamedTuple

from tallycast import db, digests, previews, rendering, sendings, templates
from tallycast.errors import Unprocessable
from tallycast.previews import Message
from tallycast.providers.contract import TemplateMessage
from tallycast.recipients import Recipient
from tallycast.rendering import RenderError
from tallycast.sendings import Sending
from tallycast.summaries import Campaign
from tallycast.templates import HeaderUse, Listed, TemplateUse

_PARAMETER = re.compile(r"\{\{\s*([^{}\s]+)\s*\}\}")


class Bubble(NamedTuple):
    """`media`: the kind of a header's file. `is_known`: the provider has listed the template."""

    text: str = ""
    header: str = ""
    media: str = ""
    footer: str = ""
    buttons: tuple[str, ...] = ()
    template: str = ""
    language: str = ""
    parameters: tuple[tuple[str, str], ...] = ()
    is_known: bool = True


async def draw(connection: db.Connection, campaign: Campaign, sending: Sending | None) -> Bubble | None:
    """None where nobody has told what it says."""
    use = None if sending is None else sending.template_use()
    if use is None or sending is None:
        text = campaign.content or campaign.subject
        return Bubble(text) if text else None
    listed = await templates.list_cached(connection, sending.app_id, sending.channel_number)
    found = next((one for one in listed if (one.name, one.language) == (use.name, use.language)), None)
    return fill(use, found)


async def draw_for(
    connection: db.Connection, campaign: Campaign, recipient: Recipient, app_id: str, base_url: str
) -> Bubble | None:
    """What this recipient gets or got; None where nobody has told it, and for who is anonymous."""
    if digests.is_digest(recipient.recipient):
        return None
    if recipient.content or campaign.stage is None:  # what was sent is kept with the message
        text = recipient.content or campaign.content
        return Bubble(text) if text else None
    sending = await sendings.find(connection, app_id, campaign.campaign_id)
    try:
        message = await _render(connection, sending, recipient.seq, base_url)
    except (RenderError, Unprocessable):
        return None
    if message is None:
        return None
    if recipient.channel_id == sending.fallback_channel_id:
        return Bubble(message.fallback_text) if isinstance(message.fallback_text, str) else None
    listed = await templates.list_cached(connection, app_id, sending.channel_number)
    return draw_message(message, listed)


async def _render(connection: db.Connection, sending: Sending, seq: int, base_url: str) -> Message | None:
    """None for who is anonymous."""
    key = (connection, sending.app_id, sending.campaign_id)
    rows = [row for row in await sendings.list_texts(*key, seq, 1) if row.seq == seq]
    renderer = await rendering.load_renderer(*key, base_url)
    return next(iter(previews.show(renderer, sending, rows)), None)


def draw_message(message: Message, listed: list[Listed]) -> Bubble | None:
    """A message as on a phone; None for one that cannot be filled in."""
    if isinstance(message.text, str):
        return Bubble(message.text)
    if not isinstance(message.template, TemplateMessage):
        return None
    use = _read_use(message.template)
    found = next((one for one in listed if (one.name, one.language) == (use.name, use.language)), None)
    return fill(use, found)


def _read_use(message: TemplateMessage) -> TemplateUse:
    """A filled-in template, as the use whose parameters are those texts."""
    found = {one["type"]: one["parameters"] for one in message.components}
    body = found.get("body", [])
    names = [one.get("parameter_name") for one in body]
    texts = [one["text"] for one in body]
    return TemplateUse(
        message.name,
        message.language,
        _read_header(found["header"][0]) if "header" in found else None,
        dict(zip(names, texts, strict=True)) if any(names) else texts,
    )


def _read_header(parameter: dict[str, Any]) -> HeaderUse:
    kind = parameter["type"]
    return HeaderUse(**{kind: parameter["text"] if kind == "text" else parameter[kind]["link"]})


def fill(use: TemplateUse, listed: Listed | None) -> Bubble:
    """A template with its parameters in their places."""
    body = use.body or []
    named = body if isinstance(body, dict) else {str(n): text for n, text in enumerate(body, 1)}
    bubble = Bubble(template=use.name, language=use.language, parameters=tuple(named.items()))
    media = use.header.kind if use.header is not None and use.header.kind != "text" else ""
    if listed is None:
        return bubble._replace(media=media, is_known=False)
    header = {"1": use.header.text or ""} if use.header is not None else {}
    return bubble._replace(
        text=_put_in(_text_of(listed.component("BODY")), named),
        header=_put_in(_text_of(listed.component("HEADER")), header),
        media=media,
        footer=_text_of(listed.component("FOOTER")),
        buttons=_list_buttons(listed.component("BUTTONS")),
    )


def _put_in(text: str, values: dict[str, str]) -> str:
    return _PARAMETER.sub(lambda match: values.get(match[1], match[0]), text)


def _text_of(part: dict[str, Any]) -> str:
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _list_buttons(component: dict[str, Any]) -> tuple[str, ...]:
    found = component.get("buttons")
    items = found if isinstance(found, list) else []
    return tuple(_text_of(one) for one in items if isinstance(one, dict))
