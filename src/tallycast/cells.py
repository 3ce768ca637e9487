"""How PostgreSQL writes the rows of a table: the line of a CSV, NDJSON or XLSX file that each row becomes, as SQL.

Formatting there is several times as fast as in Python, and the bytes pass through unread. Moments are RFC 3339 in UTC
with milliseconds; what is null is an empty cell. The expressions name columns of ours alone, never what anybody sent.
"""

from enum import Enum
from typing import NamedTuple


class Kind(Enum):
    """What a column holds, which decides how its cells are written."""

    WORD = "word"  # one of our own words, without anything to escape
    DIGITS = "digits"  # a name of nothing but digits
    NUMBER = (
        "number"  # one that may have a plus, and may be any other text: telephone numbers, others' ids, codes
    )
    TEXT = "text"  # whatever a person or a provider has written
    COUNT = "count"
    MOMENT = "moment"


class Column(NamedTuple):
    """`repeats`: it has few different values."""

    name: str
    kind: Kind
    repeats: bool = False


Columns = tuple[Column, ...]


class Options(NamedTuple):
    """How spreadsheets are to be dealt with.

    `bom`: a CSV begins with a byte order mark, by which Excel knows UTF-8. `excel`: so it does, and digits that are a
    name become `="…"`, which Excel and LibreOffice show as they are. `raw`: texts stay as they are; otherwise one that
    a spreadsheet would run as a formula gets an apostrophe before it.
    """

    bom: bool = False
    excel: bool = False
    raw: bool = False


class Block(NamedTuple):
    """Rows as the lines of a file, and the number that the first of them has on its sheet."""

    first_line: int
    rows: int
    data: bytes


# How texts begin that spreadsheets take for formulas, or that hide such a beginning (OWASP, "CSV Injection"); in some
# languages the full-width forms count as well.
_STARTS = r"E'=+-@\t\r\n＝＋－＠'"  # noqa: RUF001 - they are meant
_MOMENT = """to_char({0}, 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
# A date of Excel, in days; cut to milliseconds, as all our moments are.
_DAYS = "date_part('epoch', date_trunc('milliseconds', {0})) / 86400 + 25569"
_FORMULA = '\'"=""\' || {0} || \'"""\''  # ="…", in quotes
_IS_NUMBER = "{0} ~ '^[+]?[0-9]+$'"
_CONTROLS = r"[\u0001-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]"
_ESCAPE = "_(x[0-9A-Fa-f]{4}_)"
_ASTRAL = r"[\U00010000-\U0010ffff]"  # two units of UTF-16 each
_MOST_UNITS = 32_765  # a cell of Excel holds 32,767; an apostrophe and an ellipsis may be added


def write_csv(columns: Columns, options: Options) -> str:
    """A record as in RFC 4180."""
    cells = ", ',', ".join(_write_csv_cell(column, options) for column in columns)
    return rf"concat({cells}, E'\r\n')"


def _write_csv_cell(column: Column, options: Options) -> str:
    value = f't."{column.name}"'
    digits = _FORMULA.format(value) if options.excel else value
    match column.kind:
        case Kind.WORD | Kind.COUNT:
            return value
        case Kind.MOMENT:
            return _MOMENT.format(value)
        case Kind.DIGITS:
            return digits
        case Kind.NUMBER:
            return f"case when {_IS_NUMBER.format(value)} then {digits} else {_quote(value, options)} end"
        case Kind.TEXT:
            return _quote(value, options)


def _quote(value: str, options: Options) -> str:
    return f"""'"' || {_defuse(value, options)} || replace({value}, '"', '""') || '"'"""


def _defuse(value: str, options: Options) -> str:
    """What is to stand before a text."""
    return "''" if options.raw else f"case when strpos({_STARTS}, left({value}, 1)) > 0 then '''' else '' end"


def write_json(columns: Columns) -> str:
    """An object with all columns, null where there is nothing, and a newline. Texts are as they are."""
    values = [
        f'{_MOMENT.format(value) if column.kind is Kind.MOMENT else value} as "{column.name}"'
        for column in columns
        for value in [f't."{column.name}"']
    ]
    return rf"(select row_to_json(r)::text from (select {', '.join(values)}) r) || E'\n'"  # noqa: S608 - see above  # nosec B608 - columns are this module's own


def write_row(columns: Columns, options: Options) -> str:
    """A row of a sheet (ECMA-376 part 1, 18.3.1.73); t.line is its number. Empty cells are left out."""
    cells = ", ".join(_write_cell(column, chr(ord("A") + n), options) for n, column in enumerate(columns))
    return f"""concat('<row r="', t.line, '">', {cells}, '</row>')"""


def _write_cell(column: Column, letter: str, options: Options) -> str:
    value = f't."{column.name}"'
    opening = f"""'<c r="{letter}' || t.line || '" """
    text = f"{_defuse(value, options)} || {_escape(value)}"
    match column.kind:
        case Kind.COUNT:
            return f"{opening}><v>' || {value} || '</v></c>'"
        case Kind.MOMENT:
            return f"""{opening}s="1"><v>' || {_DAYS.format(value)} || '</v></c>'"""
        case Kind.WORD:
            return f"""{opening}t="inlineStr"><is><t>' || {value} || '</t></is></c>'"""
        case Kind.DIGITS:
            return f"""{opening}s="2" t="inlineStr"><is><t>' || {value} || '</t></is></c>'"""
        case Kind.NUMBER:
            opening += 's="2" '
            text = f"case when {_IS_NUMBER.format(value)} then {value} else {text} end"
        case Kind.TEXT:
            pass
    return f"""{opening}t="inlineStr"><is><t xml:space="preserve">' || {text} || '</t></is></c>'"""


def _escape(value: str) -> str:
    """A text for XML. Only what has a rare character or is very long goes the long way."""
    is_rare = f"octet_length({value}) > {_MOST_UNITS} or {value} ~ '{_CONTROLS}|\\r|{_ESCAPE}'"
    return f"case when {is_rare} then {_escape_fully(value)} else {_escape_markup(value)} end"


def _escape_markup(value: str) -> str:
    return f"replace(replace(replace({value}, '&', '&amp;'), '<', '&lt;'), '>', '&gt;')"


def _escape_fully(value: str) -> str:
    """Characters that XML cannot hold become U+FFFD, a return becomes Excel's `_x000D_` (ECMA-376 part 1, 22.4.2.4),
    what reads like such an escape is escaped itself, and a text ends where a cell of Excel does.
    """
    units = f"length({value}) + regexp_count({value}, '{_ASTRAL}')"
    most = f"greatest(0, {_MOST_UNITS} - regexp_count({value}, '{_ASTRAL}'))"
    short = f"case when {units} > {_MOST_UNITS} then left({value}, {most}) || '…' else {value} end"
    escaped = rf"regexp_replace({short}, '{_ESCAPE}', '_x005F_\1', 'g')"
    fit = f"regexp_replace({escaped}, '{_CONTROLS}', '\ufffd', 'g')"
    return rf"replace({_escape_markup(fit)}, E'\r', '_x000D_')"
