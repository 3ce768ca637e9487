"""The life of a campaign that tallycast sends: which action leads from which stage to which, and what it takes."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, get_args

from tallycast import apps, db, notices, policies, readiness, sendings
from tallycast.errors import BadQuery, Forbidden, Unprocessable
from tallycast.keys import Cipher
from tallycast.moments import write_moment
from tallycast.notices import StageChange
from tallycast.policies import Policy
from tallycast.sendings import Sending, Stage
from tallycast.sql import load

Action = Literal[
    "submit", "approve", "reject", "schedule", "start", "pause", "resume", "cancel", "retry", "finish"
]
ACTIONS: tuple[Action, ...] = get_args(Action)
_SQL = load("sendings")
_MAX_NOTE = 1000
# What people call an action, where that differs.
_ROUTES: dict[Action, str] = {"retry": "retry-failed"}
# Stages from which messages go out, at once or later: only what is ready comes here.
_ONWARD = frozenset[Stage]({"pendingApproval", "scheduled", "sending"})


class Situation(NamedTuple):
    """A campaign at the moment of an action; `due` is its schedule, as the action leaves it."""

    sending: Sending
    policy: Policy
    due: datetime | None
    now: datetime

    def needs_approval(self) -> bool:
        return self.policy.requires_approval

    def is_free(self) -> bool:
        return not self.policy.requires_approval

    def has_moment(self) -> bool:
        return self.due is not None

    def is_free_and_has_moment(self) -> bool:
        return self.is_free() and self.has_moment()

    def has_moment_and_not_begun(self) -> bool:
        return self.has_moment() and self.sending.started_at is None

    def is_ahead(self) -> bool:
        """Nothing was sent yet, and it is not time to: it waits for its moment, or for a person."""
        return self.sending.started_at is None and (self.due is None or self.due > self.now)

    def is_stale(self) -> bool:
        return (
            self.sending.started_at is None
            and self.due is not None
            and self.policy.is_late(self.due, self.now)
        )


class Rule(NamedTuple):
    """A row of the table: of several for one action and stage, the first whose condition holds."""

    action: Action
    sources: frozenset[Stage]
    target: Stage
    when: Callable[[Situation], bool] = lambda _: True


def _from(*stages: Stage) -> frozenset[Stage]:
    return frozenset(stages)


TABLE = (
    Rule("submit", _from("draft"), "pendingApproval", Situation.needs_approval),
    Rule("submit", _from("draft"), "scheduled"),
    Rule("approve", _from("pendingApproval"), "scheduled"),
    Rule("reject", _from("pendingApproval"), "draft"),
    Rule("schedule", _from("draft"), "scheduled", Situation.is_free_and_has_moment),
    Rule("schedule", _from("scheduled"), "scheduled", Situation.has_moment),
    Rule("schedule", _from("paused"), "scheduled", Situation.has_moment_and_not_begun),
    Rule("start", _from("draft"), "sending", Situation.is_free),
    Rule("start", _from("scheduled"), "sending"),
    Rule("pause", _from("scheduled", "sending"), "paused"),
    Rule("resume", _from("paused"), "scheduled", Situation.is_ahead),
    Rule("resume", _from("paused"), "sending"),
    Rule("cancel", _from("draft", "pendingApproval", "scheduled", "sending", "paused"), "cancelled"),
    Rule("retry", _from("paused", "sent"), "sending"),
    Rule("finish", _from("sending"), "sent"),
)


def goes_onward(action: Action) -> bool:
    """Whether messages may go out after it, so that all must be ready."""
    return any(rule.target in _ONWARD for rule in TABLE if rule.action == action)


async def move(
    connection: db.Connection,
    app_id: str,
    campaign_id: int,
    action: Action,
    actor: str,
    note: str = "",
    *,
    scheduled_at: datetime | None = None,
    accepts_risk: bool = False,
    cipher: Cipher | None = None,
) -> Sending:
    """The campaign after an action, in the caller's transaction; repeating an action that has had its effect is none.

    Unprocessable where the table or the campaign's readiness does not allow it, Forbidden where another must do it,
    BadQuery for a `scheduled_at` that is past the app's limit.
    `note` of a pause is why. With a `cipher` the channel's credentials are checked too. `accepts_risk`: go on
    although the database was restored from a backup, so that what was sent after the backup may be sent again.
    """
    was = await sendings.hold(connection, app_id, campaign_id)
    policy = await policies.find_policy(connection, app_id)
    situation = Situation(was, policy, scheduled_at or was.scheduled_at, datetime.now(UTC))
    rule = _find_rule(action, situation)
    if rule is None or (rule.target == was.stage and situation.due == was.scheduled_at):
        await apps.wake(connection, app_id)  # there may be something new to do all the same, as after a retry
        return was
    if action == "approve" and not may_approve(was, actor):
        raise Forbidden("another person than who created and who submitted the campaign must approve it")
    home = None
    if rule.target in _ONWARD:
        if scheduled_at is not None:
            policy.check_due(scheduled_at, situation.now)
        _check_moment(situation)
        await readiness.check(connection, was, cipher)
    if rule.action == "cancel":  # what is imported later would stay queued for ever
        await readiness.check_import(connection, was)
    if rule.target in _ONWARD - {"pendingApproval"}:
        home = await db.identity(connection)
        _check_home(was, home, accepts_risk)
    changes = {"home": home, **_changes(rule, situation, actor, note)}
    await _write(connection, was, rule, actor, note, changes)
    return await sendings.find(connection, app_id, campaign_id)


def may_approve(sending: Sending, actor: str) -> bool:
    """Whether it is another person than who created and who submitted the campaign."""
    return _person(actor) not in {_person(sending.created_as), _person(sending.submitted_as or "")}


def _person(actor: str) -> str:
    """Who an actor is, without the name, which may change: `staff E7` of `staff E7 (Mei)`."""
    return actor.partition(" (")[0]


def list_possible(sending: Sending, policy: Policy, now: datetime) -> list[Action]:
    """What a person can do with a campaign now, by the table; whether it is ready shows when it is done."""
    situation = Situation(sending, policy, sending.scheduled_at, now)
    return [one for one in ACTIONS if one != "finish" and _is_possible(one, situation)]


def check_note(note: str) -> None:
    if len(note) > _MAX_NOTE or "\0" in note:
        raise BadQuery.of(f"note must be at most {_MAX_NOTE} characters, without NUL")


def _find_rule(action: Action, situation: Situation) -> Rule | None:
    """The row that applies; None where the action has had its effect already."""
    rows = [rule for rule in TABLE if rule.action == action]
    stage = situation.sending.stage
    for rule in rows:
        if stage in rule.sources and rule.when(situation):
            return rule
    is_from_here = any(stage in rule.sources for rule in rows)
    if not is_from_here and any(rule.target == stage for rule in rows):
        return None
    raise Unprocessable(f"cannot {action} it: {_reason(action, situation, is_from_here)}")


def _reason(action: Action, situation: Situation, is_from_here: bool) -> str:
    if is_from_here and action == "schedule" and not situation.has_moment():
        return "scheduledAt is missing"
    if is_from_here and situation.sending.stage == "paused":
        return "it has begun; resume it"
    if is_from_here:
        return "campaigns of this app need an approval; submit it, and another person approves it"
    possible = [
        _ROUTES.get(one, one) for one in list_possible(situation.sending, situation.policy, situation.now)
    ]
    return f"it is {situation.sending.stage}; possible: {', '.join(possible) or 'nothing, it has ended'}"


def _is_possible(action: Action, situation: Situation) -> bool:
    """A schedule comes with its moment, so only the stage and the need of an approval count."""
    likely = situation._replace(due=situation.due or situation.now)
    stage = situation.sending.stage
    is_late = situation.is_stale() and action != "schedule"
    return any(
        rule.action == action
        and stage in rule.sources
        and rule.when(likely)
        and not (is_late and rule.target in _ONWARD)
        for rule in TABLE
    )


def _check_moment(situation: Situation) -> None:
    if situation.is_stale() and situation.due is not None:
        raise Unprocessable(
            f"it was due at {write_moment(situation.due)}, more than {situation.policy.show_limit()} ago, "
            "and is not sent late: give it another scheduledAt"
        )


def _check_home(was: Sending, home: str, accepts_risk: bool) -> None:
    if was.home and home and was.home != home and not accepts_risk:
        raise Unprocessable(
            "the database was restored since this campaign was last sent or scheduled: whom it reached after the "
            'backup it would reach again. Find out who has it, then repeat this with {"acceptRisk": true}'
        )


def _changes(rule: Rule, situation: Situation, actor: str, note: str) -> dict[str, Any]:
    """What an action writes beside the stage."""
    was, now = situation.sending, situation.now
    changes: dict[str, Any] = {
        "scheduled_at": situation.due,
        "paused_reason": None,
        "submitted_as": was.submitted_as,
        "approved_as": was.approved_as,
        "started_at": was.started_at,
        "ended_at": None,
    }
    match rule.action:
        case "submit":
            changes["submitted_as"] = actor
        case "approve":
            changes["approved_as"] = actor
        case "reject":
            changes["submitted_as"] = None
        case "pause":
            changes["paused_reason"] = note or f"paused by {actor}"
        case "finish":
            changes["ended_at"] = now
    if rule.target == "sending":
        changes["started_at"] = was.started_at or now
    return changes


async def _write(
    connection: db.Connection, was: Sending, rule: Rule, actor: str, note: str, changes: dict[str, Any]
) -> None:
    key = {"app_id": was.app_id, "campaign_id": was.campaign_id}
    await db.execute(connection, _SQL["move_sending"], {**key, "stage": rule.target, **changes})
    transition = {
        **key,
        "action": rule.action,
        "from_stage": was.stage,
        "to_stage": rule.target,
        "actor": actor,
        "note": note,
    }
    await db.execute(connection, _SQL["add_transition"], transition)
    change = StageChange(str(was.campaign_id), was.name, rule.target, was.stage, actor, note)
    await notices.tell_stage(connection, was.app_id, was.campaign_id, rule.action, change)
    await apps.wake(connection, was.app_id)
