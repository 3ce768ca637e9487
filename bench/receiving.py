"""Rows 4 to 6: receiving."""

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import psycopg

import data
import load
import receipts
import servers
from data import DataSet
from figures import Figure, at_least, at_most
from load import Round, median
from paced import Job, Told
from plan import POSTERS, Plan
from servers import Server

_AUTHORIZATION = f"Bearer {data.SECRET}"
_SUMMARY = f"/v1/api/apps/{data.APP}/data/sent-campaigns-summary?limit=10"
_HANDLERS = {
    "webhook": receipts.PATH,
    "empty": "/read",
    "empty, plain ASGI": "/plain",
    "empty, body not read": "/skip",
}
_UNREAD = "/skip"  # the server closes the connection after it, and only wrk opens new ones
_READS = 50  # summaries a second while receipts stream in


def measure(plan: Plan, large: DataSet, rows: set[int]) -> Iterator[Figure]:
    if rows & {4, 5}:
        with large.database() as url, psycopg.connect(url, autocommit=True) as connection:
            plan.say("choosing messages")
            lines = receipts.draw(connection, large, plan.posted + plan.streamed)
            with servers.tallycast(large.folder) as ours:
                if 5 in rows:
                    yield from _stream(plan, large, ours, connection, lines[: plan.streamed])
                if 4 in rows:
                    yield from _webhooks(plan, ours, lines[plan.streamed :])
            yield _audit(plan, large)
    if 6 in rows:
        yield from _replay(plan, large)


def _webhooks(plan: Plan, ours: Server, lines: list[str]) -> Iterator[Figure]:
    """In turn: our webhook, and empty handlers."""
    ids = plan.work / "ids"
    ids.write_text("\n".join(lines) + "\n")
    body = receipts.make_body("@ID@", "delivered")
    handlers = {name: path for name, path in _HANDLERS.items() if path != _UNREAD or load.has_wrk()}
    found: dict[str, list[Round]] = {name: [] for name in handlers}
    first = 0
    with servers.peer("empty") as empty:
        for number in range(plan.rounds + 1):
            for name, path in handlers.items():
                plan.say(f"webhooks: {name}, round {number or 'to warm up'}")
                port = ours.port if name == "webhook" else empty.port
                seconds = plan.seconds if number else plan.seconds / 3
                job = Job(port, 0, seconds, POSTERS, "POST", path, _AUTHORIZATION, body, str(ids), first)
                measured = load.post(job)
                first += measured.requests + POSTERS if name == "webhook" else 0
                if number:
                    found[name].append(measured)
    yield from _webhook_figures(found)


def _webhook_figures(found: dict[str, list[Round]]) -> Iterator[Figure]:
    rates = {name: median([one.rate for one in rounds]) for name, rounds in found.items()}
    shown = {name: f"{rate:,.0f}" for name, rate in rates.items()}
    p99 = median([one.p99 for one in found["webhook"]])
    raw = {name: [vars(one) for one in rounds] for name, rounds in found.items()}
    what = "single-receipt webhooks, durable, against an empty POST handler"
    for name, title, rest in (
        (
            "empty",
            f"{what} of Litestar on the same server",
            f"; {shown.get('empty, body not read', '?')} unread",
        ),
        ("empty, plain ASGI", "the same, against an empty function without a framework", ""),
    ):
        ratio = rates["webhook"] / rates[name]
        measured = f"{ratio:.2f} x ({shown['webhook']} : {shown[name]} requests/s{rest})"
        yield at_least(4, title, "≥ 0.5 x", measured, ratio, 0.5, **({"rounds": raw} if rest else {}))
    title = f"their latency, {POSTERS} connections"
    yield at_most(4, title, "p99 ≤ 100 ms", f"p99 {p99:.0f} ms", p99, 100)


@dataclass(frozen=True)
class Counted:
    pending: int
    delivered: int


def _count(connection: "psycopg.Connection[Any]") -> Counted:
    return Counted(
        *(data.one_number(connection, f"select sum({name}) from counts") for name in ("pending", "delivered"))
    )


def _stream(
    plan: Plan, large: DataSet, ours: Server, connection: "psycopg.Connection[Any]", lines: list[str]
) -> Iterator[Figure]:
    """Receipts at a fixed rate, summaries at another, each from a process of its own."""
    ids = plan.work / "stream"
    ids.write_text("\n".join(lines) + "\n")
    body = receipts.make_body("@ID@", "delivered")
    rate, seconds = plan.stream_rate, plan.stream_seconds
    writing = Job(
        ours.port, rate, seconds, POSTERS, "POST", receipts.PATH, _AUTHORIZATION, body, str(ids)
    )  # fmt: skip
    reading = Job(ours.port, _READS, seconds, 4, "GET", _SUMMARY, f"Bearer {large.token}")
    load.finish(load.start(msgspec.structs.replace(reading, seconds=2)))
    before = _count(connection)
    plan.say(f"{rate} receipts/s for {seconds:.0f} s, and {_READS} summaries/s")
    writer, reader = load.start(writing), load.start(reading)
    wrote, read = load.finish(writer), load.finish(reader)
    after = _count(connection)
    lost = wrote.answered - min(before.pending - after.pending, after.delivered - before.delivered)
    yield from _stream_figures(plan, wrote, read, lost)


def _stream_figures(plan: Plan, wrote: Told, read: Told, lost: int) -> Iterator[Figure]:
    told = {"webhooks": msgspec.to_builtins(wrote), "summaries": msgspec.to_builtins(read)}
    title = f"reading while {plan.stream_rate:,} receipts/s stream in for {plan.stream_seconds:.0f} s"
    shown = f"p99 {read.p99:.1f} ms, median {read.p50:.1f} ms"
    yield at_most(5, f"{title}: summary", "p99 ≤ 25 ms", shown, read.p99, 25, **told)
    shown = f"median {wrote.p50:.1f} ms, p99 {wrote.p99:.1f} ms"
    yield at_most(5, "the same: webhook", "median ≤ 10 ms", shown, wrote.p50, 10)
    shown = f"{lost} of {wrote.sent:,}" + (f", {wrote.errors} refused" if wrote.errors else "")
    yield at_most(5, "the same: receipts lost", "0", shown, abs(lost) + wrote.errors, 0)


def _audit(plan: Plan, large: DataSet) -> Figure:
    plan.say("recounting all messages")
    command = [*servers.TALLYCAST, "audit", "--json", "--data-dir", str(large.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=servers.ENVIRON)
    found = json.loads(done.stdout)
    measured = f"{found['drift']} in {found['messages']:,} messages"
    return at_most(5, "drift, recounted after the rows above", "0", measured, found["drift"], 0)


def _replay(plan: Plan, large: DataSet) -> Iterator[Figure]:
    file = plan.work / "replay.ndjson"
    with large.database() as url:
        with psycopg.connect(url, autocommit=True) as connection:
            plan.say("writing a file of receipts")
            channel_id, bodies = receipts.write_replay(connection, large, plan.replayed, file)
            before = _count(connection)
        plan.say(f"replaying {bodies:,} receipts")
        began = time.monotonic()
        command = [
            *servers.TALLYCAST,
            "replay",
            str(file),
            "--channel",
            channel_id,
            "--data-dir",
            str(large.folder),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=servers.ENVIRON)
        seconds = time.monotonic() - began
        with psycopg.connect(url, autocommit=True) as connection, contextlib.closing(connection):
            after = _count(connection)
    if before.pending - after.pending != bodies // 3:
        raise RuntimeError(
            f"the replay moved {before.pending - after.pending} of {bodies // 3} messages: {done.stdout}"
        )
    yield at_least(
        6,
        "receipts from a file, one per body, the whole command",
        "≥ 50 k/s",
        f"{bodies / seconds / 1000:.1f} k/s ({bodies:,} in {seconds:.1f} s)",
        bodies / seconds,
        50_000,
        said=done.stdout.strip(),
    )
