"""The channels that the simulated providers know: whoever sends with a new key has one."""

from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

from tallycast.simulator.courier import Target
from tallycast.simulator.fates import Medium


class Webhook(NamedTuple):
    """`secret` signs what is posted, where the provider signs: Meta's app secret, Twilio's auth token."""

    url: str
    headers: Mapping[str, str]
    secret: str = ""


class Channel:
    """`key` is the API key, phone number id, account SID or system id that names it in requests."""

    def __init__(self, provider: str, key: str) -> None:
        self.provider, self.key = provider, key
        self.webhook: Webhook | None = None
        self.target: Target
        self.forget()

    def forget(self) -> None:
        """Start anew, with the same webhook."""
        self.taken = 0
        self.recent: deque[float] = deque()  # when messages of the last second were taken
        self.last_to: dict[str, float] = {}
        self.hearings: Counter[str] = Counter()
        self.fates: Counter[str] = Counter()
        self.stopped: set[str] = set()

    @property
    def medium(self) -> Medium:
        return "sms" if self.provider in {"twilio", "smpp"} else "whatsApp"
