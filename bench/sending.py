"""Rows 9 to 11: sending through the simulator: how fast, how evenly, and how soon a pause holds."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import campaigns
import servers
from campaigns import App
from figures import Figure, at_least, at_most
from plan import Plan
from servers import Server

_FAST = 5_000
_WANTED = 1_000
_EVEN = 80
_PEAK = 84
_PAUSED_RATE = 500
_PAUSES = 3
_QUIET_SECONDS = 5  # after a pause, before the ledger is looked at
_SETTLING_SECONDS = 120
_TEMPLATE = {
    "name": "spring_sale_v3",
    "language": "en_US",
    "header": {"image": "https://cdn.example.com/sale.jpg"},
    "body": ["{{name}}", "{{discount}}"],
    "buttons": [
        {"index": 0, "payload": "yes"},
        {"index": 1, "payload": "later"},
        {"index": 2, "trackedURL": "https://example.com/spring"},
    ],
}


@dataclass(frozen=True)
class Bench:
    plan: Plan
    app: App
    simulator: Server
    folder: Path

    def make(self, key: str, rate: float, count: int) -> str:
        """A WhatsApp campaign that is ready to start, over a channel of its own; its path."""
        channel_id = campaigns.add_channel(self.app, self.simulator, key, rate)
        draft = {"campaignName": key, "kind": "whatsApp", "channelID": channel_id, "template": _TEMPLATE}
        campaign = f"/campaigns/{self.app.ask('POST', '/campaigns', draft)['id']}"
        file = self.plan.work / "recipients.csv"
        rows = (f"+852{60_000_000 + n},Customer {n},{n % 50}%\n" for n in range(count))
        file.write_text("Recipients Number,name,discount\n" + "".join(rows))
        import_id = campaigns.upload(self.app, campaign, file)["id"]
        campaigns.await_import(self.app, campaign, import_id, 300)
        campaigns.clear(self.simulator)
        return campaign

    def start(self, campaign: str) -> None:
        self.app.ask("POST", f"{campaign}/start", {})

    def await_sent(self, campaign: str, seconds: float) -> None:
        def is_sent() -> bool:
            standing = self.app.ask("GET", campaign)
            if standing["stage"] == "paused":
                raise RuntimeError(f"the campaign was paused: {standing.get('pausedReason')}")
            return bool(standing["stage"] == "sent")

        campaigns.await_that("the campaign is sent", is_sent, seconds)

    def settle(self) -> None:
        """Wait until the simulator has nothing more to tell."""

        def is_settled() -> bool:
            return bool(campaigns.look_at(self.simulator, "pending")["pending"] == 0)

        campaigns.await_that("the simulator has told everything", is_settled, _SETTLING_SECONDS)


def measure(plan: Plan, rows: set[int]) -> Iterator[Figure]:
    folder = plan.work / "sending"
    with (
        servers.simulator() as simulator,
        campaigns.serving(folder, "--private-hosts", "127.0.0.1") as app,
    ):
        bench = Bench(plan, app, simulator, folder)
        if 9 in rows:
            yield from _measure_speed(bench, plan.sent)
        if 10 in rows:
            yield from _measure_pace(bench, plan.paced_seconds)
        if 11 in rows:
            yield from _measure_pause(bench, plan.paused)


# Row 9.


def _measure_speed(bench: Bench, count: int) -> Iterator[Figure]:
    plan = bench.plan
    plan.say(f"preparing {count:,} messages")
    campaign = bench.make("speed", _FAST, count)
    plan.say("sending them")
    began = time.monotonic()
    bench.start(campaign)
    bench.await_sent(campaign, 60 + count / 50)
    seconds = time.monotonic() - began
    bench.settle()
    settled = time.monotonic() - began
    ledger = campaigns.look_at(bench.simulator, "ledger/summary")
    wrong = _compare(bench, campaign, _expect(ledger, count))
    pace = campaigns.look_at(bench.simulator, "pace")
    audit = _audit(bench)
    told = {"seconds": seconds, "settled": settled, "ledger": ledger, "pace": pace, "audit": audit}
    shown = (
        f"{count / seconds:,.0f} messages/s ({count:,} in {seconds:.1f} s, their receipts in {settled:.1f} s)"
    )
    what = "sending through the simulator, one channel, receipts coming back meanwhile"
    yield at_least(9, what, f"≥ {_WANTED:,} messages/s", shown, count / seconds, _WANTED, **told)
    off = sum(map(abs, wrong.values()))
    shown = f"{off}" + (f": {wrong}" if wrong else "")
    yield at_most(
        9, "the same: by how much the summary differs from the simulator's ledger", "0", shown, off, 0
    )
    twice, drift = ledger["duplicates"] + ledger["takenTwice"], audit["drift"]
    yield at_most(9, "the same: recipients reached twice", "0", f"{twice}", twice, 0)
    shown = f"{drift} in {audit['messages']:,} messages"
    yield at_most(9, "the same: drift, recounted", "0", shown, drift, 0)


def _expect(ledger: dict[str, Any], count: int) -> dict[str, int]:
    """What the summary must say, as the ledger knows it."""
    return {
        "totalRecipients": count,
        "delivered": ledger["delivered"] + ledger["read"],
        "read": ledger["read"],
        "replied": ledger["replies"] + ledger["clicks"],
        "pending": ledger["lost"],
        "failed": ledger["failed"] + count - ledger["taken"],
    }


def _compare(bench: Bench, campaign: str, expected: dict[str, int]) -> dict[str, int]:
    """What the summary has too much. Clicks are counted a moment after they were answered."""
    found: dict[str, int] = {}

    def agrees() -> bool:
        page = bench.app.ask("GET", "/data/sent-campaigns-summary?limit=200")
        summary = next(row for row in page if row["id"] == campaign.rpartition("/")[2])
        found.clear()
        found.update({name: summary[name] - expected[name] for name in expected})
        return not any(found.values())

    try:
        campaigns.await_that("the summary says what the ledger says", agrees, 30)
    except campaigns.Impatient:
        bench.plan.say(f"the summary does not become the ledger: {found}")
    return {name: difference for name, difference in found.items() if difference}


def _audit(bench: Bench) -> dict[str, Any]:
    command = [*servers.TALLYCAST, "audit", "--json", "--data-dir", str(bench.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=servers.ENVIRON)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


# Row 10.


def _measure_pace(bench: Bench, seconds: int) -> Iterator[Figure]:
    bench.plan.say(f"sending {_EVEN} a second for {seconds} s")
    campaign = bench.make("pace", _EVEN, _EVEN * (seconds + 4))
    bench.start(campaign)
    bench.await_sent(campaign, 3 * seconds + 60)
    pace = campaigns.look_at(bench.simulator, "pace")
    wanted, taken = _EVEN * seconds, _count_taken(pace, seconds)
    what = f"pace: a channel of {_EVEN} a second, over {seconds} s"
    target = f"{wanted:,} ± 2 %"
    yield at_most(10, what, target, f"{taken:,}", abs(taken - wanted), wanted * 0.02, **pace)
    what = "the same: the most in any second, wherever it begins"
    yield at_most(10, what, f"≤ {_PEAK}", f"{pace['peak']}", pace["peak"], _PEAK)
    bench.settle()


def _count_taken(pace: dict[str, Any], seconds: int) -> int:
    """Messages of so many whole seconds, from the first whole one."""
    taken = Counter({datetime.fromisoformat(row["at"]): row["taken"] for row in pace["seconds"]})
    first = min(taken) + timedelta(seconds=1)
    return sum(taken[first + timedelta(seconds=n)] for n in range(seconds))


# Row 11.


def _measure_pause(bench: Bench, count: int) -> Iterator[Figure]:
    plan = bench.plan
    plan.say(f"sending {_PAUSED_RATE} a second, with {_PAUSES} pauses")
    campaign = bench.make("pause", _PAUSED_RATE, count)
    bench.start(campaign)
    lags, taken = [], []
    for number in range(1, _PAUSES + 1):
        _await_queued(bench, campaign, count - count * number // (_PAUSES + 1))
        lags.append(_pause(bench, campaign))
        taken.append(len(campaigns.read_ledger(bench.simulator)))
        bench.app.ask("POST", f"{campaign}/resume", {})
    bench.await_sent(campaign, 60 + count / 50)
    bench.settle()
    reached = Counter(message["recipient"] for message in campaigns.read_ledger(bench.simulator))
    missed, twice = count - len(reached), reached.total() - len(reached)
    worst = max(lags)
    shown = f"{worst * 1000:+,.0f} ms, the latest of {_PAUSES}"
    what = f"pause, at {_PAUSED_RATE} a second: the last message after the answer to …/pause"
    yield at_most(11, what, "≤ 2 s", shown, worst, 2, lags=lags, taken=taken)
    shown = f"{missed} missed, {twice} twice, of {count:,}"
    yield at_most(11, "the same: the rest after resuming", "0 missed, 0 twice", shown, missed + twice, 0)


def _await_queued(bench: Bench, campaign: str, most: int) -> None:
    campaigns.await_that("the next pause is due", lambda: _queued(bench, campaign) <= most, 120)


def _queued(bench: Bench, campaign: str) -> int:
    return int(bench.app.ask("GET", campaign)["totals"]["queued"])


def _pause(bench: Bench, campaign: str) -> float:
    """Pause; how many seconds after the answer the last message came. Before it, where that is negative."""
    bench.app.ask("POST", f"{campaign}/pause", {})
    answered = time.time()
    time.sleep(_QUIET_SECONDS)
    if not _queued(bench, campaign):
        raise RuntimeError("the campaign was through before it was paused")
    last = max(message["at"] for message in campaigns.read_ledger(bench.simulator))
    return datetime.fromisoformat(last).timestamp() - answered
