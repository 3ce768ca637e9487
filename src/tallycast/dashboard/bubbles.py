"""What a campaign says, as it looks on a phone: a text, or a template with its parameters filled in."""

import re
from typing import Any, NamedTuple

from tallycast import db, templates
from tallycast.sendings import Sending
from tallycast.summaries import Campaign
from tallycast.templates import Listed, TemplateUse

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
