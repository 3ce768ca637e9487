"""The client library from its source, in both its faces, and a server with nothing but the API page."""

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from client_library.plain_page import PlainPage
from tallycast_client import AsyncClient, Client, Retries

AT_ONCE = Retries(first_seconds=0.01, longest_seconds=0.02, total_seconds=20)


@dataclass
class Face:
    """One of the two clients: what is asked of it is asked of both."""

    is_async: bool

    def call(
        self, url: str, ask: Callable[[Any], Any], app_id: str = "app", token: str = "t0ken", **options: Any
    ) -> Any:
        """What a verb gives; of a list, its rows."""
        options.setdefault("retries", AT_ONCE)
        if self.is_async:
            return asyncio.run(self._call(url, ask, app_id, token, options))
        with Client(url, app_id, token, **options) as client:
            given = ask(client)
            return list(given) if hasattr(given, "__iter__") else given

    async def _call(
        self, url: str, ask: Callable[[Any], Any], app_id: str, token: str, options: dict[str, Any]
    ) -> Any:
        async with AsyncClient(url, app_id, token, **options) as client:
            given = ask(client)
            return [row async for row in given] if hasattr(given, "__aiter__") else await given


@pytest.fixture(params=["sync", "async"])
def face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param == "async")


@pytest.fixture
def page() -> Iterator[PlainPage]:
    with PlainPage() as page:
        yield page
