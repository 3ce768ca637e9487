"""Erasure while a campaign is on its way: who is erased gets nothing, and everybody else does."""

from pathlib import Path

import pytest

from engine import Provider, a_worker, add_sandbox, rehearse
from stage import Stage, until
from tallycast import people, sendings
from tallycast.administrations import By
from tallycast.keys import load_cipher

pytestmark = pytest.mark.anyio
ADA, BOB, CLEO = "+85291000000", "+85291000001", "+85291000002"


async def test_messages_that_wait_are_set_aside_and_the_rest_of_the_campaign_goes_out(
    stage: Stage, provider: Provider, database_url: str, tmp_path: Path
) -> None:
    made = await rehearse(stage, await add_sandbox(stage, tmp_path, provider.url), 3)
    cipher = load_cipher(None, tmp_path)
    await people.erase(stage.connection, cipher, stage.app_id, ADA, By("somebody"))
    assert await made.counts() == {"total": 3, "queued": 2, "failed": 1}
    listed = await sendings.list_texts(stage.connection, stage.app_id, made.campaign_id, 0, 10)
    assert [one.recipient for one in listed] == [BOB, CLEO]
    await made.move("start")
    # Bob is erased when the campaign is being sent already, and nobody has come to send it yet.
    await people.erase(stage.connection, cipher, stage.app_id, BOB, By("somebody"))
    async with a_worker(database_url, tmp_path):
        await until(made.sent)
    assert provider.recipients == [CLEO[1:]]
    assert await made.counts() == {"total": 3, "pending": 1, "failed": 2}
    assert (await stage.message(made.campaign_id, 1))["error_code"] == "erased"
    assert await stage.drift() == []
