"""Texts with variables, and the URLs in them.

`{{name}}` stands for the recipient's value of that column; spaces inside the braces are allowed. Two braces always
open a variable and must be closed, single braces are text; there is no other way to write two than in a value. What
a value says is never read again: a value with braces or a URL stays as it is.

A URL is what RFC 3986 allows after `http://` or `https://`, without the punctuation that ends a sentence and without
a closing bracket that was not opened in it. One with a variable in it, or that goes on in another script, is text.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from tallycast import links
from tallycast.errors import BadQuery
from tallycast.links import Link

_VARIABLE = re.compile(r"\{\{([^{}]*)\}\}")
_TOKEN = re.compile(
    r"(?<![0-9A-Za-z])(?P<url>https?://(?:[!#-;=?-\[\]_a-z~]|\{\{[^{}]*\}\})+)|\{\{[^{}]*\}\}",
    re.IGNORECASE | re.ASCII,
)
_ENDS = ".,;:!?'"
_MAX_URL = 4000
_BRACKETS = {")": "(", "]": "["}
Piece = TypeVar("Piece")
WriteLink = Callable[[Link, int], str]


class RenderError(ValueError):
    """A text that cannot be filled in; the message says what is missing, for people."""


class Variable(NamedTuple):
    name: str


class Address(NamedTuple):
    """A URL that can be replaced by a tracked link."""

    url: str


def read(text: str) -> list[str | Variable | Address]:
    """The text's pieces in order. RenderError where braces are not closed, or name nothing."""
    pieces: list[str | Variable | Address] = []
    end = 0
    for match in _TOKEN.finditer(text):
        pieces.append(text[end : match.start()])
        url, end = match["url"], match.end()
        if url is None or "{{" in url:
            pieces += _read_variables(match[0])
        elif _is_cut(text[end : end + 1]):
            pieces.append(url)
        else:
            pieces += _trim(url)
    pieces.append(text[end:])
    for piece in pieces:
        if isinstance(piece, str) and ("{{" in piece or "}}" in piece):
            raise RenderError("two braces stand for a variable, like {{name}}: one of them is not closed")
    return [piece for piece in pieces if piece]


def _read_variables(text: str) -> Iterator[str | Variable]:
    end = 0
    for match in _VARIABLE.finditer(text):
        yield text[end : match.start()]
        if not match[1].strip():
            raise RenderError("{{}} names no column")
        yield Variable(match[1].strip())
        end = match.end()
    yield text[end:]


def _is_cut(following: str) -> bool:
    """Whether a URL seems to go on in characters that no URL has: then it is not known where it ends."""
    return following in {"{", "}", "|", "\\", "^"} or (not following.isascii() and following.isalnum())


def _trim(url: str) -> Iterator[str | Address]:
    """The URL without what ends the sentence around it, and that."""
    if len(url) > _MAX_URL:
        yield url
        return
    end = len(url)
    while url[end - 1] in _ENDS or _is_loose(url[:end]):
        end -= 1
    try:
        yield Address(links.check_url(url[:end]))
    except BadQuery:  # no target that may be redirected to
        yield url[:end]
    yield url[end:]


def _is_loose(url: str) -> bool:
    closing = url[-1]
    return closing in _BRACKETS and url.count(closing) > url.count(_BRACKETS[closing])


def strings_of(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings_of(one)


def find_urls(text: str) -> set[str]:
    """The URLs of a text that can be replaced."""
    return {piece.url for piece in read(text) if isinstance(piece, Address)}


def find_own_urls(text: str) -> set[str]:
    """The same for a recipient's own text, where braces mean nothing."""
    if "://" not in text:
        return set()
    return {piece.url for piece in read_own(text) if isinstance(piece, Address)}


def read_own(text: str) -> list[str | Address]:
    pieces: list[str | Address] = []
    end = 0
    for match in _TOKEN.finditer(text):
        url = match["url"]
        if url is None or "{" in url or _is_cut(text[match.end() : match.end() + 1]):
            continue
        pieces += [text[end : match.start()], *_trim(url)]
        end = match.end()
    return [*pieces, text[end:]]


class Filling:
    """A text that is ready to be filled in, message by message."""

    __slots__ = ("_links", "_parts", "_variables", "_write_link")

    def __init__(self, parts: list[str], write_link: WriteLink) -> None:
        self._parts = parts
        self._variables: list[tuple[int, int, str]] = []
        self._links: list[tuple[int, Link]] = []
        self._write_link = write_link

    @classmethod
    def of(
        cls, text: str, columns: Sequence[str], known: Mapping[str, Link], write_link: WriteLink
    ) -> "Filling":
        """Each URL that has a link in `known` becomes it. RenderError for a variable that is no column."""
        filling = cls([], write_link)
        for piece in read(text):
            at = len(filling._parts)
            if isinstance(piece, Variable):
                filling._variables.append((at, _place(piece.name, columns), piece.name))
            elif isinstance(piece, Address) and piece.url in known:
                filling._links.append((at, known[piece.url]))
            filling._parts.append(piece[0] if isinstance(piece, tuple) else piece)
        return filling

    def fill(self, seq: int, values: Sequence[str]) -> str:
        parts = self._parts.copy()
        for at, column, name in self._variables:
            if column >= len(values):
                raise RenderError(f"the recipient has no value for {{{{{name}}}}}")
            parts[at] = values[column]
        for at, link in self._links:
            parts[at] = self._write_link(link, seq)
        return "".join(parts)


def _place(name: str, columns: Sequence[str]) -> int:
    if name in columns:
        return columns.index(name)
    has = f"its columns are {', '.join(columns)}" if columns else "it has no columns beside the number"
    raise RenderError(f"{{{{{name}}}}} is no column of the audience: {has}")
