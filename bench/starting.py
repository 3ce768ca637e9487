"""Row 7: starting, and what an idle server holds."""

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import servers
from figures import Figure, at_most
from load import median
from plan import Plan

_IDLE_SECONDS = 5
_READY = "/health/ready"


def measure(plan: Plan) -> Iterator[Figure]:
    first, again, resident, proportional = [], [], [], []
    for number in range(plan.starts):
        with tempfile.TemporaryDirectory(prefix="start-", dir=plan.work) as folder:
            plan.say(f"start {number + 1}, on an empty directory")
            with servers.tallycast(Path(folder)) as server:
                first.append(server.ready)
            plan.say(f"start {number + 1}, again")
            with servers.tallycast(Path(folder)) as server:
                again.append(server.ready)
                time.sleep(_IDLE_SECONDS)
                rss, pss = _memory(server.pid)
                resident.append(rss)
                proportional.append(pss)
    seen = {"first": first, "again": again, "rss": resident, "pss": proportional}
    yield at_most(
        7, "`serve` on an empty directory until the first 200", "≤ 5 s", f"{median(first):.2f} s", median(first), 5, **seen
    )  # fmt: skip
    yield at_most(7, "the same, again", "≤ 2 s", f"{median(again):.2f} s", median(again), 2)
    shown = f"{median(proportional):.0f} MB (RSS, which counts shared pages twice: {median(resident):.0f} MB)"
    yield at_most(
        7,
        "idle memory of its processes (PSS), PostgreSQL apart",
        "≤ 150 MB",
        shown,
        median(proportional),
        150,
    )


def _memory(pid: int) -> tuple[float, float]:
    """(RSS, PSS) in megabytes of a process and its descendants, but for PostgreSQL's."""
    totals = {"Rss": 0, "Pss": 0}
    for one in servers.descendants(pid):
        if Path("/proc", str(one), "exe").readlink().name != "postgres":
            text = Path("/proc", str(one), "smaps_rollup").read_text()
            for name in totals:
                found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
                totals[name] += int(found[1]) if found else 0
    return totals["Rss"] / 1024, totals["Pss"] / 1024
