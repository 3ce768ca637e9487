"""Why messages failed: grouped, explained, the most frequent first."""

from pathlib import Path

import pytest

from engine import add_sandbox, rehearse
from stage import make_stage, says
from tallycast import db, failures, standings
from tallycast.failures import Cause
from tallycast.providers.cloud_errors import ERRORS

pytestmark = pytest.mark.anyio


async def test_failures_are_counted_by_code_and_title_with_words_and_whether_a_retry_helps(
    connection: db.Connection, tmp_path: Path
) -> None:
    stage = await make_stage(connection)
    channel = await add_sandbox(stage, tmp_path, "http://127.0.0.1:1")
    rehearsal = await rehearse(stage, channel, 0)
    key = (connection, stage.app_id, rehearsal.campaign_id)
    assert (await standings.find(*key)).failures is standings.UNSET
    await stage.record(rehearsal.campaign_id, [f"m-{n}" for n in range(8)])
    failed = [
        ("131026", "Undeliverable"), ("131026", "Undeliverable"), ("131026", "Undeliverable"),
        ("131000", "Something went wrong"), ("131000", "Something went wrong"), ("9", None),
        ("unfit", "the body's parameter 1 is empty"),
    ]  # fmt: skip
    receipts = [
        says(f"m-{n}", "failed", n, code, error_title=title) for n, (code, title) in enumerate(failed)
    ]
    await stage.apply(channel, *receipts, says("m-5", "delivered", 100), says("m-7", "failed", 0))
    expected = [
        Cause("131026", "Undeliverable", 3, ERRORS["131026"].words, retryable=False),
        Cause("131000", "Something went wrong", 2, ERRORS["131000"].words, retryable=True),
        Cause("", "", 1, "", retryable=False),
        Cause(
            "unfit",
            "the body's parameter 1 is empty",
            1,
            "The message cannot be filled in or sent like this for its recipient; the title says why.",
            retryable=False,
        ),
    ]
    assert (await standings.find(*key)).failures == expected, "who was delivered after all has not failed"


async def test_at_most_fifty_causes_are_told(connection: db.Connection, tmp_path: Path) -> None:
    stage = await make_stage(connection)
    channel = await add_sandbox(stage, tmp_path, "http://127.0.0.1:1")
    rehearsal = await rehearse(stage, channel, 0)
    await stage.record(rehearsal.campaign_id, [f"m-{n}" for n in range(60)])
    await stage.apply(channel, *(says(f"m-{n}", "failed", 0, str(n)) for n in range(60)))
    assert len(await failures.list_causes(connection, stage.app_id, rehearsal.campaign_id)) == 50
