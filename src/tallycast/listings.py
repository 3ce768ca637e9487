"""Asking 360dialog and Meta for the templates of a number, page by page."""

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import aiohttp
import msgspec

from tallycast.errors import ServiceUnavailable, Unprocessable
from tallycast.providers import dialog360, meta
from tallycast.providers.cloud import read_fault
from tallycast.providers.needs import base_url, credential, path_part

_TIMEOUT = aiohttp.ClientTimeout(total=20)
_MAX_BYTES = 16_000_000
_MAX_PAGES = 200
_PAGE = 200
_CHUNK = 65_536
_MAX_SAID = 300

Item = dict[str, Any]


class Page(NamedTuple):
    """A page's templates, and the query that gives the next page; None after the last."""

    items: list[Item]
    next_query: dict[str, str] | None


class Listing(NamedTuple):
    url: str
    headers: dict[str, str]
    query: dict[str, str]
    read: Callable[[Any, dict[str, str]], Page]


def _list_dialog360(credentials: Mapping[str, str]) -> Listing:
    return Listing(
        f"{base_url(credentials, dialog360.BASE_URL)}/v1/configs/templates",
        {"D360-API-KEY": credential(credentials, "apiKey")},
        {"limit": str(_PAGE), "offset": "0"},
        _read_dialog360,
    )


def _list_sandbox(credentials: Mapping[str, str]) -> Listing:
    credential(credentials, "baseURL")
    return _list_dialog360(credentials)


def _list_meta(credentials: Mapping[str, str]) -> Listing:
    return Listing(
        f"{meta.graph_url(credentials)}/{path_part(credentials, 'wabaID')}/message_templates",
        {"Authorization": f"Bearer {credential(credentials, 'accessToken')}"},
        {"limit": str(_PAGE), "fields": "name,language,status,category,components"},
        _read_meta,
    )


_LISTINGS: dict[str, Callable[[Mapping[str, str]], Listing]] = {
    "360dialog": _list_dialog360,
    "meta": _list_meta,
    "sandbox": _list_sandbox,
}


def _read_dialog360(body: Any, query: dict[str, str]) -> Page:
    """A gateway may give fewer than asked, so the next page begins after what came, until `total` is reached."""
    items = _items(body, "waba_templates")
    offset, total = int(query["offset"]) + len(items), body.get("total")
    is_last = not items or (offset >= total if isinstance(total, int) else len(items) < _PAGE)
    return Page(items, None if is_last else query | {"offset": str(offset)})


def _read_meta(body: Any, query: dict[str, str]) -> Page:
    """The cursor is taken, not the `next` URL: the token shall not go where an answer says."""
    items = _items(body, "data")
    match body.get("paging"):
        case {"next": str(), "cursors": {"after": str(after)}} if items:
            return Page(items, query | {"after": after})
    return Page(items, None)


def _items(body: Any, name: str) -> list[Item]:
    found = body.get(name) if isinstance(body, dict) else None
    if not isinstance(found, list):
        raise ServiceUnavailable(f"the provider's list of templates has no {name}")
    return [item for item in found if isinstance(item, dict)]


async def ask(client: aiohttp.ClientSession, provider: str, credentials: Mapping[str, str]) -> list[Item]:
    """All templates as the provider lists them.

    Unprocessable where it refuses or a credential is missing, ServiceUnavailable where it does not answer properly; the
    message has the provider's own words, without the channel's secrets.
    """
    make = _LISTINGS.get(provider)
    if make is None:
        raise Unprocessable(
            f"templates cannot be listed from {provider}: only {', '.join(_LISTINGS)} list them"
        )
    try:
        listing = make(credentials)
    except ValueError as error:
        raise Unprocessable(str(error)) from None
    secrets = [value for value in credentials.values() if value]
    try:
        return [item async for items in _each_page(client, listing, secrets) for item in items]
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        said = _without(secrets, str(error)) or type(error).__name__
        raise ServiceUnavailable(f"{provider} cannot be asked for its templates: {said}") from None


async def _each_page(
    client: aiohttp.ClientSession, listing: Listing, secrets: list[str]
) -> AsyncIterator[list[Item]]:
    query: dict[str, str] | None = listing.query
    left = _MAX_BYTES
    for _ in range(_MAX_PAGES):
        if query is None:
            return
        body = await _fetch(client, listing, query, secrets, left)
        left -= len(body)
        page = listing.read(_decode(body), query)
        yield page.items
        query = page.next_query
    raise ServiceUnavailable(f"the provider's list of templates has more than {_MAX_PAGES} pages")


async def _fetch(
    client: aiohttp.ClientSession, listing: Listing, query: dict[str, str], secrets: list[str], left: int
) -> bytes:
    async with client.get(
        listing.url, params=query, headers=listing.headers, timeout=_TIMEOUT, allow_redirects=False
    ) as answer:
        body = bytearray()
        async for chunk in answer.content.iter_chunked(_CHUNK):
            body += chunk
            if len(body) > left:
                raise ServiceUnavailable("the provider's list of templates is too long")
        if answer.status != 200:  # noqa: PLR2004 - HTTP's success
            _refuse(answer.status, bytes(body), secrets)
        return bytes(body)


def _refuse(status: int, body: bytes, secrets: list[str]) -> None:
    said = _without(secrets, read_fault(status, body).text or "")
    message = f"the provider does not list its templates: HTTP {status}{f', {said}' if said else ''}"
    is_its_fault = status >= 500 or status == 429  # noqa: PLR2004 - HTTP: its own error, too many requests
    raise ServiceUnavailable(message) if is_its_fault else Unprocessable(message)


def _without(secrets: list[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "…")
    return text[:_MAX_SAID]


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        raise ServiceUnavailable("the provider's list of templates is not JSON") from None
