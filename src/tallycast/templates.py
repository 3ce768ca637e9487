"""WhatsApp templates: how a campaign uses one, what the provider lists, and whether both fit."""

import logging
import re
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from tallycast import db
from tallycast.channels import Channel
from tallycast.errors import Unprocessable
from tallycast.keys import BadKey, Cipher
from tallycast.sql import load

if TYPE_CHECKING:
    import aiohttp

    from tallycast import listings

log = logging.getLogger("tallycast.templates")
_SQL = load("templates")
_MAX_NAMED = 12
_PARAMETER = re.compile(r"\{\{\s*([^{}\s]+)\s*\}\}")
_MEDIA = ("image", "video", "document")
# What a template's button takes, and whether it must be given.
_BUTTONS: dict[str, tuple[str, ...]] = {
    "QUICK_REPLY": ("payload",),
    "URL": ("suffix", "trackedURL"),
    "COPY_CODE": ("coupon",),
    "OTP": ("suffix",),
}
_FILLED = frozenset({"COPY_CODE", "OTP"})
# Components that need no parameter or that a TemplateUse can fill.
_KNOWN = frozenset({"HEADER", "BODY", "FOOTER", "BUTTONS"})
_TRACKED_END = re.compile(r"/r/\{\{\s*[^{}\s]+\s*\}\}$")

Text = Annotated[str, Meta(min_length=1, max_length=4096)]


class HeaderUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A header's one parameter: a text, or the URL of a file. Texts may contain `{{column}}`, as everywhere here."""

    text: Text | None = None
    image: Text | None = None
    video: Text | None = None
    document: Text | None = None
    filename: Text | None = None

    def __post_init__(self) -> None:
        if len([one for one in (self.text, self.image, self.video, self.document) if one is not None]) != 1:
            raise ValueError("a header has one of text, image, video, document")
        if self.filename is not None and self.document is None:
            raise ValueError("only a document has a filename")

    @property
    def kind(self) -> str:
        return next(name for name in ("text", *_MEDIA) if getattr(self, name) is not None)


class ButtonUse(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    rename={"tracked_url": "trackedURL"},
):
    """A button's one parameter; `index` is its place among all of the template's buttons, from 0."""

    index: Annotated[int, Meta(ge=0, le=9)]
    payload: Text | None = None
    suffix: Text | None = None
    tracked_url: Text | None = None
    coupon: Text | None = None

    def __post_init__(self) -> None:
        given = (self.payload, self.suffix, self.tracked_url, self.coupon)
        if len([one for one in given if one is not None]) != 1:
            raise ValueError("a button has one of payload, suffix, trackedURL, coupon")

    @property
    def kind(self) -> str:
        names = {"payload": self.payload, "suffix": self.suffix, "trackedURL": self.tracked_url}
        return next((name for name, given in names.items() if given is not None), "coupon")


class TemplateUse(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which template a campaign sends, and what its parameters are filled with.

    `body` is a list for `{{1}}`, `{{2}}` …, or an object for named parameters.
    """

    name: Text
    language: Text
    header: HeaderUse | None = None
    body: list[str] | dict[str, str] | None = None
    buttons: list[ButtonUse] = []


class Listed(msgspec.Struct, frozen=True):
    """A template as the provider lists it; `status` in upper case, `components` as Meta writes them."""

    name: str
    language: str
    status: str
    category: str
    components: list[dict[str, Any]]

    def component(self, kind: str) -> dict[str, Any]:
        """The component of a kind; empty where the template has none."""
        return next((one for one in self.components if upper(one, "type") == kind), {})


class Age(NamedTuple):
    listed_at: datetime
    seconds: float


def find_buttons(listed: Listed) -> list[dict[str, Any]]:
    found = listed.component("BUTTONS").get("buttons")
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def leads_here(button: dict[str, Any]) -> bool:
    """Whether a button's URL is one of this server's tracked links."""
    return _TRACKED_END.search(text_of(button, "url")) is not None


def upper(part: dict[str, Any], name: str) -> str:
    value = part.get(name)
    return value.upper() if isinstance(value, str) else ""


def text_of(part: dict[str, Any], name: str) -> str:
    value = part.get(name)
    return value if isinstance(value, str) else ""


def parameters_of(part: dict[str, Any], name: str) -> list[str]:
    """The parameters of a component's text, each once, in the order of the text."""
    return list(dict.fromkeys(_PARAMETER.findall(text_of(part, name))))


async def refresh(
    connect: db.Connect, cipher: Cipher, private_hosts: Collection[str], channel: Channel
) -> list[Listed]:
    """Ask the provider and remember what it lists. Unprocessable or ServiceUnavailable, see `listings.ask`.

    No connection is held while the provider takes its time.
    """
    from tallycast import calls  # noqa: PLC0415 - what calls nobody need not load it

    async with calls.make_client(private_hosts) as client:
        listed = await _ask(client, cipher, channel)
    async with connect() as connection:
        await keep(connection, channel, listed)
    return listed


async def _ask(client: "aiohttp.ClientSession", cipher: Cipher, channel: Channel) -> list[Listed]:
    from tallycast import listings  # noqa: PLC0415 - see above

    if channel.type != "whatsApp":
        raise Unprocessable(f"channel {channel.channel_id} is for SMS: only WhatsApp has templates")
    try:
        credentials = channel.open_secrets(cipher).credentials
    except BadKey as error:
        raise Unprocessable(str(error)) from None
    known: dict[tuple[str, str], Listed] = {}
    for item in await listings.ask(client, channel.provider, credentials):
        try:
            listed = _read_item(item)
        except ValueError as error:
            log.warning("a template is left out: %s", error, extra={"channel": channel.channel_id})
        else:
            known[listed.name, listed.language] = listed
    return [known[key] for key in sorted(known)]


class _Item(msgspec.Struct):
    name: str
    language: str
    status: str = ""
    category: str | None = None
    components: list[dict[str, Any]] | None = None


def _read_item(item: "listings.Item") -> Listed:
    read = msgspec.convert(item, _Item)
    if b"\\u0000" in msgspec.json.encode(read):
        raise ValueError("it contains NUL, which cannot be stored")
    return Listed(
        read.name, read.language, read.status.upper(), (read.category or "").upper(), read.components or []
    )


async def keep(connection: db.Connection, channel: Channel, listed: Sequence[Listed]) -> None:
    """Replace what is remembered of a channel's templates."""
    place = {"app_id": channel.app_id, "channel_number": channel.channel_number}
    params = place | {
        "names": [one.name for one in listed],
        "languages": [one.language for one in listed],
        "statuses": [one.status for one in listed],
        "categories": [one.category for one in listed],
        "components": [msgspec.json.encode(one.components).decode() for one in listed],
    }
    async with connection.transaction():
        await db.execute(connection, _SQL["forget_templates"], place)
        await db.execute(connection, _SQL["keep_templates"], params)


async def list_cached(connection: db.Connection, app_id: str, channel_number: int) -> list[Listed]:
    params = {"app_id": app_id, "channel_number": channel_number}
    return await db.fetch_all(connection, Listed, _SQL["list_templates"], params)


async def find_age(connection: db.Connection, app_id: str, channel_number: int) -> Age | None:
    """How old the remembered list is; None where there is none, or an empty one."""
    params = {"app_id": app_id, "channel_number": channel_number}
    rows = await db.fetch_rows(connection, _SQL["find_age"], params)
    return Age(*rows[0]) if rows else None


def check_use(use: TemplateUse, listed: Sequence[Listed]) -> None:
    """Unprocessable where the template cannot be sent like this; the message names the parameter that is wrong."""
    template = _find(use, listed)
    if template.status != "APPROVED":
        raise Unprocessable(
            f"template {use.name} ({use.language}) is {template.status or 'of unknown status'}, not APPROVED"
        )
    strange = sorted({upper(one, "type") for one in template.components} - _KNOWN)
    if strange:
        raise Unprocessable(
            f"template {use.name} has a component {strange[0]}, which tallycast cannot fill in"
        )
    _check_header(use, template.component("HEADER"))
    _check_body(use, template.component("BODY"))
    _check_buttons(use, find_buttons(template))


def _find(use: TemplateUse, listed: Sequence[Listed]) -> Listed:
    languages = {one.language: one for one in listed if one.name == use.name}
    if use.language in languages:
        return languages[use.language]
    if languages:
        there = _some(sorted(languages))
        raise Unprocessable(f"template.language: {use.name} exists in {there}, not in {use.language}")
    names = _some(sorted({one.name for one in listed})) or "none"
    raise Unprocessable(f"template.name: the channel has no template {use.name}; the provider lists {names}")


def _some(names: list[str]) -> str:
    more = len(names) - _MAX_NAMED
    return ", ".join(names[:_MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _check_header(use: TemplateUse, header: dict[str, Any]) -> None:
    kind = upper(header, "format").lower() or "text"
    asked = kind in _MEDIA or bool(parameters_of(header, "text"))
    if kind not in {"text", *_MEDIA}:
        raise Unprocessable(f"template.header: a header of kind {kind} cannot be filled in by tallycast")
    if use.header is None:
        if asked:
            raise Unprocessable(f"template.header is missing: the template's header needs {_a(kind)}")
        return
    if not asked:
        raise Unprocessable("template.header: the template's header takes no parameter")
    if kind == "text" and not parameters_of(header, "text")[0].isdecimal():
        raise Unprocessable("template.header: a header's named parameter cannot be filled in by tallycast")
    if use.header.kind != kind:
        raise Unprocessable(f"template.header must be {_a(kind)}, not {_a(use.header.kind)}")


def _a(kind: str) -> str:
    return f"an {kind}" if kind.startswith("i") else f"a {kind}"


def _check_body(use: TemplateUse, body: dict[str, Any]) -> None:
    wanted, given = parameters_of(body, "text"), use.body or []
    is_named = any(not name.isdecimal() for name in wanted)
    if given and wanted and isinstance(given, dict) != is_named:
        shape = "an object with the names" if is_named else "a list of the values for"
        raise Unprocessable(f"template.body must be {shape} {', '.join(wanted)}")
    if isinstance(given, dict):
        _check_names(wanted, list(given))
    elif len(given) != len(wanted):
        raise Unprocessable(
            f"template.body has {len(given)} parameters, and the template takes {len(wanted)}"
            + (f": {', '.join(wanted)}" if is_named else "")
        )


def _check_names(wanted: list[str], given: list[str]) -> None:
    missing = [name for name in wanted if name not in given]
    if missing:
        raise Unprocessable(f"template.body.{missing[0]} is missing: the template has such a parameter")
    strange = [name for name in given if name not in wanted]
    if strange:
        raise Unprocessable(f"template.body.{strange[0]}: the template has no such parameter")


def _check_buttons(use: TemplateUse, buttons: list[dict[str, Any]]) -> None:
    seen: set[int] = set()
    for n, given in enumerate(use.buttons):
        where = f"template.buttons[{n}]"
        if given.index >= len(buttons):
            raise Unprocessable(f"{where}.index: the template has {len(buttons)} buttons, counted from 0")
        if given.index in seen:
            raise Unprocessable(f"{where}.index: button {given.index} is there twice")
        seen.add(given.index)
        _check_button(where, given, buttons[given.index])
    for index, button in enumerate(buttons):
        if index not in seen and needs_value(button):
            kinds = " or ".join(_BUTTONS[upper(button, "type")])
            raise Unprocessable(f"template.buttons: button {index} ({text_of(button, 'text')}) needs {kinds}")


def needs_value(button: dict[str, Any]) -> bool:
    kind = upper(button, "type")
    return kind in _FILLED or (kind == "URL" and bool(parameters_of(button, "url")))


def _check_button(where: str, given: ButtonUse, button: dict[str, Any]) -> None:
    kind, url = upper(button, "type"), text_of(button, "url")
    takes = _BUTTONS.get(kind, ())
    if given.kind not in takes:
        said = f"takes {' or '.join(takes)}" if takes else "takes no parameter"
        raise Unprocessable(f"{where}.{given.kind}: button {given.index} is a {kind}, which {said}")
    if kind == "URL" and not parameters_of(button, "url"):
        raise Unprocessable(f"{where}.{given.kind}: the URL of button {given.index} has no parameter: {url}")
    if given.kind == "trackedURL" and not leads_here(button):
        raise Unprocessable(
            f"{where}.trackedURL: the URL of button {given.index} must end in /r/{{{{1}}}} at this server, it is {url}"
        )
