"""The checker: every promise against every row and every figure, when the storm is over."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from faults.place import Place, rows_of
from faults.promises import Fact, Launch, Promises
from faults.traffic import time_of
from harness import App, wait_for
from test_sending_storm import fits, unknown

_FIGURES = ("totalRecipients", "delivered", "read", "pending", "failed")
_MESSAGES = """
select campaign_id::text, recipient, message_id, message_state(accepted_at, delivered_at, read_at, failed_at),
       extract(epoch from accepted_at)::bigint, extract(epoch from delivered_at)::bigint,
       extract(epoch from read_at)::bigint, extract(epoch from failed_at)::bigint
from messages where app_id = %s
"""
_CLICKS = """
select c.campaign_id::text, c.seq, count(*) from clicks c
where c.app_id = %s and c.set_aside is null group by 1, 2
"""
_TRANSITIONS = "select campaign_id::text, action, count(*) from transitions where app_id = %s group by 1, 2"
Row = tuple[Any, ...]


@dataclass
class Verdict:
    """What a storm has shown. `lost` and `twice` say what it is, for whoever has to find out why."""

    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    unknown: int = 0
    clicks_answered: int = 0
    clicks_kept: int = 0


class Checker:
    def __init__(self, place: Place, app: App, promises: Promises) -> None:
        self._place = place
        self._app = app
        self._promises = promises
        self._verdict = Verdict()
        self._rows: list[Row] = []
        self._ledger: list[dict[str, Any]] = []

    def check(self, *, may_be_unknown: bool) -> Verdict:
        """After everything has settled. `may_be_unknown`: workers died, or the way to providers was cut."""
        self._settle()
        self._rows = rows_of(self._place, _MESSAGES, self._app.app_id)
        self._ledger = self._place.simulator.messages()
        told = sum(len(message["told"]) for message in self._ledger)
        self._verdict.acknowledged = self._promises.count() + len(self._ledger) + told
        self._verdict.wrong += self._promises.odd
        self._check_receipts()
        self._check_recordings()
        self._check_figures()
        self._check_clicks()
        self._check_moves()
        self._check_opt_outs()
        self._check_ledger()
        for launch in self._promises.launches:
            self._check_launch(launch, may_be_unknown=may_be_unknown)
        self._check_audit()
        return self._verdict

    def _settle(self) -> None:
        """Until all connections are alive, all campaigns have ended, all receipts have come, and none is spooled, or
        parked although its message is there.
        """
        wait_for(lambda: all(self._app.request("GET", "/receipts/parked").is_success for _ in range(20)))
        wait_for(self._has_ended, 180)
        wait_for(lambda: self._place.simulator.get("pending")["pending"] == 0, 120)
        spool = self._place.data_dir / "spool"
        wait_for(lambda: not list(spool.glob("*.ndjson")), 60)
        wait_for(lambda: self._parked() <= self._without_id(), 100)

    def _parked(self) -> set[str]:
        query = "select distinct message_id from parked where app_id = %s"
        return {message_id for (message_id,) in rows_of(self._place, query, self._app.app_id)}

    def _without_id(self) -> set[str]:
        """Receipts of an SMSC name nothing but its own id, which tallycast never learnt where its answer was cut."""
        launches = [launch for launch in self._promises.launches if launch.provider == "smpp"]
        doubtful = {who for one in launches for _, who in unknown(self._app, one.campaign_id)}
        return {
            message_id
            for message in self._place.simulator.messages()
            if f"+{message['recipient'].lstrip('+')}" in doubtful
            for message_id in message["messageIDs"]
        }

    def _has_ended(self) -> bool:
        """One that was paused, as so much went wrong, is resumed as a person would."""
        stages = set()
        for launch in self._promises.launches:
            stage = self._app.result("GET", f"/campaigns/{launch.campaign_id}")["stage"]
            if stage == "paused":
                self._app.request("POST", f"/campaigns/{launch.campaign_id}/resume")
            stages.add(stage)
        return stages <= {"sent"}

    def _check_receipts(self) -> None:
        names = ("accepted", "delivered", "read", "failed")
        launched = {launch.campaign_id for launch in self._promises.launches}
        found: dict[Fact, int] = {}
        for campaign_id, _, message_id, _, *times in self._rows:
            if campaign_id not in launched:
                found |= {
                    (message_id, name): at for name, at in zip(names, times, strict=True) if at is not None
                }
        self._verdict.lost += [f"receipt {fact}" for fact in self._promises.receipts - found.keys()]
        for fact, at in found.items():
            # A message that is recorded with its id was accepted, whenever that was.
            if fact[1] != "accepted" and (fact not in self._promises.posted or at != time_of(fact)):
                self._verdict.wrong.append(f"receipt {fact} at {at} was never posted")

    def _check_recordings(self) -> None:
        rows = rows_of(
            self._place, "select name, campaign_id::text from campaigns where app_id = %s", self._app.app_id
        )
        kept = Counter(name for name, _ in rows)
        self._verdict.twice += [f"campaign {name}" for name in self._promises.named if kept[name] > 1]
        sizes = Counter(row[0] for row in self._rows)
        ids = {campaign_id for _, campaign_id in rows}
        for name, (campaign_id, accepted) in self._promises.recordings.items():
            if campaign_id not in ids or sizes[campaign_id] < accepted:
                self._verdict.lost.append(f"recording {name}")
            if sizes[campaign_id] > accepted:
                self._verdict.twice.append(f"messages of recording {name}")

    def _check_figures(self) -> None:
        """The summary says what the rows say: more is counted twice, less is lost."""
        states: dict[str, Counter[str]] = {}
        for campaign_id, _, _, state, *_ in self._rows:
            states.setdefault(campaign_id, Counter())[state] += 1
        for campaign_id, figures in self._figures().items():
            state = states[campaign_id]
            right = (
                state.total(), state["delivered"] + state["read"], state["read"], state["pending"], state["failed"],
            )  # fmt: skip
            for name, expected in zip(_FIGURES, right, strict=True):
                if figures[name] != expected:
                    place = self._verdict.twice if figures[name] > expected else self._verdict.lost
                    place.append(f"{name} of campaign {campaign_id} is {figures[name]}, not {expected}")

    def _figures(self) -> dict[str, dict[str, Any]]:
        """The summary has no such figures for SMS: those are in the campaigns' own."""
        found = {row["id"]: row for row in self._summary() if row["channel"] == "WhatsApp"}
        return found | {
            launch.campaign_id: self._app.result("GET", f"/campaigns/{launch.campaign_id}")["totals"]
            for launch in self._promises.launches
        }

    def _summary(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        while page := self._app.summary(limit=200, offset=len(rows)):
            rows += page
        return rows

    def _check_clicks(self) -> None:
        """A redirect is answered before its click is kept, so none is promised; none is counted twice."""
        launched = {launch.campaign_id for launch in self._promises.launches}
        kept = Counter(
            {(c, s): n for c, s, n in rows_of(self._place, _CLICKS, self._app.app_id) if c not in launched}
        )
        self._verdict.clicks_answered = self._promises.redirected.total()
        self._verdict.clicks_kept = kept.total()
        made = self._promises.clicked.total()
        if kept.total() > made:
            self._verdict.twice.append(f"{kept.total()} clicks of {made}")
        counted = rows_of(
            self._place, "select campaign_id::text, clicks from counts where app_id = %s", self._app.app_id
        )
        figures = {campaign: clicks for campaign, clicks in counted if clicks and campaign not in launched}
        rows: Counter[str] = Counter()
        for (campaign, _), n in kept.items():
            rows[campaign] += n
        if figures != dict(rows):
            self._verdict.wrong.append(f"clicks are counted as {figures}, and kept as {dict(rows)}")

    def _check_moves(self) -> None:
        rows = rows_of(self._place, _TRANSITIONS, self._app.app_id)
        made = {(campaign_id, action): n for campaign_id, action, n in rows}
        for campaign_id, action in self._promises.moves:
            if not made.get((campaign_id, action)):
                self._verdict.lost.append(f"{action} of campaign {campaign_id}")
        for (campaign_id, action), n in made.items():
            if action == "start" and n > 1:
                self._verdict.twice.append(f"{action} of campaign {campaign_id}")

    def _check_opt_outs(self) -> None:
        query = "select recipient from opt_outs where app_id = %s and source = 'api'"
        known = {recipient for (recipient,) in rows_of(self._place, query, self._app.app_id)}
        self._verdict.lost += [f"opt-out {one}" for one in self._promises.opted_out - known]
        reached = {f"+{message['recipient'].lstrip('+')}" for message in self._ledger}
        self._verdict.wrong += [f"{one} had opted out" for one in reached & self._promises.opted_out]

    def _check_ledger(self) -> None:
        """Numbers are used once in the whole storm, so who is there twice got something twice."""
        taken = Counter(f"+{message['recipient'].lstrip('+')}" for message in self._ledger)
        self._verdict.twice += [f"{who} was reached {n} times" for who, n in taken.items() if n > 1]

    def _check_launch(self, launch: Launch, *, may_be_unknown: bool) -> None:
        mine = {f"+{m['recipient'].lstrip('+')}": m for m in self._ledger}
        doubtful = {who for _, who in unknown(self._app, launch.campaign_id)}
        states = {row[1]: row[3] for row in self._rows if row[0] == launch.campaign_id}
        if states.keys() != launch.recipients - launch.opted_out:
            self._verdict.wrong.append(f"audience of {launch.campaign_id}: {len(states)} rows")
        for who, state in states.items():
            message = mine.get(who)
            told = None if message is None else set(message["told"])
            if who in doubtful and launch.provider == "smpp":
                told = None  # its receipts name nothing but an id that was never learnt
            if not fits(state, told):
                self._verdict.lost.append(f"{launch.provider}: {who} is {state}, and was {message}")
            if message is None and state == "pending" and who not in doubtful:
                self._verdict.lost.append(f"{who} is pending, and nobody has it")
            if (
                who in doubtful
                and not may_be_unknown
                and message is not None
                and message["answer"] == "given"
            ):
                self._verdict.wrong.append(f"{who} is unknown, though its answer was given")
        self._verdict.unknown += len(doubtful)

    def _check_audit(self) -> None:
        found = json.loads(self._place.run("audit", "--json"))
        if found["drift"]:
            self._verdict.wrong.append(f"audit: {found}")
