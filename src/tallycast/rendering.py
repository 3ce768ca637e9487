"""Messages as they go out: a campaign's texts or template, filled in for one recipient."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from tallycast import apps, db, links, sendings
from tallycast.errors import NotFound, Unprocessable
from tallycast.links import Link
from tallycast.providers.contract import TemplateMessage
from tallycast.references import write_reference
from tallycast.segments import MAX_PARTS, count_parts
from tallycast.sendings import Sending
from tallycast.templates import ButtonUse, HeaderUse, TemplateUse
from tallycast.texts import Filling, RenderError, Variable, find_own_urls, find_urls, read, read_own

__all__ = ["RenderError", "Rendered", "Renderer", "load_renderer", "make_links"]

MAX_URLS = 100
_MAX_PAYLOAD = 128
_BREAKS = re.compile(r"[ ]*[\n\r\t\v\f\x85\u2028\u2029][\s]*|[ ]{5,}")
# What may stand in a URL stays (RFC 3986, section 2.2), also an escape that is there already.
_URL_SAFE = "!#$%&'()*+,/:;=?@[]~"
_KINDS = {"payload": "quick_reply", "suffix": "url", "coupon": "copy_code"}
Component = dict[str, Any]
Fill = Callable[[int, Sequence[str]], Component]
Write = Callable[[str, str], str]


class Rendered(msgspec.Struct, frozen=True, gc=False):
    """A message's text, with the SMS parts that it takes, or its template."""

    text: str | None
    template: TemplateMessage | None
    parts: int


class Renderer:
    """Fills in one campaign's messages; `known` are its tracked links by target."""

    def __init__(self, sending: Sending, app_key: str, base_url: str, known: Mapping[str, Link]) -> None:
        self._campaign_id = sending.campaign_id
        self._app_key = app_key
        self._link_prefix = f"{base_url}/r/"
        self._known = known if sending.track_links else {}
        self._text = self._read(sending, sending.content) if sending.kind == "smsDynamic" else None
        self._fallback = self._read(sending, sending.fallback_text) if sending.fallback_text else None
        use = sending.template_use()
        self._template = None if use is None else _Template(use, sending, self._mint(known))
        self._columns = len(sending.columns)

    def _read(self, sending: Sending, text: str) -> Filling:
        return Filling.of(text, sending.columns, self._known, self._write_link)

    def _write_link(self, link: Link, seq: int) -> str:
        return self._link_prefix + links.mint_code(link, self._app_key, seq)

    def _mint(self, known: Mapping[str, Link]) -> Callable[[str, int], str]:
        return lambda url, seq: links.mint_code(known[url], self._app_key, seq)

    def render(
        self, seq: int, content: str | None, variables: Sequence[str] | None, is_fallback: bool = False
    ) -> Rendered:
        """The message of a recipient; RenderError where it cannot be filled in."""
        values = variables or ()
        if is_fallback:
            if self._fallback is None:
                raise RenderError("the campaign has no fallback text")
            return _sms(self._fallback.fill(seq, values))
        if self._template is not None:
            return Rendered(None, self._template.fill(seq, values), 1)
        return _sms(self._track(seq, content or "") if self._text is None else self._text.fill(seq, values))

    def check(self) -> None:
        """RenderError where no recipient's message can be filled in, whatever the values; it names the parameter."""
        if self._template is not None:
            self._template.check()
        for name, filling in (("content", self._text), ("fallback.text", self._fallback)):
            parts = 1 if filling is None else count_parts(filling.fill(0, [""] * self._columns))
            if parts > MAX_PARTS:
                raise RenderError(f"{name} {_too_long(parts)}")

    def _track(self, seq: int, content: str) -> str:
        """A recipient's own text with its links."""
        if not self._known or "://" not in content:
            return content
        pieces = (piece if isinstance(piece, str) else piece.url for piece in read_own(content))
        return "".join(
            self._write_link(self._known[piece], seq) if piece in self._known else piece for piece in pieces
        )


def _sms(text: str) -> Rendered:
    parts = count_parts(text)
    if not text.strip():
        raise RenderError("the text is empty")
    if parts > MAX_PARTS:
        raise RenderError(f"the text {_too_long(parts)}")
    return Rendered(text, None, parts)


def _too_long(parts: int) -> str:
    return f"takes {parts} SMS parts, and at most {MAX_PARTS} can be sent"


class _Template:
    """A template's components, each ready to be filled in."""

    def __init__(self, use: TemplateUse, sending: Sending, mint: Callable[[str, int], str]) -> None:
        self._use = use
        self._campaign_id = sending.campaign_id
        self._last = max(sending.total - 1, 0)
        self._columns = sending.columns
        self._mint = mint
        self._components = [
            *([self._header(use.header)] if use.header else []),
            *([self._body(use.body)] if use.body else []),
            *(self._button(button) for button in use.buttons or ()),
        ]

    def fill(self, seq: int, values: Sequence[str]) -> TemplateMessage:
        components = [component(seq, values) for component in self._components]
        return TemplateMessage(self._use.name, self._use.language, components)

    def check(self) -> None:
        """RenderError where a parameter that is the same for all can never be filled in."""
        for name, text, write in self._parameters():
            if not any(isinstance(piece, Variable) for piece in read(text)):
                write(text, name)

    def _parameters(self) -> Iterator[tuple[str, str, Write]]:
        """Each parameter's name as requests have it, its text, and how it is written."""
        header, body = self._use.header, self._use.body or ()
        if header is not None:
            kind = header.kind
            yield f"template.header.{kind}", getattr(header, kind), _line if kind == "text" else _url
            if header.filename is not None:
                yield "template.header.filename", header.filename, _line
        if isinstance(body, Mapping):
            yield from ((f"template.body.{name}", text, _line) for name, text in body.items())
        else:
            yield from ((f"template.body[{n}]", text, _line) for n, text in enumerate(body))
        writes: dict[str, Write] = {"suffix": _suffix, "coupon": _line, "payload": self._last_payload}
        for n, button in enumerate(self._use.buttons):
            if button.kind in writes:
                name = f"template.buttons[{n}].{button.kind}"
                yield name, getattr(button, button.kind), writes[button.kind]

    def _last_payload(self, text: str, what: str) -> str:
        """The one with the longest reference."""
        return self._payload(self._last, text, what)

    def _read(self, text: str) -> Filling:
        return Filling.of(text, self._columns, {}, lambda link, _seq: link.url)

    def _header(self, header: HeaderUse) -> Fill:
        if header.text:
            text = self._read(header.text)
            return lambda seq, values: {
                "type": "header",
                "parameters": [{"type": "text", "text": _line(text.fill(seq, values), "the header")}],
            }
        kind = next(kind for kind in ("image", "video", "document") if getattr(header, kind))
        link = self._read(getattr(header, kind))
        name = self._read(header.filename) if header.filename else None

        def fill(seq: int, values: Sequence[str]) -> Component:
            media = {"link": _url(link.fill(seq, values), f"the header's {kind}")}
            if name is not None:
                media["filename"] = _line(name.fill(seq, values), "the document's filename")
            return {"type": "header", "parameters": [{"type": kind, kind: media}]}

        return fill

    def _body(self, body: Sequence[str] | Mapping[str, str]) -> Fill:
        named = (
            body.items() if isinstance(body, Mapping) else ((str(n), text) for n, text in enumerate(body, 1))
        )
        texts = [(name, self._read(text)) for name, text in named]
        is_named = isinstance(body, Mapping)

        def fill(seq: int, values: Sequence[str]) -> Component:
            parameters = []
            for name, text in texts:
                line = _line(text.fill(seq, values), f"the body's parameter {name}")
                parameter = {"type": "text", "text": line}
                parameters.append(parameter | {"parameter_name": name} if is_named else parameter)
            return {"type": "body", "parameters": parameters}

        return fill

    def _button(self, button: ButtonUse) -> Fill:
        what = f"button {button.index}"
        if button.tracked_url:
            url = button.tracked_url
            return lambda seq, _values: _write_button(button, "suffix", self._mint(url, seq))
        kind = next(kind for kind in _KINDS if getattr(button, kind))
        text = self._read(getattr(button, kind))
        if kind == "payload":
            return lambda seq, values: _write_button(
                button, kind, self._payload(seq, text.fill(seq, values), what)
            )
        if kind == "suffix":
            return lambda seq, values: _write_button(button, kind, _suffix(text.fill(seq, values), what))
        return lambda seq, values: _write_button(button, kind, _line(text.fill(seq, values), what))

    def _payload(self, seq: int, text: str, what: str) -> str:
        """The reference stands before the payload, so that a click is known without its message id."""
        payload = f"{write_reference(self._campaign_id, seq)}:{text}"
        if len(payload) > _MAX_PAYLOAD:
            spare = _MAX_PAYLOAD - len(payload) + len(text)
            raise RenderError(f"{what}: the payload must be at most {spare} characters, not {len(text)}")
        return payload


def _write_button(button: ButtonUse, kind: str, text: str) -> Component:
    types = {"payload": ("payload", "payload"), "suffix": ("text", "text"), "coupon": ("coupon_code",) * 2}
    name, key = types[kind]
    return {
        "type": "button",
        "sub_type": _KINDS[kind],
        "index": str(button.index),
        "parameters": [{"type": name, key: text}],
    }


def _line(text: str, what: str) -> str:
    """A parameter as WhatsApp takes it: not empty, without line breaks, tabs and more than four spaces in a row."""
    line = _BREAKS.sub(" ", text).strip()
    if not line:
        raise RenderError(f"{what} is empty")
    return line


def _suffix(text: str, what: str) -> str:
    suffix = quote(text.strip(), safe=_URL_SAFE)
    if not suffix:
        raise RenderError(f"{what}: the end of its URL is empty")
    return suffix


def _url(text: str, what: str) -> str:
    url = quote(text.strip(), safe=_URL_SAFE)
    if not url.startswith(("https://", "http://")):
        raise RenderError(f"{what} must be an http(s) URL, not {text[:60]!r}")
    return url


async def load_renderer(connection: db.Connection, app_id: str, campaign_id: int, base_url: str) -> Renderer:
    """The campaign's renderer, with all the links that it needs; those that are missing are made.

    RenderError where a text names no column, Unprocessable with too many URLs.
    """
    sending = await sendings.find(connection, app_id, campaign_id)
    app = await apps.find_app(connection, app_id)
    if app is None:
        raise NotFound(f"no app {app_id}")
    return Renderer(sending, app.app_key, base_url, await make_links(connection, sending))


async def make_links(connection: db.Connection, sending: Sending) -> dict[str, Link]:
    """The campaign's links by target. Recipients' own texts are only read while they may still change."""
    urls = _urls_of(sending)
    if sending.track_links and sending.kind == "smsStandard" and sending.stage == "draft":
        urls |= await _find_own_urls(connection, sending)
    known = await links.list_of(connection, sending.app_id, sending.campaign_id)
    for url in sorted(urls - known.keys()):
        known[url] = await links.create(connection, sending.app_id, sending.campaign_id, url)
    return known


def _urls_of(sending: Sending) -> set[str]:
    use = sending.template_use()
    urls = {button.tracked_url for button in (use and use.buttons) or () if button.tracked_url}
    texts = [sending.content, sending.fallback_text or ""] if sending.track_links else []
    return urls.union(*(find_urls(text) for text in texts))


async def _find_own_urls(connection: db.Connection, sending: Sending) -> set[str]:
    urls: set[str] = set()
    async for page in sendings.each_page(db.always(connection), sending.app_id, sending.campaign_id):
        urls.update(*(find_own_urls(row.content or "") for row in page))
        if len(urls) > MAX_URLS:
            raise Unprocessable(
                f"the recipients' texts have more than {MAX_URLS} different URLs: "
                "send without trackLinks, or use one text with variables (smsDynamic)"
            )
    return urls
