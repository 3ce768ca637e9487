"""Rows 1 to 3: reading the summary."""

import contextlib
import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import psycopg

import data
import load
import servers
from data import DataSet
from figures import Figure, at_least, at_most
from load import Round, median
from plan import READERS, Plan
from servers import Server

_PATH = f"/v1/api/apps/{data.APP}/data/sent-campaigns-summary?limit="


_INDEX = b"""
create index bench_states on messages (app_id, campaign_id) include (accepted_at, delivered_at, read_at, failed_at)
"""


def measure(plan: Plan, large: DataSet, rows: set[int]) -> Iterator[Figure]:
    if rows & {1, 2}:
        yield from _against_peers(plan, large, rows)
    if 3 in rows:
        yield _growth(plan, large)


def _against_peers(plan: Plan, large: DataSet, rows: set[int]) -> Iterator[Figure]:
    with contextlib.ExitStack() as stack:
        url = stack.enter_context(large.database())
        stack.enter_context(_index(plan, url))
        ours = stack.enter_context(servers.tallycast(large.folder))
        bare = stack.enter_context(servers.peer("bare", url, data.APP))
        grouping = stack.enter_context(servers.peer("grouping", url, data.APP, large.token))
        _require_same_page([ours, bare, grouping], large)
        if 1 in rows:
            found = _alternate(plan, [ours, bare, grouping], large, 10)
            ratio = median_rate(found["tallycast"]) / median_rate(found["grouping"])
            floor = median_rate(found["tallycast"]) / median_rate(found["bare"])
            what = f"summary, page of 10, at {plan.large.messages:,} messages"
            pages = _pages(found)
            yield at_least(
                1,
                f"{what}, against FastAPI + SQLAlchemy that groups at read time",
                "≥ 25 x",
                f"{ratio:.1f} x ({pages['tallycast']} : {pages['grouping']} pages/s)",
                ratio,
                25,
                **_raw(found),
            )
            yield at_least(
                1,
                "the same, against bare ASGI + psycopg with the same SELECT",
                "≥ 0.6 x",
                f"{floor:.2f} x ({pages['tallycast']} : {pages['bare']} pages/s)",
                floor,
                0.6,
            )
        if 2 in rows:
            found = _alternate(plan, [ours, bare, grouping], large, 200)
            ratio = median_rate(found["tallycast"]) / median_rate(found["grouping"])
            pages = _pages(found)
            yield at_least(
                2,
                "summary, page of 200, against the same grouping service",
                "≥ 25 x",
                f"{ratio:.1f} x ({pages['tallycast']} : {pages['grouping']} pages/s; bare {pages['bare']})",
                ratio,
                25,
                **_raw(found),
            )


@contextlib.contextmanager
def _index(plan: Plan, url: str) -> Iterator[None]:
    """The index that helps the grouping service, only while that is measured: writers do not pay for it."""
    with psycopg.connect(url, autocommit=True) as connection:
        plan.say("preparing the grouping service's index")
        connection.execute(b"drop index if exists bench_states")
        connection.execute(_INDEX)
        connection.execute(b"vacuum (analyze) messages, replies, clicks")
        try:
            yield
        finally:
            connection.execute(b"drop index bench_states")


def _require_same_page(sides: list[Server], large: DataSet) -> None:
    """All sides answer the same, before speed is compared."""
    pages = [_get(side, large.token, 200) for side in sides]
    if not all(page == pages[0] and len(page) == min(200, large.shape.campaigns) for page in pages):
        raise RuntimeError("the services do not answer the same page")


def _get(side: Server, token: str, limit: int) -> list[Any]:
    request = urllib.request.Request(
        f"{side.url}{_PATH}{limit}", headers={"Authorization": f"Bearer {token}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        page: list[Any] = json.load(answer)["result"]
        return page


def _alternate(plan: Plan, sides: list[Server], large: DataSet, limit: int) -> dict[str, list[Round]]:
    found: dict[str, list[Round]] = {side.name: [] for side in sides}
    for number in range(plan.rounds + 1):  # the first one warms up
        for side in sides:
            plan.say(f"page of {limit}: {side.name}, round {number or 'to warm up'}")
            seconds = plan.seconds if number else plan.seconds / 3
            measured = load.read(side.port, f"{_PATH}{limit}", large.token, READERS, seconds)
            if number:
                found[side.name].append(measured)
    return found


def median_rate(rounds: list[Round]) -> float:
    return median([one.rate for one in rounds])


def _pages(found: dict[str, list[Round]]) -> dict[str, str]:
    rates = {name: median_rate(rounds) for name, rounds in found.items()}
    return {name: f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}" for name, rate in rates.items()}


def _raw(found: dict[str, list[Round]]) -> dict[str, Any]:
    return {"rounds": {name: [vars(one) for one in rounds] for name, rounds in found.items()}}


def _growth(plan: Plan, large: DataSet) -> Figure:
    small = data.prepare(plan.cache, plan.small, plan.say)
    found: dict[str, list[Round]] = {"large": [], "small": []}
    with contextlib.ExitStack() as stack:
        sides = {}
        for name, one in (("large", large), ("small", small)):
            stack.enter_context(one.database())
            sides[name] = (stack.enter_context(servers.tallycast(one.folder)), one)
        for number in range(2 * plan.rounds + 1):
            for name, (side, one) in sides.items():
                plan.say(f"growth: {name}, round {number or 'to warm up'}")
                measured = load.read(side.port, f"{_PATH}10", one.token, 1, plan.seconds / 3)
                if number:
                    found[name].append(measured)
    big, little = (median([one.p50 for one in found[name]]) for name in ("large", "small"))
    return at_most(
        3, f"growth: median latency at {plan.large.messages:,} messages / at {plan.small.messages:,}, one connection",
        "≤ 1.2", f"{big / little:.2f} ({big:.3f} ms / {little:.3f} ms)", big / little, 1.2, **_raw(found),
    )  # fmt: skip
