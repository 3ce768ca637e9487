"""WhatsApp templates as the providers keep them, and what a message may be made of them."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

_PLACE = re.compile(r"\{\{(\w+)\}\}")
_ORIGIN = "<public>"  # in a template's links: how tallycast is reached
_PER_PAGE = 100


class Template(msgspec.Struct, frozen=True):
    name: str
    language: str
    components: list[dict[str, Any]]
    status: str = "APPROVED"
    category: str = "MARKETING"
    id: str = ""

    def find(self, kind: str) -> dict[str, Any]:
        return next((one for one in self.components if one["type"].upper() == kind), {})

    @property
    def buttons(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.find("BUTTONS").get("buttons", [])
        return found


class Language(msgspec.Struct, frozen=True):
    code: str


class Use(msgspec.Struct, frozen=True):
    """A template in the body of a send request."""

    name: str
    language: Language
    components: list[dict[str, Any]] = []


class Fault(NamedTuple):
    """Why Meta refuses a use."""

    status: int
    code: int
    title: str
    details: str


class Written(NamedTuple):
    """A use as its reader sees it: the text, the links he may open and the (payload, text) of quick replies."""

    text: str
    links: tuple[str, ...]
    buttons: tuple[tuple[str, str], ...]


def _body(text: str) -> dict[str, Any]:
    return {"type": "BODY", "text": text}


_DEFAULTS = (
    Template("hello", "en_US", [_body("Hello! We are open again.")], category="UTILITY"),
    Template(
        "spring_sale_v3",
        "en_US",
        [
            {"type": "HEADER", "format": "IMAGE"},
            _body("Hi {{1}}, {{2}} off everything this week."),
            {"type": "FOOTER", "text": "Answer STOP to get no more of these."},
            {
                "type": "BUTTONS",
                "buttons": [
                    {"type": "QUICK_REPLY", "text": "Yes please"},
                    {"type": "QUICK_REPLY", "text": "Not now"},
                    {"type": "URL", "text": "Shop", "url": "<public>/r/{{1}}"},
                ],
            },
        ],
    ),
    Template(
        "order_ready", "en_US", [_body("{{name}}, your order {{order}} is ready.")], category="UTILITY"
    ),
    Template("members_evening", "en_US", [{"type": "HEADER", "format": "TEXT", "text": "For {{1}}"}, _body("See you at {{1}}.")]),
    Template("winter_sale", "en_US", [_body("{{1}} off coats.")], status="PAUSED"),
    Template("free_money", "en_US", [_body("You have won {{1}}!")], status="REJECTED"),
)  # fmt: skip


class Templates:
    """One set for every channel: the simulator knows no business accounts."""

    def __init__(self) -> None:
        self._known = {(one.name, one.language): one for one in _DEFAULTS}

    def add(self, template: Template) -> None:
        """Add a template, or replace the one of its name and language."""
        self._known[template.name, template.language] = template

    def delete(self, name: str) -> bool:
        languages = [key for key in self._known if key[0] == name]
        for key in languages:
            del self._known[key]
        return bool(languages)

    def list(self, offset: int, limit: int, origin: str) -> tuple[list[Template], int]:
        """A page, with the links of `origin`, and how many there are altogether."""
        known = list(self._known.values())
        return [_with_origin(one, origin) for one in known[offset : offset + min(limit, _PER_PAGE)]], len(
            known
        )

    def write(self, use: Use, origin: str) -> Written | Fault:
        template = self._known.get((use.name, use.language.code))
        if template is None:
            return _missing(f"{use.name} does not exist in {use.language.code}")
        status = template.status.upper()
        if status == "PAUSED":
            return Fault(400, 132015, "Template is Paused", f"{use.name} is paused for its low quality")
        if status == "DISABLED":
            return Fault(400, 132016, "Template is Disabled", f"{use.name} is disabled")
        if status != "APPROVED":
            return _missing(f"{use.name} has not been approved: {status.lower()}")
        return _write(template, use, origin)


def _missing(details: str) -> Fault:
    return Fault(404, 132001, "Template name does not exist in the translation", details)


def _with_origin(template: Template, origin: str) -> Template:
    encoded = msgspec.json.encode(template).replace(_ORIGIN.encode(), origin.encode())
    return msgspec.json.decode(encoded, type=Template)


def _write(template: Template, use: Use, origin: str) -> Written | Fault:
    given = {one["type"].lower(): one.get("parameters", []) for one in use.components if "index" not in one}
    for name in ("header", "body"):
        fault = _check_parameters(name, template.find(name.upper()), given.get(name, []))
        if fault is not None:
            return fault
    text = _fill(template.find("BODY").get("text", ""), given.get("body", []))
    pressed = {int(one["index"]): one.get("parameters", []) for one in use.components if "index" in one}
    links, replies = [], []
    for index, button in enumerate(template.buttons):
        first: dict[str, Any] = next(iter(pressed.pop(index, [])), {})
        if button["type"] == "QUICK_REPLY":
            replies.append((str(first.get("payload", button["text"])), button["text"]))
        elif button["type"] == "URL":
            if ("{{" in button["url"]) != bool(first):
                return _miscounted(f"buttons: the parameter of button {index} is missing or too many")
            links.append(_fill(button["url"], [first]).replace(_ORIGIN, origin))
    if pressed:
        return _miscounted(f"buttons: there is no button {min(pressed)}")
    return Written(text, (*links, *find_links(text)), tuple(replies))


def _check_parameters(name: str, part: dict[str, Any], given: list[dict[str, Any]]) -> Fault | None:
    kind = part.get("format", "TEXT").lower()
    places = 1 if kind != "text" else len(set(_PLACE.findall(part.get("text", ""))))
    if len(given) != places:
        return _miscounted(f"{name}: number of localizable_params ({len(given)}) does not match ({places})")
    wrong = [one["type"] for one in given if one["type"] != kind]
    if wrong:
        return Fault(400, 132012, "Parameter format does not match", f"{name}: {wrong[0]} is not {kind}")
    return None


def _miscounted(details: str) -> Fault:
    return Fault(400, 132000, "Number of parameters does not match the expected number of params", details)


def _fill(text: str, parameters: list[dict[str, Any]]) -> str:
    """The text with its places filled, by name or else by position."""
    values = {
        one.get("parameter_name", str(position)): str(one.get("text", ""))
        for position, one in enumerate(parameters, 1)
    }
    return _PLACE.sub(lambda place: values.get(place[1], place[0]), text)


def find_links(text: str) -> Iterator[str]:
    for match in re.finditer(r"https?://[^\s<>\"']+", text):
        yield match[0].rstrip(".,;:!?)")
