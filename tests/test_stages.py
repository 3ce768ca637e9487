"""Stages: the whole table, who may approve, what must be ready, and what is written down."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stage import Stage, make_stage, until_blocked
from tallycast import channels, db, drafts, policies, sendings, stages
from tallycast.channels import Channel, NewChannel
from tallycast.drafts import Fallback, NewSending
from tallycast.errors import BadQuery, Forbidden, Problem, Unprocessable
from tallycast.keys import Cipher
from tallycast.policies import PolicyChange
from tallycast.sendings import STAGES, Sending
from tallycast.stages import ACTIONS, Action
from tallycast.templates import Listed, TemplateUse, keep

CIPHER = Cipher(bytes(32))
# "=": the action has had its effect; "-": refused; else the next stage. Of a draft in two parts, the second is where
# campaigns need an approval. A paused campaign had begun. A schedule comes with a moment.
TABLE = {
    #           draft                        pendingApproval  scheduled    sending     paused       sent       cancelled
    "submit":   ("scheduled|pendingApproval", "=",            "=",         "-",        "-",         "-",       "-"),
    "approve":  ("-",                         "scheduled",    "=",         "-",        "-",         "-",       "-"),
    "reject":   ("=",                         "draft",        "-",         "-",        "-",         "-",       "-"),
    "schedule": ("scheduled|-",               "-",            "scheduled", "-",        "-",         "-",       "-"),
    "start":    ("sending|-",                 "-",            "sending",   "=",        "-",         "-",       "-"),
    "pause":    ("-",                         "-",            "paused",    "paused",   "=",         "-",       "-"),
    "resume":   ("-",                         "-",            "=",         "=",        "sending",   "-",       "-"),
    "cancel":   ("cancelled",                 "cancelled",    "cancelled", "cancelled", "cancelled", "-",      "="),
    "retry":    ("-",                         "-",            "-",         "=",        "sending",   "sending", "-"),
    "finish":   ("-",                         "-",            "-",         "sent",     "-",         "=",       "-"),
}  # fmt: skip


async def add_channel(stage: Stage, kind: str = "sms", **fields: Any) -> Channel:
    given: dict[str, Any] = {"credentials": {"baseURL": "https://s.example.com", "apiKey": "k"}, **fields}
    new = NewChannel(kind, "sandbox", "+85230001234", **given)  # type: ignore[arg-type]
    return await channels.create(stage.connection, CIPHER, stage.app_id, new)


async def add_draft(stage: Stage, recipients: int = 1, **fields: Any) -> Sending:
    channel = fields.pop("channel", None) or await add_channel(stage)
    new = NewSending(
        "Sale", channel_id=channel.channel_id, **{"kind": "smsDynamic", "content": "Hi", **fields}
    )
    made = await drafts.create(stage.connection, stage.app_id, new, "Mei")
    await stage.record(made.campaign_id, [None] * recipients)
    return await sendings.find(stage.connection, stage.app_id, made.campaign_id)


async def put(stage: Stage, campaign_id: int, where: str, **columns: Any) -> None:
    """Put a campaign into a stage, as if it had come there."""
    if where in {"sending", "paused", "sent"}:
        columns = {"started_at": datetime.now(UTC), **columns}
    names = ", ".join(f"{name} = %({name})s" for name in columns)
    query = f"update sendings set stage = %(stage)s{', ' if names else ''}{names} where app_id = %(app_id)s and campaign_id = %(id)s"
    await stage.connection.execute(
        query.encode(), {**columns, "stage": where, "app_id": stage.app_id, "id": campaign_id}
    )


async def move(
    stage: Stage, campaign_id: int, action: str, actor: str = "Mei", note: str = "", **more: Any
) -> Sending:
    async with stage.connection.transaction():
        return await stages.move(stage.connection, stage.app_id, campaign_id, action, actor, note, **more)  # type: ignore[arg-type]


async def require_approval(stage: Stage, wanted: bool = True) -> None:
    await policies.change_policy(stage.connection, stage.app_id, PolicyChange(requires_approval=wanted))


def soon(minutes: float = 60) -> datetime:
    return datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=minutes)


async def refused(work: Awaitable[object]) -> str:
    with pytest.raises(Problem) as caught:
        await work
    return caught.value.message


@pytest.mark.anyio
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("needs_approval", [False, True], ids=["free", "approval"])
async def test_every_action_in_every_stage_does_what_the_table_says(
    connection: db.Connection, action: Action, needs_approval: bool
) -> None:
    assert list(TABLE) == list(ACTIONS)
    stage = await make_stage(connection)
    await require_approval(stage, needs_approval)
    channel = await add_channel(stage)
    found = {}
    for where in STAGES:
        campaign = await add_draft(stage, channel=channel)
        await put(stage, campaign.campaign_id, where)
        moment = soon() if action == "schedule" else None
        try:
            moved = await move(stage, campaign.campaign_id, action, "Lee", scheduled_at=moment)
        except Unprocessable:
            moved = None
        steps = await sendings.list_transitions(connection, stage.app_id, campaign.campaign_id)
        if moved is None:
            found[where] = "-"
        elif not steps:
            found[where] = "="
        else:
            found[where] = moved.stage
            assert [(one.action, one.from_stage, one.to_stage, one.actor) for one in steps] == [(action, where, moved.stage, "Lee")]  # fmt: skip
        now = await sendings.find(connection, stage.app_id, campaign.campaign_id)
        assert now.stage == (where if found[where] in {"-", "="} else found[where])
    expected = [cell.split("|")[-1 if needs_approval else 0] for cell in TABLE[action]]
    assert found == dict(zip(STAGES, expected, strict=True))


@pytest.mark.anyio
async def test_who_created_or_submitted_a_campaign_cannot_approve_it(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    await require_approval(stage)
    campaign = await add_draft(stage)
    await move(stage, campaign.campaign_id, "submit", "Lee")
    for actor in ("Mei", "Lee"):
        with pytest.raises(Forbidden, match="another person"):
            await move(stage, campaign.campaign_id, "approve", actor)
    approved = await move(stage, campaign.campaign_id, "approve", "Ann")
    assert (approved.stage, approved.submitted_as, approved.approved_as) == ("scheduled", "Lee", "Ann")


@pytest.mark.anyio
async def test_a_rejected_campaign_is_a_draft_with_a_note_and_can_be_submitted_again(
    connection: db.Connection,
) -> None:
    stage = await make_stage(connection)
    await require_approval(stage)
    campaign = await add_draft(stage)
    await move(stage, campaign.campaign_id, "submit")
    rejected = await move(stage, campaign.campaign_id, "reject", "Ann", "last year's text")
    assert (rejected.stage, rejected.submitted_as) == ("draft", None)
    assert (await move(stage, campaign.campaign_id, "submit")).stage == "pendingApproval"
    steps = await sendings.list_transitions(connection, stage.app_id, campaign.campaign_id)
    assert [(one.action, one.actor, one.note) for one in steps] == [
        ("submit", "Mei", ""), ("reject", "Ann", "last year's text"), ("submit", "Mei", ""),
    ]  # fmt: skip
    assert steps[0].at <= steps[1].at <= steps[2].at


@pytest.mark.anyio
async def test_its_creator_may_move_an_approved_campaign_to_another_moment_and_start_it(
    connection: db.Connection,
) -> None:
    stage = await make_stage(connection)
    await require_approval(stage)
    campaign = await add_draft(stage)
    assert "submit it, and another person approves it" in await refused(
        move(stage, campaign.campaign_id, "start")
    )
    await move(stage, campaign.campaign_id, "submit")
    await move(stage, campaign.campaign_id, "approve", "Ann")
    moment = soon()
    for _ in range(2):  # a double click
        moved = await move(stage, campaign.campaign_id, "schedule", scheduled_at=moment)
        assert (moved.stage, moved.scheduled_at, moved.approved_as) == ("scheduled", moment, "Ann")
    assert (await move(stage, campaign.campaign_id, "start")).stage == "sending"
    steps = await sendings.list_transitions(connection, stage.app_id, campaign.campaign_id)
    assert [one.action for one in steps] == ["submit", "approve", "schedule", "start"]


@pytest.mark.anyio
async def test_a_schedule_needs_a_moment(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    campaign = await add_draft(stage)
    assert (
        await refused(move(stage, campaign.campaign_id, "schedule"))
        == "cannot schedule it: scheduledAt is missing"
    )


@pytest.mark.anyio
async def test_a_refusal_says_the_stage_and_what_is_possible(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    campaign = await add_draft(stage)

    async def said(where: str, action: str) -> str:
        await put(stage, campaign.campaign_id, where)
        return await refused(move(stage, campaign.campaign_id, action))

    assert await said("draft", "pause") == (
        "cannot pause it: it is draft; possible: submit, schedule, start, cancel"
    )
    assert (
        await said("paused", "start")
        == "cannot start it: it is paused; possible: resume, cancel, retry-failed"
    )
    assert await said("sent", "start") == "cannot start it: it is sent; possible: retry-failed"
    assert await said("cancelled", "start") == (
        "cannot start it: it is cancelled; possible: nothing, it has ended"
    )


@pytest.mark.anyio
async def test_a_stale_schedule_is_refused_and_never_sent_late(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    await policies.change_policy(connection, stage.app_id, PolicyChange(stale_minutes=30))
    campaign = await add_draft(stage)
    late = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    for where, action in (
        ("draft", "submit"), ("draft", "start"), ("pendingApproval", "approve"), ("scheduled", "start"),
    ):  # fmt: skip
        await put(stage, campaign.campaign_id, where, scheduled_at=late)
        assert await refused(move(stage, campaign.campaign_id, action, "tallycast")) == (
            "it was due at 2026-01-02T03:04:05.000Z, more than 30 minutes ago, and is not sent late: "
            "give it another scheduledAt"
        )
    await put(stage, campaign.campaign_id, "paused", scheduled_at=late, started_at=None)
    assert "was due at" in await refused(move(stage, campaign.campaign_id, "resume"))
    assert await refused(move(stage, campaign.campaign_id, "start")) == (
        "cannot start it: it is paused; possible: schedule, cancel"
    )
    assert (await move(stage, campaign.campaign_id, "schedule", scheduled_at=soon())).stage == "scheduled"
    await put(stage, campaign.campaign_id, "scheduled", scheduled_at=late, started_at=None)
    with pytest.raises(BadQuery, match=r"scheduledAt \S+Z is in the past, by more than 30 minutes"):
        await move(stage, campaign.campaign_id, "schedule", scheduled_at=soon(-31))
    await move(stage, campaign.campaign_id, "schedule", scheduled_at=soon(-29))
    assert (await move(stage, campaign.campaign_id, "start", "tallycast")).stage == "sending"


@pytest.mark.anyio
async def test_a_limit_of_one_minute_is_said_in_the_singular(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    await policies.change_policy(connection, stage.app_id, PolicyChange(stale_minutes=1))
    campaign = await add_draft(stage)
    await put(stage, campaign.campaign_id, "scheduled", scheduled_at=soon(-5))
    assert "more than 1 minute ago" in await refused(move(stage, campaign.campaign_id, "start"))


@pytest.mark.anyio
async def test_what_has_begun_goes_on_however_old_its_schedule_is(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    campaign = await add_draft(stage)
    began = soon(-5000)
    await put(stage, campaign.campaign_id, "paused", scheduled_at=began, started_at=began)
    resumed = await move(stage, campaign.campaign_id, "resume")
    assert (resumed.stage, resumed.started_at) == ("sending", began)
    await put(stage, campaign.campaign_id, "paused")
    said = await refused(move(stage, campaign.campaign_id, "schedule", scheduled_at=soon()))
    assert said == "cannot schedule it: it has begun; resume it"


@pytest.mark.anyio
@pytest.mark.parametrize(("minutes", "expected"), [(60, "scheduled"), (None, "scheduled"), (-5, "sending")])
async def test_a_campaign_that_had_not_begun_waits_for_its_moment_again(
    connection: db.Connection, minutes: int | None, expected: str
) -> None:
    stage = await make_stage(connection)
    campaign = await add_draft(stage)
    moment = None if minutes is None else soon(minutes)
    await put(stage, campaign.campaign_id, "scheduled", scheduled_at=moment)
    paused = await move(stage, campaign.campaign_id, "pause")
    assert (paused.stage, paused.paused_reason) == ("paused", "paused by Mei")
    resumed = await move(stage, campaign.campaign_id, "resume")
    assert (resumed.stage, resumed.scheduled_at, resumed.paused_reason) == (expected, moment, None)


@pytest.mark.anyio
async def test_the_moments_of_a_life_are_written_down_and_a_worker_is_woken(
    connection: db.Connection,
) -> None:
    stage = await make_stage(connection)
    campaign = await add_draft(stage)

    async def is_woken() -> bool:
        query = b"update apps a set woken_at = null from apps b where a.app_id = %s and b.app_id = a.app_id returning b.woken_at"
        return (await (await connection.execute(query, [stage.app_id])).fetchall())[0][0] is not None

    await is_woken()
    started = await move(stage, campaign.campaign_id, "start")
    assert started.started_at is not None
    assert (started.ended_at, await is_woken()) == (None, True)
    paused = await move(stage, campaign.campaign_id, "pause", "tallycast", "the access token has expired")
    assert paused.paused_reason == "the access token has expired"
    assert (await move(stage, campaign.campaign_id, "resume")).paused_reason is None
    sent = await move(stage, campaign.campaign_id, "finish", "tallycast")
    assert sent.ended_at is not None
    assert sent.started_at == started.started_at
    await is_woken()
    retried = await move(stage, campaign.campaign_id, "retry")
    assert (retried.ended_at, retried.started_at, await is_woken()) == (None, started.started_at, True)
    cancelled = await move(stage, campaign.campaign_id, "cancel")
    assert cancelled.ended_at is None, "a worker ends it, when what is left has failed"
    assert await is_woken()


@pytest.mark.anyio
async def test_two_who_start_at_once_start_once(connection: db.Connection, database_url: str) -> None:
    stage = await make_stage(connection)
    campaign = await add_draft(stage)
    async with db.connect(database_url) as other, db.connect(database_url) as watcher:
        second = Stage(other, stage.app_id)
        async with connection.transaction():
            await stages.move(connection, stage.app_id, campaign.campaign_id, "start", "Mei")
            waiting = asyncio.create_task(move(second, campaign.campaign_id, "start", "Lee"))
            await until_blocked(watcher, other)
        assert (await waiting).stage == "sending"
    steps = await sendings.list_transitions(connection, stage.app_id, campaign.campaign_id)
    assert [(one.action, one.actor) for one in steps] == [("start", "Mei")]


@pytest.mark.anyio
async def test_a_campaign_of_a_restored_database_goes_on_only_when_the_risk_is_accepted(
    connection: db.Connection,
) -> None:
    stage = await make_stage(connection)
    campaign = await add_draft(stage)
    here = (await move(stage, campaign.campaign_id, "submit")).home
    assert here == await db.identity(connection)
    system, timeline = here.split(".")
    assert int(system) > 0
    assert int(timeline) > 0
    for where, action in (
        ("scheduled", "start"),
        ("scheduled", "schedule"),
        ("paused", "resume"),
        ("sent", "retry"),
    ):
        for home in (f"{system}.{int(timeline) + 1}", f"1.{timeline}"):
            await put(stage, campaign.campaign_id, where, home=home)
            moment = soon() if action == "schedule" else None
            said = await refused(move(stage, campaign.campaign_id, action, scheduled_at=moment))
            assert said.startswith("the database was restored since this campaign was last sent or scheduled")
            assert 'repeat this with {"acceptRisk": true}' in said
        moved = await move(stage, campaign.campaign_id, action, scheduled_at=moment, accepts_risk=True)
        assert moved.home == here


async def make_ready(stage: Stage) -> Sending:
    return await add_draft(stage)


async def without_recipients(stage: Stage) -> Sending:
    return await add_draft(stage, recipients=0)


async def while_importing(stage: Stage) -> Sending:
    made = await add_draft(stage)
    await stage.connection.execute(
        b"insert into imports (app_id, import_id, campaign_id, state, media_type, keeps_valid) "
        b"values (%s, gen_random_uuid(), %s, 'waiting', 'text/csv', true)", [stage.app_id, made.campaign_id],
    )  # fmt: skip
    return made


async def with_deleted_channel(stage: Stage) -> Sending:
    made = await add_draft(stage)
    await channels.delete(stage.connection, stage.app_id, made.channel_id)
    return made


async def with_paused_channel(stage: Stage) -> Sending:
    made = await add_draft(stage)
    await channels.pause(stage.connection, stage.app_id, made.channel_number, "the key has expired")
    return made


async def without_credentials(stage: Stage) -> Sending:
    return await add_draft(stage, channel=await add_channel(stage, credentials={"apiKey": "k"}))


async def with_unknown_column(stage: Stage) -> Sending:
    return await add_draft(stage, content="Hi {{name}}")


async def add_whatsapp_draft(stage: Stage, status: str, **fields: Any) -> Sending:
    channel = await add_channel(stage, "whatsApp")
    components = [{"type": "BODY", "text": "Hi {{1}}"}]
    await keep(stage.connection, channel, [Listed("sale", "en", status, "MARKETING", components)])
    use = TemplateUse("sale", "en", body=["friend"])
    return await add_draft(
        stage, channel=channel, **{"kind": "whatsApp", "content": "", "template": use, **fields}
    )


async def with_paused_template(stage: Stage) -> Sending:
    return await add_whatsapp_draft(stage, "PAUSED")


async def with_wrong_parameters(stage: Stage) -> Sending:
    return await add_whatsapp_draft(stage, "APPROVED", template=TemplateUse("sale", "en", body=["a", "b"]))


async def with_empty_parameter(stage: Stage) -> Sending:
    return await add_whatsapp_draft(stage, "APPROVED", template=TemplateUse("sale", "en", body=[" "]))


async def with_long_text(stage: Stage) -> Sending:
    return await add_draft(stage, content="x" * 1531)


async def with_unknown_fallback_column(stage: Stage) -> Sending:
    fallback = Fallback((await add_channel(stage)).channel_id, "Hi {{name}}", 60)
    return await add_whatsapp_draft(stage, "APPROVED", fallback=fallback)


async def with_deleted_fallback(stage: Stage) -> Sending:
    channel = await add_channel(stage)
    made = await add_whatsapp_draft(stage, "APPROVED", fallback=Fallback(channel.channel_id, "Hi", 60))
    await channels.delete(stage.connection, stage.app_id, channel.channel_id)
    return made


@pytest.mark.anyio
@pytest.mark.parametrize("action", ["submit", "schedule", "start"])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (without_recipients, "it has no recipients: import its audience first"),
        (while_importing, "its audience is being imported: wait until that has ended"),
        (with_deleted_channel, "was deleted: make the campaign again on another one"),
        (with_paused_channel, "is paused (the key has expired): resume the channel first"),
        (without_credentials, "cannot send yet, it needs: baseURL"),
        (with_unknown_column, "{{name}} is no column of the audience"),
        (with_paused_template, "template sale (en) is PAUSED, not APPROVED"),
        (with_wrong_parameters, "template.body has 2 parameters, and the template takes 1"),
        (with_empty_parameter, "template.body[0] is empty"),
        (with_long_text, "content takes 11 SMS parts, and at most 10 can be sent"),
        (with_unknown_fallback_column, "{{name}} is no column of the audience"),
        (with_deleted_fallback, "was deleted: name another"),
    ],
)
async def test_a_campaign_that_is_not_ready_does_not_leave_its_draft_and_says_what_to_do(
    connection: db.Connection, make: Callable[[Stage], Awaitable[Sending]], said: str, action: str
) -> None:
    stage = await make_stage(connection)
    campaign = await make(stage)
    moving = move(stage, campaign.campaign_id, action, scheduled_at=soon(), cipher=CIPHER)
    assert said in await refused(moving)
    now = await sendings.find(connection, stage.app_id, campaign.campaign_id)
    assert (now.stage, await sendings.list_transitions(connection, stage.app_id, now.campaign_id)) == (
        "draft",
        [],
    )


@pytest.mark.anyio
async def test_a_draft_is_not_cancelled_while_its_audience_is_imported(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    campaign = await while_importing(stage)
    assert "is being imported" in await refused(move(stage, campaign.campaign_id, "cancel"))
    await connection.execute(b"update imports set state = 'done' where app_id = %s", [stage.app_id])
    assert (await move(stage, campaign.campaign_id, "cancel")).stage == "cancelled"


@pytest.mark.anyio
async def test_a_campaign_that_is_ready_leaves_its_draft(connection: db.Connection) -> None:
    stage = await make_stage(connection)
    plain = await make_ready(stage)
    assert (await move(stage, plain.campaign_id, "submit", cipher=CIPHER)).stage == "scheduled"
    fallback = Fallback((await add_channel(stage)).channel_id, "Hi", 60)
    full = await add_whatsapp_draft(stage, "APPROVED", fallback=fallback)
    assert (await move(stage, full.campaign_id, "submit", cipher=CIPHER)).stage == "scheduled"


@pytest.mark.anyio
async def test_a_campaign_that_is_scheduled_is_looked_at_again_when_it_starts(
    connection: db.Connection,
) -> None:
    stage = await make_stage(connection)
    campaign = await add_whatsapp_draft(stage, "APPROVED")
    await move(stage, campaign.campaign_id, "submit")
    channel = await channels.find(connection, stage.app_id, campaign.channel_id)
    await keep(connection, channel, [Listed("sale", "en", "DISABLED", "MARKETING", [])])
    assert "is DISABLED" in await refused(move(stage, campaign.campaign_id, "start", "tallycast"))


@pytest.mark.anyio
@given(
    st.lists(st.tuples(st.sampled_from(ACTIONS), st.sampled_from(["Mei", "Ann", "tallycast"])), max_size=12),
    st.booleans(),
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_whatever_is_tried_the_history_leads_to_the_stage(
    connection: db.Connection, tries: Sequence[tuple[Action, str]], needs_approval: bool
) -> None:
    stage = await make_stage(connection)
    await require_approval(stage, needs_approval)
    campaign = await add_draft(stage)
    for action, actor in tries:
        try:
            await move(stage, campaign.campaign_id, action, actor)
        except (Unprocessable, Forbidden):
            continue
    now = await sendings.find(connection, stage.app_id, campaign.campaign_id)
    steps = await sendings.list_transitions(connection, stage.app_id, campaign.campaign_id)
    chain = ["draft", *(one.to_stage for one in steps)]
    assert [one.from_stage for one in steps] == chain[:-1]
    assert now.stage == chain[-1]
    approvals = [one.actor for one in steps if one.action == "approve"]
    assert "Mei" not in approvals
    if needs_approval and any(one.action == "start" for one in steps):
        assert approvals
