"""Rows of an audience file as recipients: which column is what, and what keeps a row from being taken. No database."""

import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import msgspec

from tallycast import mending
from tallycast.numbers import InvalidNumber, is_landline, parse_number
from tallycast.rows import MAX_COLUMNS, Row
from tallycast.segments import MAX_PARTS, count_parts
from tallycast.sendings import Sending
from tallycast.texts import RenderError, Variable, read, strings_of

_MAX_CELL = 10_000
_MAX_NAME = 100
# What the column of the numbers is called, the likeliest first; compared without case, spaces and punctuation.
_RECIPIENT_NAMES = (
    "recipientsnumber", "recipientnumber", "recipientsnumbers", "recipient", "recipients", "mobilenumber",
    "mobilephone", "mobile", "phonenumber", "phone", "msisdn", "whatsappnumber", "cellphone", "telephone", "number", "to",
)  # fmt: skip
_CONTENT_NAMES = ("content", "contents", "messagecontent", "message", "text", "smscontent")
_FORMULA_TEXT = re.compile(r'="(.*)"')  # how a CSV tells Excel that a number is a text


class Misfit(ValueError):
    """The file does not suit the campaign; nothing of it is taken. The message says what is missing."""


class Mapping(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which of the file's columns is what, by header; what is left out is found by its usual names.

    `variables`: the columns by the names that the campaign's texts use; left out, every other column is a variable.
    """

    recipient: str | None = None
    content: str | None = None
    variables: dict[str, str] | None = None


class Columns(NamedTuple):
    """Places in a row. `names` are the campaign's variables; `sources` where each has its value in this file."""

    recipient: int
    content: int | None
    names: list[str]
    sources: list[int | None]


class Guess(NamedTuple):
    """Which column seems to be what, by its header; None where nothing is like it. `variables`: those that are used."""

    recipient: str | None
    content: str | None
    variables: dict[str, str | None]


Fault = Literal["", "invalid", "landline", "opted_out", "duplicate"]
FAULTS: tuple[Fault, ...] = ("invalid", "landline", "opted_out", "duplicate")


class Candidate(msgspec.Struct, gc=False):
    """A row as a message to be; with a `fault` it is set aside, for the reason in `error`."""

    row: Row
    recipient: str = ""
    country: str | None = None
    content: str | None = None
    parts: int = 1
    variables: list[str] | None = None
    fault: Fault = ""
    error: str = ""


def find_variables(sending: Sending) -> list[str]:
    """The variables that the campaign's text, template and fallback use, in order; Misfit for torn braces."""
    template = [] if sending.template is None else list(strings_of(msgspec.json.decode(sending.template)))
    # Each recipient's own text is no text with variables.
    own = sending.content if sending.kind == "smsDynamic" else ""
    try:
        pieces = [piece for text in (own, *template, sending.fallback_text or "") for piece in read(text)]
    except RenderError as error:
        raise Misfit(str(error)) from None
    return list(dict.fromkeys(piece.name for piece in pieces if isinstance(piece, Variable)))


def find_errors(header: Sequence[str], mapping: Mapping, sending: Sending) -> int | None:
    """Where an error log has the errors, a column that nothing else uses; None in other files."""
    error = fold(mending.COLUMN)
    mapped = [mapping.recipient, mapping.content, *(mapping.variables or {}).values()]
    used = {fold(name) for name in (*mapped, *find_variables(sending)) if name}
    places = [place for place, name in enumerate(header) if fold(name) == error]
    return places[0] if len(places) == 1 and error not in used else None


def map_columns(header: Sequence[str], mapping: Mapping, sending: Sending) -> Columns:
    """Where a row has what; Misfit names the column that is missing or there twice."""
    _check_header(header)
    places = find_places(header)
    recipient = _choose(places, mapping.recipient, _RECIPIENT_NAMES, "Recipients Number")
    content = None
    if sending.kind == "smsStandard":
        content = _choose(places, mapping.content, _CONTENT_NAMES, "Content")
    elif mapping.content is not None:
        raise Misfit("mapping.content is only for campaigns of the kind smsStandard")
    needed = find_variables(sending)
    found = _find_sources(header, places, mapping, {recipient, content})
    for name in needed:
        if fold(name) not in found:
            raise Misfit(f"the campaign uses {{{{{name}}}}} and the file has no column {name!r}")
    return _order(recipient, content, found, [*sending.columns, *needed])


def guess_columns(header: Sequence[str], rows: Sequence[Sequence[str]], sending: Sending) -> Guess:
    """What `map_columns` would find, without asking for all of it; a column of numbers is the recipient's. Misfit."""
    _check_header(header)
    places = find_places(header)
    recipient = find_numbers(places, rows)
    content = _find_usual(places, _CONTENT_NAMES) if sending.kind == "smsStandard" else None
    used = {name: places.get(fold(name)) for name in find_variables(sending)}

    def name(place: int | None) -> str | None:
        return None if place is None else header[place].strip()

    return Guess(name(recipient), name(content), {key: name(place) for key, place in used.items()})


def find_numbers(places: dict[str, int], rows: Sequence[Sequence[str]]) -> int | None:
    """The place of the column of numbers: by its usual names, else by what most of the first rows have there."""
    usual = _find_usual(places, _RECIPIENT_NAMES)
    if usual is not None:
        return usual
    likeliest = max(places.values(), key=lambda place: _count_numbers(rows, place), default=0)
    return likeliest if 2 * _count_numbers(rows, likeliest) > len(rows) else None


def _count_numbers(rows: Sequence[Sequence[str]], place: int) -> int:
    return sum(is_number(row[place]) for row in rows if place < len(row))


def is_number(text: str) -> bool:
    try:
        parse_number(text)
    except InvalidNumber:
        return False
    return True


def make_mapping(header: Sequence[str], chosen: Guess) -> Mapping:
    """The mapping that says what a person has chosen; the other columns stay variables under their own names."""
    taken = {fold(name) for name in (chosen.recipient, chosen.content) if name}
    used = {name: column for name, column in chosen.variables.items() if column}
    if all(fold(name) == fold(column) for name, column in used.items()):
        return Mapping(chosen.recipient, chosen.content)
    known = {fold(name) for name in used} | taken
    others = {name.strip(): name.strip() for name in header if fold(name) and fold(name) not in known}
    return Mapping(chosen.recipient, chosen.content, used | others)


def _check_header(header: Sequence[str]) -> None:
    if len(header) > MAX_COLUMNS:
        raise Misfit(f"the file has more than {MAX_COLUMNS} columns")
    for name in header:
        if len(name) > _MAX_NAME or "\0" in name or "{{" in name or "}}" in name:
            raise Misfit(f"not a column's name, which has at most {_MAX_NAME} characters: {name[:40]!r}")


def fold(name: str) -> str:
    """A column's name as names are compared: without case and spaces."""
    return "".join(name.casefold().split())


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.casefold())


def find_places(header: Sequence[str]) -> dict[str, int]:
    """The places of columns by their folded names. Misfit where two are alike."""
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        key = fold(name)
        if key and places.setdefault(key, place) != place:
            raise Misfit(f"the file has two columns {name.strip()!r}")
    return places


def _choose(places: dict[str, int], named: str | None, usual: Iterable[str], title: str) -> int:
    if named is not None:
        return _place(places, named)
    place = _find_usual(places, usual)
    if place is None:
        raise Misfit(f"the file has no column {title!r}: its first row must name the columns")
    return place


def _find_usual(places: dict[str, int], usual: Iterable[str]) -> int | None:
    plain = {_plain(key): place for key, place in reversed(places.items())}
    return next((plain[name] for name in usual if name in plain), None)


def _place(places: dict[str, int], named: str) -> int:
    if fold(named) not in places:
        raise Misfit(f"the file has no column {named!r}, which the mapping names")
    return places[fold(named)]


def _find_sources(
    header: Sequence[str], places: dict[str, int], mapping: Mapping, taken: set[int | None]
) -> dict[str, tuple[str, int]]:
    """The variables by key: the name, and the place in a row."""
    if mapping.variables is not None:
        return {fold(name): (name, _place(places, named)) for name, named in mapping.variables.items()}
    return {key: (header[place].strip(), place) for key, place in places.items() if place not in taken}


def _order(
    recipient: int, content: int | None, found: dict[str, tuple[str, int]], spelled: list[str]
) -> Columns:
    """The campaign's columns first, as they are spelled there or in its texts; then those that this file adds."""
    names = {fold(name): name for name in reversed(spelled)}
    ordered = dict.fromkeys([*map(fold, spelled), *found])
    return Columns(
        recipient,
        content,
        [names.get(key) or found[key][0] for key in ordered],
        [found[key][1] if key in found else None for key in ordered],
    )


def judge(row: Row, columns: Columns) -> Candidate:
    """What the row is by itself, as fast as a million of them need it."""
    if row.error:
        return Candidate(row, fault="invalid", error=mending.not_shown(row.error))
    cells = row.cells
    raw = cells[columns.recipient]
    if raw.startswith("=") and (text := _FORMULA_TEXT.fullmatch(raw)):
        raw = text[1]
    try:
        number = parse_number(raw)
    except InvalidNumber as error:
        return Candidate(row, fault="invalid", error=str(error))
    content, parts = None, 1
    if columns.content is not None:
        content = cells[columns.content]
        parts = count_parts(content)
    variables = [cells[at] if at is not None else "" for at in columns.sources] if columns.sources else None
    if fault := _find_fault(cells, content, parts):
        return Candidate(row, fault="invalid", error=fault)
    if is_landline(number):
        return Candidate(row, fault="landline", error="a landline number")
    return Candidate(row, number.e164, number.country, content, parts, variables)


def _find_fault(cells: list[str], content: str | None, parts: int) -> str:
    if content is not None and not content.strip():
        return "no text: the column Content is empty"
    if parts > MAX_PARTS:
        return f"the text takes {parts} SMS parts, and at most {MAX_PARTS} are sent"
    if max(map(len, cells)) > _MAX_CELL:
        return f"a cell is longer than {_MAX_CELL} characters"
    if any("\0" in cell for cell in cells):
        return mending.not_shown("a cell has a NUL character")
    return ""
