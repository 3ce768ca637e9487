"""A storm of receipts whose outcome is known: repeated, out of order, late, and contradicting each other."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from receipts import FIRST

LANES = 4  # campaigns that are sent at the same time, one per channel
# What becomes of a message, and of how many in a hundred: what its receipts say, in the order in which they happened.
_STORIES: tuple[tuple[int, tuple[str, ...]], ...] = (
    (36, ("sent", "delivered")),
    (46, ("sent", "delivered", "read")),
    (3, ("sent", "read")),  # its delivery is never told
    (5, ("sent", "failed")),
    (3, ("sent", "failed", "delivered")),  # it arrived on another device
    (2, ("sent", "delivered", "failed")),  # a device that was off gave up later
    (5, ("sent",)),
)
_AFTER = {"sent": (0, 5), "delivered": (5, 100), "read": (100, 4_000), "failed": (5, 8_000)}
_REPEATED, _DISORDERED, _LATE = 0.12, 0.15, 0.03


class Receipt(NamedTuple):
    message: int
    status: str
    at: int


class Counts(NamedTuple):
    delivered: int
    read: int
    pending: int
    failed: int


@dataclass(frozen=True)
class Storm:
    """`each` messages in each of the campaigns; message n is the one that was sent n-th."""

    campaigns: int
    each: int
    receipts: Sequence[Receipt]

    def campaign(self, message: int) -> int:
        """Campaigns are sent in lanes, one after another in each."""
        return message // (LANES * self.each) * LANES + message % LANES

    def write(self, path: Path, channel_ids: Sequence[str]) -> None:
        lines = (
            f"{channel_ids[one.message % LANES]}\t{name(one.message)}\t{one.status}\t{one.at}\n"
            for one in self.receipts
        )
        with path.open("w") as file:
            file.writelines(lines)

    def truth(self, first: int) -> list[Counts]:
        """What each campaign's figures must be after that many receipts, by the rule of docs/glossary.md."""
        told: list[set[str]] = [set() for _ in range(self.campaigns * self.each)]
        for one in self.receipts[:first]:
            told[one.message].add(one.status)
        states: list[list[str]] = [[] for _ in range(self.campaigns)]
        for message, kinds in enumerate(told):
            states[self.campaign(message)].append(_state(kinds))
        return [_count(one) for one in states]


def name(message: int) -> str:
    return f"wamid.HBgLODUyOTEyMzQ1Njc4FQIAERgS{message:012}"


def _state(kinds: Iterable[str]) -> str:
    return next((kind for kind in ("read", "delivered", "failed") if kind in kinds), "pending")


def _count(states: list[str]) -> Counts:
    read = states.count("read")
    return Counts(states.count("delivered") + read, read, states.count("pending"), states.count("failed"))


def brew(campaigns: int, each: int, seed: int = 1) -> Storm:
    dice = random.Random(seed)
    messages = campaigns * each
    found = sorted(arrival for message in range(messages) for arrival in _tell(dice, message, messages))
    return Storm(campaigns, each, [receipt for _, receipt in found])


def _tell(dice: random.Random, message: int, messages: int) -> Iterator[tuple[float, Receipt]]:
    """When each receipt of a message arrives; a unit of time is the sending of one message."""
    (story,) = dice.choices([told for _, told in _STORIES], [share for share, _ in _STORIES])
    moment = float(message)
    for status in story:
        moment += dice.uniform(*_AFTER[status])
        receipt = Receipt(message, status, FIRST + round(moment / 80))
        arrival = moment + (dice.uniform(0, 5_000) if dice.random() < _DISORDERED else 0)
        if dice.random() < _LATE:
            arrival = messages + dice.uniform(0, messages / 5)
        yield arrival, receipt
        while dice.random() < _REPEATED:
            arrival += dice.uniform(0, 1_000)
            yield arrival, receipt
