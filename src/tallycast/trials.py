"""Trials: test messages to one number. They go ahead of everything else and are in no count."""

import asyncio
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import msgspec

from tallycast import apps, db, optouts, readiness, rendering, sendings
from tallycast.candidates import fold
from tallycast.errors import BadQuery, NotFound, Unprocessable
from tallycast.handovers import ENDED, Desk
from tallycast.keys import Cipher
from tallycast.numbers import InvalidNumber, parse_number
from tallycast.references import TRIAL_SEQ
from tallycast.rendering import RenderError
from tallycast.sendings import Addressed, Sending
from tallycast.sql import load

SEQ = TRIAL_SEQ
WAITING = "waiting"
_SQL = load("trials")
# How long a test message waits for a worker: later nobody expects it.
SECONDS = 600.0
# It is told a little later that none took it: one that did at the last moment may not have committed yet.
_TOLD_SECONDS = SECONDS + 5
_LATE = "No worker took it within ten minutes, so it is not sent any more. Start one, and test again"
_WAIT_SECONDS = 15.0
_POLL_SECONDS = 0.2


class Trial(NamedTuple):
    trial_id: str
    campaign_id: int
    recipient: str
    content: str | None
    variables: list[str]


async def claim(connection: db.Connection, desk: Desk) -> list[Trial]:
    """The test messages that wait for this channel, those of long ago left out; they are this worker's now."""
    rows = await db.fetch_rows(connection, _SQL["claim_trials"], {**desk._asdict(), "seconds": SECONDS})
    return [Trial(str(trial_id), *rest) for trial_id, *rest in rows]


async def answer(
    connection: db.Connection,
    desk: Desk,
    trial: Trial,
    outcome: str,
    message_ids: Sequence[str],
    reason: str,
) -> None:
    """Tell who waits what became of it: `accepted`, `refused` or `unknown`. An accepted SMS has one id per part."""
    params = {
        "app_id": desk.app_id,
        "trial_id": trial.trial_id,
        "outcome": outcome,
        "message_id": message_ids[0] if message_ids else None,
        "reason": reason,
    }
    async with connection.transaction():
        await db.execute(connection, _SQL["answer_trial"], params)
        noted = {
            **desk._asdict(),
            "campaign_id": trial.campaign_id,
            "seq": SEQ,
            "message_ids": [*message_ids],
        }
        await db.execute(connection, _SQL["note_trial_ids"], noted)


async def give_up(connection: db.Connection, desk: Desk) -> None:
    """What other workers had claimed over this channel when they ended."""
    await db.execute(connection, _SQL["give_up_trials"], {**desk._asdict(), "reason": ENDED})


class Outcome(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    """What became of a test message: `accepted`, `refused` or `unknown`; `waiting` until a worker has tried.

    One that no worker has taken within ten minutes is never sent: it is `refused`, and `reason` says so.
    """

    trial_id: str = msgspec.field(name="trialID")
    recipient: str
    outcome: Literal["waiting", "accepted", "refused", "unknown"]
    message_id: str | None = msgspec.field(name="messageID", default=None)
    reason: str | None = None


async def ask(
    connection: db.Connection,
    sending: Sending,
    recipient: str,
    wanted: Mapping[str, str],
    actor: str,
    cipher: Cipher,
) -> str:
    """Have a test message sent to one number; the trial's id. Part of the caller's transaction.

    Variables that are not `wanted` are those of the first recipient.
    """
    number = _read_number(recipient)
    if await optouts.blocked(connection, cipher, sending.app_id, sending.type, [number]):
        raise Unprocessable(f"{number} has opted out of {sending.type} messages of this app")
    await readiness.check_channel(connection, sending, cipher)
    await readiness.check_template(connection, sending)
    first = await sendings.list_texts(connection, sending.app_id, sending.campaign_id, 0, 1)
    content, variables = first[0].content if first else None, _merge(sending, first, wanted)
    try:
        renderer = await rendering.load_renderer(connection, sending.app_id, sending.campaign_id, "")
        renderer.render(SEQ, content, variables)
    except RenderError as error:
        hint = "" if first else ", and no audience is imported yet"
        raise Unprocessable(f"the message cannot be filled in: {error}{hint}") from None
    trial_id = str(uuid.uuid4())
    params = {
        "app_id": sending.app_id,
        "trial_id": trial_id,
        "channel_number": sending.channel_number,
        "campaign_id": sending.campaign_id,
        "recipient": number,
        "variables": variables,
        "content": content,
        "asked_as": actor,
    }
    await db.execute(connection, _SQL["ask_trial"], params)
    await apps.wake(connection, sending.app_id)
    return trial_id


def _read_number(recipient: str) -> str:
    try:
        return parse_number(recipient).e164
    except InvalidNumber as error:
        raise BadQuery.of(f"recipient must be a phone number like +85298765432: {error}") from None


def _merge(sending: Sending, first: Sequence[Addressed], wanted: Mapping[str, str]) -> list[str]:
    """One value per column of the audience."""
    if any("\0" in value for value in wanted.values()):
        raise BadQuery.of("variables must not contain NUL")
    known = list(first[0].variables or ()) if first else []
    given = {_find_column(sending, name): value for name, value in wanted.items()}
    values = dict(zip(sending.columns, known, strict=False)) | given
    return [values.get(column, "") for column in sending.columns]


def _find_column(sending: Sending, name: str) -> str:
    """The audience's column of this name, compared as the import does."""
    for column in sending.columns:
        if fold(column) == fold(name):
            return column
    has = ", ".join(sending.columns) or "none yet: import the audience first"
    raise BadQuery.of(f"variables: {name[:80]!r} is no column of the audience, which has {has}")


async def find(connection: db.Connection, app_id: str, campaign_id: int, trial_id: str) -> Outcome:
    try:
        key = {"app_id": app_id, "campaign_id": campaign_id, "trial_id": uuid.UUID(trial_id)}
    except ValueError:
        raise NotFound(f"no test message {trial_id[:40]}") from None
    params = {**key, "seconds": _TOLD_SECONDS, "late": _LATE}
    outcome = await db.fetch_one(connection, Outcome, _SQL["find_trial"], params)
    if outcome is None:
        raise NotFound(f"no test message {trial_id}")
    return outcome


async def wait_for(connect: db.Connect, app_id: str, campaign_id: int, trial_id: str) -> Outcome:
    """Its outcome, as soon as a worker tells; after a while what is known until then."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        async with connect() as connection:
            outcome = await find(connection, app_id, campaign_id, trial_id)
        if outcome.outcome != WAITING or time.monotonic() > deadline:
            return outcome
        await asyncio.sleep(_POLL_SECONDS)
