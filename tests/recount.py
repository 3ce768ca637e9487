"""A naive recount in plain Python, from the written rules and from nothing of the product.

It takes everything that was said, in any order, and says what every message and every campaign must show.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple


class Said(NamedTuple):
    """One receipt (`kind` is a status) or one button click (`kind` is "button") as a provider sent it."""

    channel: int
    kind: str
    at: int
    message_id: str | None = None
    address: tuple[int, int] | None = None
    code: str = ""
    title: str = ""
    button: str = ""


@dataclass
class Recipient:
    """A recorded message; `handed_at` has the times at which recordings said that it was handed over."""

    channel: int
    campaign: int
    seq: int
    message_id: str | None = None
    handed_at: list[int] = field(default_factory=list)
    times: dict[str, list[int]] = field(default_factory=dict)
    failures: list[tuple[int, str, str]] = field(default_factory=list)
    buttons: set[str] = field(default_factory=set)

    def first(self, kind: str) -> int | None:
        return min(self.times.get(kind, []), default=None)

    def state(self) -> str:
        for kind, state in (
            ("read", "read"),
            ("delivered", "delivered"),
            ("failed", "failed"),
            ("accepted", "pending"),
        ):
            if self.times.get(kind):
                return state
        return "queued"

    def facts(self) -> tuple[int | str | None, ...]:
        _, code, title = min(self.failures, default=(0, "", ""))
        return (
            self.first("accepted"), self.first("delivered"), self.first("read"), self.first("failed"), code, title,
        )  # fmt: skip


class Totals(NamedTuple):
    total: int
    queued: int
    pending: int
    delivered: int
    read: int
    failed: int
    button_replies: int
    clicks: int


def recount(recipients: Sequence[Recipient], said: Iterable[Said]) -> list[Said]:
    """Give everything that was said to its recipient; what is left over, because nobody knows whose it is."""
    heard = list(said)
    by_address = {(one.channel, (one.campaign, one.seq)): one for one in recipients}
    for one in heard:
        addressed = by_address.get((one.channel, one.address)) if one.address else None
        if addressed is not None and addressed.message_id is None and one.kind != "button":
            addressed.message_id = one.message_id
    by_id = {(one.channel, one.message_id or ""): one for one in recipients if one.message_id is not None}
    for recipient in recipients:
        recipient.times["accepted"] = list(recipient.handed_at)
    left_over = []
    for one in heard:
        owner = by_address.get((one.channel, one.address)) if one.address else None
        owner = owner or (by_id.get((one.channel, one.message_id)) if one.message_id else None)
        if owner is None:
            left_over.append(one)
        elif one.kind == "button":
            owner.buttons.add(one.button)
        else:
            owner.times.setdefault(one.kind, []).append(one.at)
            if one.kind == "failed":
                owner.failures.append((one.at, one.code, one.title))
    return left_over


def totals_of(recipients: Iterable[Recipient], people_clicks: int) -> Totals:
    """What a campaign must show for its recipients."""
    everybody = list(recipients)
    states = [one.state() for one in everybody]
    return Totals(
        total=len(everybody),
        queued=states.count("queued"),
        pending=states.count("pending"),
        delivered=states.count("delivered") + states.count("read"),
        read=states.count("read"),
        failed=states.count("failed"),
        button_replies=sum(len(one.buttons) for one in everybody),
        clicks=people_clicks,
    )
