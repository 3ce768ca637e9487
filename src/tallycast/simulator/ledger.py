"""The ledger: what reached which handset, and which requests were refused."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tallycast.references import read_reference
from tallycast.simulator.fates import Fate, Silence

_CHUNK = 1000


class Message(msgspec.Struct, eq=False):
    """A message that a provider took. `at` is in Unix seconds.

    `reference` is the sender's own id of it, where one was sent along. `total` is the number of its SMS parts: the
    handset shows nothing before all are there. `told` are the receipts that the webhook has answered with 200.
    """

    provider: str
    channel: str
    sender: str
    recipient: str
    message_ids: list[str]
    reference: str | None
    template: str | None
    text: str
    at: float
    fate: Fate
    silence: Silence | None = None
    total: int = 1
    links: tuple[str, ...] = ()
    buttons: tuple[tuple[str, str], ...] = ()  # (payload, text)
    callback_url: str = ""
    told: list[str] = msgspec.field(default_factory=list)
    told_parts: set[tuple[str, int]] = msgspec.field(default_factory=set)
    replies: list[str] = msgspec.field(default_factory=list)
    clicks: int = 0
    previews: int = 0

    @property
    def became(self) -> str:
        return self.fate.became if len(self.message_ids) == self.total else "incomplete"

    @property
    def has_arrived(self) -> bool:
        return self.became in {"read", "delivered", "lost"}

    @property
    def occasion(self) -> tuple[str, ...]:
        """What a recipient should get once: a campaign, else (where nothing names one) a text of a channel."""
        address = read_reference(self.reference)
        if address is not None:
            return (self.recipient, str(address.campaign_id))
        return (self.recipient, self.provider, self.channel, self.template or "", self.text)

    def note_told(self, status: str, part: int) -> None:
        """A receipt was taken; what all parts were told of, the message was."""
        self.told_parts.add((status, part))
        if status not in self.told and sum(one == status for one, _ in self.told_parts) == self.total:
            self.told.append(status)

    def line(self) -> dict[str, Any]:
        return {
            "kind": "message",
            "provider": self.provider,
            "channel": self.channel,
            "sender": self.sender,
            "recipient": self.recipient,
            "messageID": self.message_ids[0],
            "messageIDs": self.message_ids,
            "reference": self.reference,
            "template": self.template,
            "text": self.text,
            "at": write_time(self.at),
            "became": self.became,
            "failureCode": self.fate.code or None,
            "answer": self.silence or "given",
            "told": self.told,
            "replies": self.replies,
            "clicks": self.clicks,
            "previews": self.previews,
        }


class Refused(NamedTuple):
    provider: str
    channel: str
    recipient: str
    reference: str | None
    code: str
    title: str
    at: float

    def line(self) -> dict[str, Any]:
        found = self._asdict()
        return {"kind": "refused", **found, "at": write_time(self.at)}


def write_time(seconds: float) -> str:
    milliseconds = int(seconds * 1000)
    clock = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000))
    return f"{clock}.{milliseconds % 1000:03d}Z"


class Ledger:
    """In memory; `file` gets each line as well: when the request comes, of a message in parts when all are there."""

    def __init__(self, file: Path | None = None) -> None:
        self.messages: list[Message] = []
        self.refused: list[Refused] = []
        self._file = file.open("ab") if file is not None else None

    def add(self, entry: Message | Refused) -> None:
        (self.messages if isinstance(entry, Message) else self.refused).append(entry)  # type: ignore[arg-type]
        if isinstance(entry, Refused) or entry.became != "incomplete":
            self.write(entry)

    def write(self, entry: Message | Refused) -> None:
        """Append the line to the file: of a message in parts, when its last one has come."""
        if self._file is not None:
            self._file.write(msgspec.json.encode(entry.line()) + b"\n")

    def end(self) -> None:
        """Write what is still without its last part: nothing more comes."""
        for message in self.messages:
            if message.became == "incomplete":
                self.write(message)
        if self._file is not None:
            self._file.close()
            self._file = None

    def flush(self) -> None:
        if self._file is not None:
            self._file.flush()

    def clear(self) -> None:
        self.messages, self.refused = [], []

    def chunks(self) -> Iterator[bytes]:
        """Messages, then refusals, in NDJSON, many lines at a time."""
        for entries in (self.messages, self.refused):
            for start in range(0, len(entries), _CHUNK):
                lines = [msgspec.json.encode(one.line()) for one in entries[start : start + _CHUNK]]
                yield b"\n".join(lines) + b"\n"

    def summarise(self) -> dict[str, Any]:
        by_channel: dict[str, list[Message]] = defaultdict(list)
        refused: dict[str, Counter[str]] = defaultdict(Counter)
        for message in self.messages:
            by_channel[message.channel].append(message)
        for refusal in self.refused:
            refused[refusal.channel][refusal.code] += 1
        names = sorted(by_channel.keys() | refused.keys())
        every = sum(refused.values(), Counter[str]())
        return {
            **_summarise(self.messages, every),
            "byChannel": {name: _summarise(by_channel[name], refused[name]) for name in names},
        }


def _summarise(messages: list[Message], refused: Counter[str]) -> dict[str, Any]:
    occasions = Counter(message.occasion for message in messages if message.has_arrived)
    taken = Counter(message.occasion for message in messages)
    became = Counter(message.became for message in messages)
    return {
        "requests": sum(len(message.message_ids) for message in messages) + refused.total(),
        "taken": len(messages),
        "refused": dict(sorted(refused.items())),
        "unanswered": sum(message.silence is not None for message in messages),
        "messages": occasions.total(),
        "handsets": len({message.recipient for message in messages if message.has_arrived}),
        "duplicates": sum(amount > 1 for amount in occasions.values()),
        "takenTwice": sum(amount > 1 for amount in taken.values()),
        **{what: became[what] for what in ("read", "delivered", "failed", "lost", "incomplete")},
        "clicks": sum(message.clicks for message in messages),
        "replies": sum(len(message.replies) for message in messages),
    }


def measure_pace(messages: list[Message], channel: str) -> dict[str, Any]:
    """Messages taken in each second, and the most in any second, wherever it starts."""
    times = sorted(message.at for message in messages if not channel or message.channel == channel)
    seconds = Counter(int(at) for at in times)
    peak = first = 0
    for last, at in enumerate(times):
        while at - times[first] >= 1:
            first += 1
        peak = max(peak, last - first + 1)
    rows = [{"at": write_time(second), "taken": taken} for second, taken in sorted(seconds.items())]
    return {"taken": len(times), "peak": peak, "seconds": rows}
