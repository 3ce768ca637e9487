"""How long and how hard to measure."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from data import Shape

READERS = 8  # connections that read summaries
POSTERS = 128  # connections that post receipts


@dataclass(frozen=True)
class Plan:
    """`rounds` of `seconds` per side, in turn; `stream_*` is row 5, `replayed` the messages of row 6's file.

    `imported` are the rows of row 8's file, `sent` the messages of row 9, `paced_seconds` is row 10, `paused` the
    messages of row 11, `exported` the recipients of row 12.
    """

    large: Shape
    small: Shape
    cache: Path
    work: Path
    say: Callable[[str], None]
    rounds: int
    seconds: float
    stream_rate: int
    stream_seconds: float
    replayed: int
    starts: int
    imported: int
    sent: int
    paced_seconds: int
    paused: int
    exported: int

    @property
    def streamed(self) -> int:
        return round(self.stream_rate * self.stream_seconds)

    @property
    def posted(self) -> int:
        """Ids for row 4: enough for its rounds at 8,000 a second."""
        return round((self.rounds + 1) * self.seconds * 8_000)

    @property
    def fresh(self) -> tuple[int, int]:
        """Pending messages that a run needs for webhooks and for the replay; a small set is gone through repeatedly."""
        return min(self.posted + self.streamed, self.large.messages * 8 // 100), self.replayed
