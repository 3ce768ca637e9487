"""What every provider's file offers, and what it is given."""

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from tallycast.events import Event


class Signed(NamedTuple):
    """A webhook request, as far as its proof of origin needs it.

    `headers` have lower-case names. `urls` are the full URLs (with query) under which the provider may know
    us: Twilio signs the URL that it called, which a proxy in between may have changed.
    """

    headers: Mapping[str, str]
    urls: tuple[str, ...]
    body: bytes


class Provider(Protocol):
    def verify(self, secret: str, credentials: Mapping[str, str], request: Signed) -> bool:
        """Whether the request proves that it knows the channel's secret; compared in constant time."""

    def parse(self, body: bytes, content_type: str) -> list[Event]:
        """Everything that the body says; never raises, and keeps what it cannot read as `Unreadable`."""
