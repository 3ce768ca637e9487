"""Row 12: the recipients of one large campaign, exported over HTTP."""

import csv
import json
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import data
import servers
from data import DataSet, Shape
from figures import Figure, at_most
from importing import begin_peak, find_processes, growth
from load import median
from plan import Plan
from servers import Server

_MOST = 1_000_000
_SECONDS = 5
_MEGABYTES = 50
_OTHERS = ("ndjson", "xlsx", "parquet")
_CHUNK = 1 << 18


def measure(plan: Plan) -> Iterator[Figure]:
    made = data.prepare(plan.cache, Shape(f"1x{plan.exported}", 1, plan.exported), plan.say)
    with made.database(), servers.tallycast(made.folder) as server:
        file = plan.work / "recipients"
        campaign = json.loads(_open(server, made, "/data/sent-campaigns-summary").read())["result"][0]
        path = f"/exports/recipients?campaign={campaign['id']}&format="
        plan.say("export as csv, to warm up")
        _save(server, made, f"{path}csv", file)
        pids, _ = find_processes(server.pid)
        before = {pid: begin_peak(pid) for pid in pids}
        rounds = [_time(plan, server, made, path, "csv", file) for _ in range(plan.rounds)]
        grew = growth(pids, before)
        wrong = _compare(file, campaign)
        others = {name: _time(plan, server, made, path, name, file) for name in _OTHERS}
    yield from _judge(plan, rounds, others, grew, wrong)


def _judge(
    plan: Plan, rounds: list[float], others: dict[str, float], grew: float, wrong: dict[str, int]
) -> Iterator[Figure]:
    seconds = median(rounds)
    what = f"CSV export, {plan.exported:,} recipients, over HTTP"
    shown = f"{seconds:.2f} s ({plan.exported / seconds / 1000:,.0f} k/s); " + ", ".join(
        f"{name} {one:.1f} s" for name, one in others.items()
    )
    comparable = seconds * _MOST / plan.exported
    yield at_most(12, what, f"≤ {_SECONDS} s", shown, comparable, _SECONDS, rounds=rounds, others=others)
    title = "the same: memory (RSS) that the server takes more at its peak"
    yield at_most(12, title, f"≤ {_MEGABYTES} MB", f"{grew:.0f} MB", grew, _MEGABYTES)
    off = sum(map(abs, wrong.values()))
    yield at_most(12, "the same: its sums against the summary", "0", str(off), off, 0, wrong=wrong)


def _time(plan: Plan, server: Server, made: DataSet, path: str, name: str, file: Path) -> float:
    plan.say(f"export as {name}")
    began = time.monotonic()
    _save(server, made, path + name, file)
    return time.monotonic() - began


def _open(server: Server, made: DataSet, path: str) -> Any:
    url = f"{server.url}/v1/api/apps/{data.APP}{path}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {made.token}"})
    return urllib.request.urlopen(request, timeout=120)


def _save(server: Server, made: DataSet, path: str, file: Path) -> None:
    with _open(server, made, path) as answer, file.open("wb") as out:
        while chunk := answer.read(_CHUNK):
            out.write(chunk)


def _compare(file: Path, campaign: dict[str, Any]) -> dict[str, int]:
    """What the file has more than the summary says."""
    states: Counter[str] = Counter()
    replied = 0
    with file.open(newline="") as rows:
        for row in csv.DictReader(rows):
            states[row["state"]] += 1
            replied += int(row["clicks"]) + (row["buttons"].count("; ") + 1 if row["buttons"] else 0)
    return {
        "rows": states.total() - campaign["totalRecipients"],
        "delivered": states["delivered"] + states["read"] - campaign["delivered"],
        **{name: states[name] - campaign[name] for name in ("read", "pending", "failed")},
        "replied": replied - campaign["replied"],
    }
