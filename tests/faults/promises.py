"""What tallycast has promised: every fact that it acknowledged, and everything that was ever tried."""

import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

Fact = tuple[str, str]  # message id, status


class Recording(NamedTuple):
    campaign_id: str
    accepted: int


@dataclass(eq=False)
class Launch:
    """A campaign that tallycast sends; its audience, and who of it had opted out before."""

    campaign_id: str
    provider: str
    recipients: set[str]
    opted_out: set[str]


@dataclass
class Promises:
    """Written by many threads; `lock` guards what is more than one step."""

    posted: set[Fact] = field(default_factory=set)
    receipts: set[Fact] = field(default_factory=set)
    recordings: dict[str, Recording] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    clicked: Counter[str] = field(default_factory=Counter)
    redirected: Counter[str] = field(default_factory=Counter)
    opted_out: set[str] = field(default_factory=set)
    launches: list[Launch] = field(default_factory=list)
    moves: set[tuple[str, str]] = field(default_factory=set)
    odd: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self) -> int:
        """Facts that were acknowledged to callers; what the ledger has accepted comes to it."""
        recorded = sum(1 + one.accepted for one in self.recordings.values())
        return len(self.receipts) + recorded + len(self.opted_out) + len(self.launches) + len(self.moves)
