"""Why messages failed: grouped, explained, the most frequent first."""

from pathlib import Path

import pytest

from engine import add_sandbox, rehearse
from stage import make_stage, says
from tallycast import db, failures, standings
from tallycast.failures import Cause
from tallycast.providers import dialog360, meta, sandbox, smpp, twilio

pytestmark = pytest.mark.anyio
UNDELIVERABLE = "The message cannot be delivered: the number is not on WhatsApp, has an old version, or has not accepted its terms."
WRONG = "Something went wrong at WhatsApp, which does not say what."


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
    again = "It may have passed: send the failed messages again with retry-failed."
    ask = "The title has the provider's own words; its documentation or its support knows more."
    expected = [
        Cause("131026", "Undeliverable", 3, UNDELIVERABLE, False, "sandbox", "Reach this recipient by SMS."),
        Cause("131000", "Something went wrong", 2, WRONG, True, "sandbox", again),
        Cause("", "", 1, "", False, "sandbox", ask),
        Cause(
            "unfit",
            "the body's parameter 1 is empty",
            1,
            "The message cannot be filled in or sent like this for its recipient; the title says why.",
            False,
            "sandbox",
            "Correct these recipients' values, and send them the message with another campaign.",
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


@pytest.mark.parametrize(
    ("provider", "code", "words", "what_to_do"),
    [
        pytest.param(
            "twilio", "30005", "Unknown handset.", "Take the number out of the audience.", id="two sentences"
        ),
        pytest.param(
            "smpp", "0x0A", "The SMSC refuses the sender.", "It may have to be registered with the operator.",
            id="after a colon",
        ),
        pytest.param(
            "smpp", "0x65", "The SMSC will never take this message.",
            "The same message would fail again: correct the number or the message, or reach the recipient another way.",
            id="no advice",
        ),
        pytest.param(
            "smpp", "0x15", "The SMSC refuses the service type.", "Mend the cause before more is sent like this.",
            id="no advice, but the channel stops",
        ),
        pytest.param(
            "meta", "190", "The access token has expired or was revoked.",
            "Put a new one into the channel's credentials, then resume.", id="the channel stops",
        ),
        pytest.param(
            "meta", "131026", UNDELIVERABLE, "Reach this recipient by SMS.", id="a colon in the first sentence"
        ),
        pytest.param(
            "twilio", "30003", "Handset unreachable.",
            "It may have passed: send the failed messages again with retry-failed.", id="passing",
        ),
        pytest.param(
            "", "optedOut", "The recipient had opted out when it was the message's turn.",
            "Leave them out: only they can opt in again.", id="our own",
        ),
    ],
)  # fmt: skip
async def test_a_code_is_told_in_plain_words_with_what_to_do(
    provider: str, code: str, words: str, what_to_do: str
) -> None:
    found = failures.explain(code, "", provider)
    assert (found.words, found.what_to_do) == (words, what_to_do)


async def test_every_code_of_every_table_says_what_happened_and_what_to_do() -> None:
    modules = {"360dialog": dialog360, "meta": meta, "twilio": twilio, "smpp": smpp, "sandbox": sandbox}
    for provider, module in modules.items():
        for code in module.ERRORS:
            found = failures.explain(code, "", provider)
            for sentence in (found.words, found.what_to_do):
                assert sentence[:1].isupper(), (provider, code, sentence)
                assert sentence.endswith("."), (provider, code, sentence)
