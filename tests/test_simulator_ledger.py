"""The simulator's ledger, profiles and command."""

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import httpx
import pytest

from harness import TALLYCAST, run, wait_for
from outside import change, outside
from tallycast.config import BadSetting
from tallycast.simulator.profiles import PROFILES, change_profile, load_profile

pytestmark = pytest.mark.anyio

# The ledger


async def test_the_ledger_adds_up_and_names_who_got_a_campaign_twice() -> None:
    async with outside(change(failed=0.3, lost=0.2, read=0.5, throttled=0.2)) as ours:
        for n in range(50):
            await ours.send(f"8529000{n:04d}", reference=f"tc:7.{n}", key=f"k{n % 2}")
        lines, summary = await ours.ledger(), await ours.summary()
        kinds = Counter(line["kind"] for line in lines)
        assert (summary["requests"], summary["taken"]) == (50, kinds["message"])
        assert summary["refused"] == {"130429": kinds["refused"]}
        became = Counter(line.get("became") for line in lines)
        assert {what: summary[what] for what in ("read", "delivered", "failed", "lost")} == {
            what: became[what] for what in ("read", "delivered", "failed", "lost")
        }
        assert (summary["handsets"], summary["duplicates"]) == (summary["taken"] - summary["failed"], 0)
        assert summary["taken"] == sum(part["taken"] for part in summary["byChannel"].values())


async def test_a_handset_that_gets_a_campaign_twice_is_a_duplicate_and_two_campaigns_are_not() -> None:
    async with outside() as ours:
        for reference in ("tc:7.0", "tc:8.0"):
            await ours.send(reference=reference)
        assert (await ours.summary())["duplicates"] == 0
        await ours.send(reference="tc:7.1", key="k2")
        summary = await ours.summary()
        assert (summary["duplicates"], summary["takenTwice"], summary["handsets"], summary["messages"]) == (
            1,
            1,
            1,
            3,
        )


async def test_the_pace_counts_what_was_taken_in_each_second_of_a_channel() -> None:
    async with outside() as ours:
        for n in range(30):
            await ours.send(f"8529000{n:04d}", key=f"k{n % 3}")
        _, pace = await ours.ask("GET", "/simulator/pace?key=k1")
        assert (pace["taken"], sum(row["taken"] for row in pace["seconds"])) == (10, 10)
        assert 1 <= pace["peak"] <= 10
        assert (await ours.ask("GET", "/simulator/pace"))[1]["taken"] == 30


async def test_the_ledger_can_be_emptied_and_the_fates_begin_anew() -> None:
    async with outside(change(delivered_seconds=(60, 60), expires_after=1)) as ours:
        await ours.point()
        await ours.send()
        assert await ours.pending() == 2
        assert (await ours.ask("DELETE", "/simulator/ledger"))[0] == 200
        assert (await ours.pending(), await ours.ledger()) == (0, [])
        assert (await ours.send())[0] == 200


async def test_the_ledger_is_also_appended_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "ledger.ndjson"
    for _ in range(2):
        async with outside(ledger=file) as ours:
            await ours.send()
            await ours.send(template={"name": "no_such", "language": {"code": "en_US"}})
    assert [json.loads(line)["kind"] for line in file.read_text().splitlines()] == ["message", "refused"] * 2


# The profile and the command


@pytest.mark.parametrize(
    "change",
    [b'{"failed": 1.5}', b'{"fialed": 1}', b'{"base": "gentle"}', b"[]", b"{", b'{"deliveredSeconds": [1]}'],
)
async def test_a_profile_that_cannot_be_is_refused(change: bytes) -> None:
    async with outside() as ours:
        assert (await ours.ask("POST", "/simulator/profile", data=change))[0] == 400
        assert (await ours.ask("GET", "/simulator/profile"))[1]["failed"] == 0


def test_a_profile_is_named_or_a_file_that_differs_from_its_base(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"base": "calm", "failed": 0.5, "deliveredSeconds": [1, 2]}')
    found = load_profile(str(file))
    assert (found.failed, found.delivered_seconds, found.read) == (0.5, (1.0, 2.0), 0.5)
    assert load_profile("worst") is PROFILES["worst"]
    assert change_profile(found, b'{"base": "worst"}') == PROFILES["worst"]
    with pytest.raises(BadSetting, match=r"calm, normal, worst or a JSON file, not 'gentle'"):
        load_profile("gentle")


def test_the_command_prints_a_line_when_it_is_ready_and_ends_when_asked() -> None:
    command = [*TALLYCAST, "simulate", "--port", "0", "--smpp-port", "0", "--profile", "calm"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("tallycast simulator is ready: http://127.0.0.1:")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_the_command_tells_what_is_wrong_with_its_options() -> None:
    run("simulate", "--profile", "gentle", status=2)
    assert "worst" in run("simulate", "--help")


_CHILD = """
from tallycast.simulator.child import simulating
from tallycast.simulator.server import Plan
if __name__ == "__main__":
    with simulating(Plan(port=0, smpp_port=None)) as url:
        print(url, flush=True)
        input()
"""


def is_gone(url: str) -> bool:
    try:
        httpx.get(f"{url}/simulator/pending", timeout=1)
    except httpx.TransportError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_simulator_beside_a_program_ends_with_it_however_that_ends(number: int, tmp_path: Path) -> None:
    script = tmp_path / "program.py"
    script.write_text(_CHILD)
    command = [sys.executable, str(script)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert httpx.get(f"{url}/simulator/pending").json() == {"pending": 0}
        process.send_signal(number)
    wait_for(lambda: is_gone(url), 10)
