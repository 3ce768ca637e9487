"""The same storm of receipts, and the same report meanwhile, against tallycast and three other designs of counting.

Which of them counts right after repeated, disordered, late and contradicting receipts, and after `kill -9` and a provider
that tries again? Written to results/peers.json and, after a whole run, into the README's table.
"""

import argparse
import asyncio
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import counters
import deltas
import grouped
import msgspec
import psycopg
from receiver import TABLES, Design

import data
import figures
import load
import servers
import storm
from insisting import Insisted, Task
from paced import Job, Told
from receipts import PATH
from servers import Server
from storm import Counts, Storm
from tallycast import apps, channels, db, embedded
from tallycast.channels import NewChannel
from tallycast.keys import load_cipher

_DESIGNS = {"grouped": grouped.DESIGN, "counters": counters.DESIGN, "deltas": deltas.DESIGN}
_TITLES = {
    "tallycast": "tallycast: facts, and counts in the same statement",
    "grouped": "a state per message, grouped at read time",
    "counters": "+1 per event",
    "deltas": "±n rows, summed up every five seconds",
}
_BATCH = 500
_CONNECTIONS = 64
_READS = 10  # report pages a second, while the storm rages
_RAGING = 0.8  # of the storm, before the part with the kill
_BEGIN, _END = "<!-- peers -->", "<!-- end of peers -->"
_README = figures.HERE.parent / "README.md"


@dataclass(frozen=True)
class Plan:
    storm: Storm
    reading_seconds: float
    work: Path

    @property
    def raging(self) -> int:
        return round(len(self.storm.receipts) * _RAGING)


@dataclass(frozen=True)
class Side:
    """One of those that are compared, ready to be served; all have the same campaigns."""

    name: str
    batch: int
    url: str
    webhook: str
    report: str
    webhook_token: str
    token: str
    lines: Path  # the storm, for this side

    @contextlib.contextmanager
    def serve(self, plan: Plan, port: int = 0) -> Iterator[Server]:
        if self.name == "tallycast":
            with servers.tallycast(plan.work, "--background-workers", "0", port=port) as server:
                yield server
        else:
            with servers.peer(self.name, self.url, "", self.token, self.batch, port) as server:
                yield server


@dataclass(frozen=True)
class Outcome:
    """`wrong*`: campaigns with a figure that is not the truth; `off*`: by how much, all figures of all campaigns added up."""

    name: str
    batch: int
    rate: float
    webhook_p50: float
    webhook_p99: float
    report_p50: float
    report_p99: float
    wrong: int
    off: int
    repeated: int
    wrong_after_kill: int
    off_after_kill: int


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


# The sides.


def _prepare_peer(plan: Plan, server_url: str, name: str, batch: int) -> Side:
    """A database of its own on the same PostgreSQL, with the campaigns and messages of the storm."""
    url, design, base = server_url.replace("/tallycast?", f"/{name}?"), _DESIGNS[name], plan.storm
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"drop database if exists {name} with (force)".encode())
        connection.execute(f"create database {name}".encode())
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"{TABLES}{design.schema}".encode())
        with connection.cursor() as cursor:
            cursor.executemany(
                _CAMPAIGN,
                [
                    (n, f"2026-09-01 09:{n % 60:02}Z", f"Campaign {n}", base.each)
                    for n in range(base.campaigns)
                ],
            )
            with cursor.copy("copy messages (message_id, campaign_id) from stdin") as copy:
                for message in range(base.campaigns * base.each):
                    copy.write_row((storm.name(message), base.campaign(message)))
        _load(connection, design)
    lines = plan.work / "lines-peer"
    base.write(lines, [""] * storm.LANES)
    token = "a-token-of-the-peers"
    return Side(name, batch, url, "/webhook", "/report", f"Bearer {token}", token, lines)


_CAMPAIGN = b"""
insert into campaigns values (%s, %s, %s, 'whatsApp', 'Mei', '+85230001200', 'Shop', 'Marketing', '', 'season_offer', %s)
"""


def _load(connection: "psycopg.Connection[Any]", design: Design) -> None:
    if design.loaded:
        connection.execute(design.loaded.encode())
    connection.execute(b"vacuum (freeze, analyze)")
    connection.execute(b"checkpoint")


async def _make_app(url: str, folder: Path) -> tuple[str, list[str]]:
    """The token of the app, and its channels."""
    async with db.connect(url) as connection:
        await apps.create_app(connection, "Storm", data.APP)
        token = (await apps.create_token(connection, data.APP)).plain
        new = [
            NewChannel("whatsApp", "360dialog", f"+8523000120{n}", "Shop", "Marketing", data.SECRET)
            for n in range(storm.LANES)
        ]
        cipher = load_cipher(None, folder)
        made = [await channels.create(connection, cipher, data.APP, one) for one in new]
    return token, [channel.channel_id for channel in made]


def _prepare_tallycast(plan: Plan, url: str) -> Side:
    """Campaigns recorded over the API, as another system would do it."""
    with servers.tallycast(plan.work, "--background-workers", "0") as server:
        token, channel_ids = asyncio.run(_make_app(url, plan.work))
        for campaign in range(plan.storm.campaigns):
            _record(plan.storm, server, token, channel_ids[campaign % storm.LANES], campaign)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(b"vacuum (freeze, analyze)")
        connection.execute(b"checkpoint")
    lines = plan.work / "lines-tallycast"
    plan.storm.write(lines, channel_ids)
    report = f"/v1/api/apps/{data.APP}/data/sent-campaigns-summary"
    return Side("tallycast", _BATCH, url, PATH, report, f"Bearer {data.SECRET}", token, lines)


def _record(base: Storm, server: Server, token: str, channel_id: str, campaign: int) -> None:
    lane, turn = campaign % storm.LANES, campaign // storm.LANES
    made = {
        "campaignName": f"Campaign {campaign}", "channelID": channel_id, "createdBy": "Mei", "subject": "season_offer",
        "date": f"2026-09-01T09:{campaign % 60:02}:00Z", "messages": [],
    }  # fmt: skip
    path = f"{server.url}/v1/api/apps/{data.APP}/sent-campaigns"
    found = _post(path, token, json.dumps(made).encode(), "application/json")
    messages = range(turn * storm.LANES * base.each + lane, (turn + 1) * storm.LANES * base.each, storm.LANES)
    lines = io.StringIO()
    for message in messages:
        lines.write(f'{{"recipient":"+852{60_000_000 + message}","messageID":"{storm.name(message)}"}}\n')
    _post(f"{path}/{found['id']}/messages", token, lines.getvalue().encode(), "application/x-ndjson")


def _post(url: str, token: str, body: bytes, kind: str) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=300) as answer:
        result: dict[str, Any] = json.load(answer)["result"]
        return result


# The storm.


def _start(side: Side, server: Server, first: int, last: int, mark: int = 0) -> "subprocess.Popen[bytes]":
    task = Task(
        server.port, side.webhook, side.webhook_token, str(side.lines), first, last, _CONNECTIONS, mark
    )
    program = [sys.executable, str(figures.HERE / "insisting.py")]
    process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(task))
    process.stdin.close()
    return process


def _finish(process: "subprocess.Popen[bytes]") -> Insisted:
    with process:
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise RuntimeError("the storm failed")
    return msgspec.json.decode(said, type=Insisted)


def _compare(side: Side, server: Server, truth: Sequence[Counts]) -> tuple[int, int]:
    """(campaigns with a wrong figure, by how much all their figures are off)."""
    request = urllib.request.Request(
        f"{server.url}{side.report}?limit=200", headers={"Authorization": f"Bearer {side.token}"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        rows = json.load(answer)["result"]
    found = {int(row["campaignName"].split()[1]): _shown(row) for row in rows}
    wrong = sum(found[n] != true for n, true in enumerate(truth))
    return wrong, sum(
        abs(is_ - ought) for n, true in enumerate(truth) for is_, ought in zip(found[n], true, strict=True)
    )


def _shown(row: dict[str, Any]) -> Counts:
    return Counts(*(int(row[name]) for name in Counts._fields))


def _rage(plan: Plan, side: Side, server: Server) -> tuple[Insisted, Told]:
    """Most of the storm, and report pages meanwhile."""
    reading = Job(
        server.port, _READS, plan.reading_seconds, 4, "GET", f"{side.report}?limit=10", f"Bearer {side.token}"
    )
    posting = _start(side, server, 0, plan.raging)
    time.sleep(1)
    reader = load.start(reading)
    told = load.finish(reader)
    if posting.poll() is not None:
        raise RuntimeError(f"the storm ended before {plan.reading_seconds} s of reading did")
    return _finish(posting), told


def _rage_and_die(plan: Plan, side: Side, server: Server) -> tuple[int, int, int]:
    """The rest of it, in the midst of which the server is killed and started anew; what was sent again, and what is wrong."""
    last = len(plan.storm.receipts)
    posting = _start(side, server, plan.raging, last, (last - plan.raging) // 2)
    assert posting.stdout is not None
    posting.stdout.readline()
    servers.kill(server)
    with side.serve(plan, server.port) as again:
        repeated = _finish(posting).repeated
        return repeated, *_compare(side, again, plan.storm.truth(last))


def _measure(plan: Plan, side: Side) -> Outcome:
    _say(f"{side.name}, batches of {side.batch}: the storm, {plan.raging:,} receipts")
    with side.serve(plan) as server:
        posted, read = _rage(plan, side, server)
        wrong, off = _compare(side, server, plan.storm.truth(plan.raging))
        rate = posted.answered / posted.seconds
        _say(f"{side.name}: {rate:,.0f} receipts/s, {wrong} campaigns wrong; now kill -9")
        repeated, *after = _rage_and_die(plan, side, server)
    return Outcome(
        side.name, side.batch, rate, posted.p50, posted.p99, read.p50, read.p99, wrong, off, repeated, *after
    )  # fmt: skip


def _measure_all(plan: Plan) -> Iterator[Outcome]:
    database = embedded.start(plan.work)
    try:
        yield _measure(plan, _prepare_tallycast(plan, database.url))
        for batch in (_BATCH, 1):
            for name in _DESIGNS:
                yield _measure(plan, _prepare_peer(plan, database.url, name, batch))
    finally:
        database.stop()


# What is shown.


def _row(plan: Plan, one: Outcome) -> str:
    def verdict(wrong: int, off: int) -> str:
        return f"**{wrong} of {plan.storm.campaigns} wrong**, by {off:,} in all" if wrong else "right"

    title = _TITLES[one.name] + ("" if one.batch > 1 else ", a transaction per request")
    return (
        f"| {title} | {one.rate:,.0f} | {one.webhook_p50:.0f} / {one.webhook_p99:.0f} ms"
        f" | {one.report_p50:.1f} / {one.report_p99:.1f} ms | {verdict(one.wrong, one.off)}"
        f" | {verdict(one.wrong_after_kill, one.off_after_kill)} |"
    )


def _publish(plan: Plan, found: list[Outcome], run: dict[str, Any]) -> None:
    head = [
        "counting by",
        "receipts/s",
        "webhook, median / p99",
        "report page, median / p99",
        "figures after the storm",
        "after `kill -9` and retries",
    ]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(_row(plan, one) for one in found)]
    size = f"{plan.storm.campaigns} campaigns of {plan.storm.each:,}, {len(plan.storm.receipts):,} receipts"
    machine = "; ".join(f"{name}: {value}" for name, value in run["machine"].items())
    block = "\n".join([_BEGIN, *lines, "", f"{size}. Measured on {run['at']}. {machine}.", _END])
    text = _README.read_text()
    _README.write_text(text[: text.index(_BEGIN)] + block + text[text.index(_END) + len(_END) :])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test: a small storm, nothing is published"
    )
    options = parser.parse_args()
    campaigns, each, seconds = (20, 1_000, 1.0) if options.quick else (20, 10_000, 20.0)
    at = datetime.now(UTC).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(prefix="tallycast-peers-", ignore_cleanup_errors=True) as folder:
        plan = Plan(storm.brew(campaigns, each), seconds, Path(folder))
        machine = figures.describe_machine("18, as `serve` starts it")
        found = []
        for outcome in _measure_all(plan):
            found.append(outcome)
            print(_row(plan, outcome), flush=True)
    run = {"at": at, "machine": machine, "quick": options.quick, "receipts": len(plan.storm.receipts)}
    path = figures.HERE / "results" / ("peers-quick.json" if options.quick else "peers.json")
    path.parent.mkdir(exist_ok=True)
    rows = [asdict(one) for one in found]
    path.write_text(json.dumps({**run, "sides": rows}, indent=2, ensure_ascii=False) + "\n")
    if not options.quick:
        _publish(plan, found, run)


if __name__ == "__main__":
    main()
