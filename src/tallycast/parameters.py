"""What a WhatsApp template takes, as fields that a person can fill in, and back: the use of a template as such fields."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

from tallycast import templates
from tallycast.errors import BadQuery
from tallycast.templates import ButtonUse, HeaderUse, Listed, TemplateUse

Kind = Literal["text", "image", "video", "document", "filename", "payload", "suffix", "trackedURL", "coupon"]
_MEDIA: dict[str, Kind] = {"IMAGE": "image", "VIDEO": "video", "DOCUMENT": "document"}
_BUTTONS: dict[str, Kind] = {"QUICK_REPLY": "payload", "COPY_CODE": "coupon", "OTP": "suffix"}


class Slot(NamedTuple):
    """A parameter. `key`: header, filename, body.1, body.name, button.0; `label`: its name or its button's text."""

    key: str
    kind: Kind
    label: str
    is_needed: bool


def list_slots(listed: Listed) -> list[Slot]:
    """All that a template takes, in the order of the message."""
    return [*_list_header(listed.component("HEADER")), *_list_body(listed), *_list_buttons(listed)]


def _list_header(header: dict[str, Any]) -> Iterator[Slot]:
    kind = _MEDIA.get(templates.upper(header, "format"))
    if kind is not None:
        yield Slot("header", kind, "", True)
    elif found := templates.parameters_of(header, "text"):
        yield Slot("header", "text", found[0], True)
    if kind == "document":
        yield Slot("filename", "filename", "", False)


def _list_body(listed: Listed) -> list[Slot]:
    names = templates.parameters_of(listed.component("BODY"), "text")
    return [Slot(f"body.{name}", "text", name, True) for name in names]


def _list_buttons(listed: Listed) -> Iterator[Slot]:
    for index, button in enumerate(templates.find_buttons(listed)):
        kind = _BUTTONS.get(templates.upper(button, "type"))
        is_needed = templates.needs_value(button)
        if templates.upper(button, "type") == "URL" and is_needed:
            kind = "trackedURL" if templates.leads_here(button) else "suffix"
        if kind is not None:
            yield Slot(f"button.{index}", kind, templates.text_of(button, "text"), is_needed)


def fill(listed: Listed, values: Mapping[str, str]) -> TemplateUse:
    """The use of a template with these values by slot; empty ones are left out. BadQuery for a value that cannot be."""
    slots = [slot for slot in list_slots(listed) if values.get(slot.key)]
    body = {slot.label: values[slot.key] for slot in slots if slot.key.startswith("body.")}
    is_named = any(not name.isdecimal() for name in body)
    use = {
        "name": listed.name,
        "language": listed.language,
        "header": {_name(slot): values[slot.key] for slot in slots if slot.key in {"header", "filename"}}
        or None,
        "body": body if is_named else [body[name] for name in sorted(body, key=int)] or None,
        "buttons": [
            {"index": int(slot.key.removeprefix("button.")), slot.kind: values[slot.key]}
            for slot in slots
            if slot.key.startswith("button.")
        ],
    }
    try:
        return msgspec.convert(use, TemplateUse)
    except msgspec.ValidationError as error:
        raise BadQuery.of(f"template: {error}") from None


def _name(slot: Slot) -> str:
    return "filename" if slot.key == "filename" else slot.kind


def read(use: TemplateUse) -> dict[str, str]:
    """The values by slot."""
    body = use.body or []
    named = body if isinstance(body, dict) else {str(n): text for n, text in enumerate(body, 1)}
    return {
        **_read_header(use.header),
        **{f"body.{name}": text for name, text in named.items()},
        **{f"button.{button.index}": _read_button(button) for button in use.buttons},
    }


def _read_header(header: HeaderUse | None) -> dict[str, str]:
    if header is None:
        return {}
    value: str = getattr(header, header.kind)
    return {"header": value} | ({"filename": header.filename} if header.filename else {})


def _read_button(button: ButtonUse) -> str:
    return button.payload or button.suffix or button.tracked_url or button.coupon or ""
