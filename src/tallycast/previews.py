"""Previews: what recipients will get, before anything is sent, and how many SMS parts that takes in all."""

import asyncio
from collections.abc import AsyncIterable, Sequence
from typing import NamedTuple

import msgspec

from tallycast.providers.contract import TemplateMessage
from tallycast.rendering import Rendered, Renderer, RenderError
from tallycast.sendings import Addressed, Sending

UNSET = msgspec.UNSET
Unset = msgspec.UnsetType


class Message(msgspec.Struct, rename="camel"):
    """A recipient's message: a text with its SMS parts, or a template; `error` where it cannot be filled in."""

    recipient: str
    text: str | Unset = UNSET
    parts: int | Unset = UNSET
    template: TemplateMessage | Unset = UNSET
    fallback_text: str | Unset = UNSET
    fallback_parts: int | Unset = UNSET
    error: str | Unset = UNSET


class Size(NamedTuple):
    """`failing`: recipients whose message cannot be filled in; `error`: why, of the first of them."""

    parts: int = 0
    failing: int = 0
    error: str = ""


def show(renderer: Renderer, sending: Sending, rows: Sequence[Addressed]) -> list[Message]:
    return [_show(renderer, sending, row) for row in rows]


def _show(renderer: Renderer, sending: Sending, row: Addressed) -> Message:
    message = Message(row.recipient)
    try:
        rendered = renderer.render(row.seq, row.content, row.variables)
        message.template = rendered.template or UNSET
        message.text, message.parts = _text(rendered)
        if sending.fallback_text:
            spare = renderer.render(row.seq, row.content, row.variables, is_fallback=True)
            message.fallback_text, message.fallback_parts = _text(spare)
    except RenderError as error:
        message.error = str(error)
    return message


def _text(rendered: Rendered) -> tuple[str | Unset, int | Unset]:
    return (UNSET, UNSET) if rendered.text is None else (rendered.text, rendered.parts)


async def measure(renderer: Renderer, pages: AsyncIterable[list[Addressed]]) -> Size:
    """The size of a whole audience, exactly, portion by portion."""
    size = Size()
    async for page in pages:
        more = await asyncio.to_thread(_measure_page, renderer, page)
        size = Size(size.parts + more.parts, size.failing + more.failing, size.error or more.error)
    return size


def _measure_page(renderer: Renderer, page: list[Addressed]) -> Size:
    parts, errors = 0, []
    for row in page:
        try:
            parts += renderer.render(row.seq, row.content, row.variables).parts
        except RenderError as error:
            errors.append(str(error))
    return Size(parts, len(errors), errors[0] if errors else "")
