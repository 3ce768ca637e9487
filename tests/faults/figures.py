"""The table: faults injected, facts acknowledged, lost and counted twice, storm by storm."""

import json
import os
import platform
import re
from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from faults.checker import Verdict

_DOCS = Path(__file__).parents[2] / "docs"
_MARKS = ("<!-- figures -->", "<!-- end of figures -->")
_HEAD = (
    "storm",
    "faults",
    "facts acknowledged",
    "lost",
    "counted or sent twice",
    "unknown outcomes",
    "seconds",
)


@dataclass
class Storm:
    name: str
    injected: dict[str, int]
    acknowledged: int
    lost: int
    twice: int
    unknown: int
    clicks_answered: int
    clicks_kept: int
    seconds: float

    @classmethod
    def of(cls, name: str, injected: Counter[str], verdict: Verdict, seconds: float) -> "Storm":
        return cls(
            name, dict(sorted(injected.items())), verdict.acknowledged, len(verdict.lost), len(verdict.twice),
            verdict.unknown, verdict.clicks_answered, verdict.clicks_kept, round(seconds, 1),
        )  # fmt: skip

    def cells(self) -> tuple[str, ...]:
        numbers = (sum(self.injected.values()), self.acknowledged, self.lost, self.twice, self.unknown)
        return (self.name, *(f"{number:,}" for number in numbers), f"{self.seconds:.0f}")


@dataclass
class Figures:
    storms: list[Storm]

    def total(self) -> Storm:
        injected = sum((Counter(one.injected) for one in self.storms), Counter[str]())
        sums = [
            sum(getattr(one, name) for one in self.storms)
            for name in (
                "acknowledged",
                "lost",
                "twice",
                "unknown",
                "clicks_answered",
                "clicks_kept",
                "seconds",
            )
        ]
        return Storm("all", dict(sorted(injected.items())), *sums)

    def render(self) -> str:
        """For people: the storms, then how often each fault was injected."""
        storms = _table(_HEAD, [one.cells() for one in (*self.storms, self.total())])
        faults = _table(("fault", "times"), [(name, str(n)) for name, n in self.total().injected.items()])
        answered, kept = self.total().clicks_answered, self.total().clicks_kept
        clicks = (
            f"Link clicks are answered before they are kept, so none is promised: {answered:,} redirects were "
            f"answered and {kept:,} kept, also of those whose answer was lost on its way."
        )
        return f"{storms}\n\n{clicks}\n\n{faults}"

    def write(self) -> None:
        """Into docs/faults.json, and between the marks of docs/faults.md."""
        machine = f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
        date = f"{datetime.now(UTC):%Y-%m-%d}"
        content = {"date": date, "machine": machine, "storms": [asdict(one) for one in self.storms]}
        (_DOCS / "faults.json").write_text(json.dumps(content, indent=2) + "\n")
        page = _DOCS / "faults.md"
        first, last = _MARKS
        times = os.environ.get("TALLYCAST_FAULTS", "").replace("full", "20")
        made = f"{first}\n{date}, on {machine}; faults of the storms {times} times each:\n\n{self.render()}\n{last}"
        page.write_text(re.sub(f"{first}.*{last}", lambda _: made, page.read_text(), flags=re.DOTALL))


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---", *["---:"] * (len(head) - 1)), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
