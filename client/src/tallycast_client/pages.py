"""Lists that come in pages: iterate, and every page is fetched when it is due."""

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit

from tallycast_client import exchange, tables
from tallycast_client.errors import UnreadableAnswer
from tallycast_client.reading import read_list
from tallycast_client.retries import Retries
from tallycast_client.steps import Call, Script

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-not-found,import-untyped,unused-ignore]
    import polars as pl  # type: ignore[import-not-found,unused-ignore]

    from tallycast_client.clients import AsyncClient, Client

MAX_LIMIT = 200
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Listing(Generic[Row]):
    """A list to ask for. `key` tells rows apart in a list that grows at its head while it is read."""

    call: Call
    kind: type[Row]
    retries: Retries
    key: Callable[[Row], str] | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """`rows` without those of the page before, `raw` all as they came; `next_call` is None at the end."""

    rows: list[Row]
    raw: list[Any]
    keys: frozenset[str]
    has_links: bool
    next_call: Call | None


def fetch(listing: Listing[Row], before: Page[Row] | None) -> Script[Page[Row]]:
    """The page after another one, or the first. What arrived meanwhile moves rows on; they are not given twice."""
    call = listing.call if before is None or before.next_call is None else before.next_call
    answer = yield from exchange.ask(call, listing.retries)
    rows, raw = read_list(listing.kind, answer.result), answer.result or []
    if before is not None and raw and raw == before.raw:
        raise UnreadableAnswer("the server answers the same page again: it ignores offset")
    link = answer.response.links.get("next", {}).get("url")
    has_links = link is not None or (before is not None and before.has_links)
    keys = frozenset[str]()
    if listing.key is not None:
        keys = frozenset(map(listing.key, rows))
        rows = [row for row in rows if before is None or listing.key(row) not in before.keys]
    return Page(rows, raw, keys, has_links, _find_next(call, link, has_links, len(raw)))


def _find_next(call: Call, link: str | None, has_links: bool, count: int) -> Call | None:
    """By the header `Link`, of which only the query counts (the token goes to no other host), or else by offset.

    A server that sent a Link before says by leaving it out that this is the end; another one, by a page that is not
    full.
    """
    if link is not None:
        return call.at(dict(parse_qsl(urlsplit(link).query, keep_blank_values=True)))
    if has_links or count < int(call.params["limit"]):
        return None
    return call.at({**call.params, "offset": str(int(call.params.get("offset", "0")) + count)})


class Pages(Generic[Row]):
    """All rows, page by page. Each iteration asks the server anew."""

    def __init__(self, client: "Client", listing: Listing[Row]) -> None:
        self._client = client
        self._listing = listing

    def __iter__(self) -> Iterator[Row]:
        page = self._client.run(fetch(self._listing, None))
        yield from page.rows
        while page.next_call is not None:
            page = self._client.run(fetch(self._listing, page))
            yield from page.rows

    def to_pandas(self) -> "pd.DataFrame":
        """One row each, with columns that may be empty; `sender` is spread, `extra` is left out."""
        return tables.to_pandas(self._listing.kind, list(self))

    def to_polars(self) -> "pl.DataFrame":
        """The same for polars."""
        return tables.to_polars(self._listing.kind, list(self))


class AsyncPages(Generic[Row]):
    """All rows, page by page: `async for`. Each iteration asks the server anew."""

    def __init__(self, client: "AsyncClient", listing: Listing[Row]) -> None:
        self._client = client
        self._listing = listing

    async def __aiter__(self) -> AsyncIterator[Row]:
        page = await self._client.run(fetch(self._listing, None))
        for row in page.rows:
            yield row
        while page.next_call is not None:
            page = await self._client.run(fetch(self._listing, page))
            for row in page.rows:
                yield row

    async def to_pandas(self) -> "pd.DataFrame":
        """As `Pages.to_pandas`."""
        return tables.to_pandas(self._listing.kind, [row async for row in self])

    async def to_polars(self) -> "pl.DataFrame":
        """As `Pages.to_polars`."""
        return tables.to_polars(self._listing.kind, [row async for row in self])
