"""The MCP server over standard input and output, asked by the official client: the API's figures, and nothing written."""

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from harness import App, Server

pytestmark = pytest.mark.anyio
TOOLS = [
    "campaign_changes",
    "campaign_failures",
    "campaign_insights",
    "campaign_recipients",
    "recipient_story",
    "sent_campaigns_detail",
    "sent_campaigns_summary",
]
Start = Callable[[App], StdioServerParameters]


def remote(app: App) -> StdioServerParameters:
    environ = {"TALLYCAST_URL": app.server_url, "TALLYCAST_TOKEN": app.token}
    return StdioServerParameters(command=sys.executable, args=["-m", "tallycast", "mcp"], env=environ)


@contextlib.asynccontextmanager
async def open_client(parameters: StdioServerParameters) -> AsyncIterator[Client]:
    async with Client(parameters, read_timeout_seconds=60) as client:
        yield client


async def ask(client: Client, tool: str, **arguments: Any) -> Any:
    answer = await client.call_tool(tool, arguments)
    assert not answer.is_error, answer.content
    return answer.structured_content


def make_campaigns(app: App) -> tuple[str, list[str]]:
    """A channel and three campaigns, the newest first: the last one was read, answered and failed in parts."""
    channel = app.add_channel()
    known = [
        app.record(channel, [f"{n}-{k}" for k in range(4)], date=f"2026-11-0{n + 1}T00:00:00Z")
        for n in range(3)
    ]
    app.post_receipts(
        channel,
        {"messageID": "2-0", "status": "read"},
        {"messageID": "2-1", "status": "delivered"},
        {"messageID": "2-2", "status": "failed", "errorCode": "131026", "errorTitle": "Undeliverable"},
    )
    return channel, known[::-1]


@pytest.mark.parametrize("way", ["remote", "local"])
async def test_an_assistant_gets_the_figures_of_the_api(app: App, server: Server, way: str) -> None:
    _, known = make_campaigns(app)
    local = StdioServerParameters(
        command=sys.executable,
        args=["-m", "tallycast", "mcp", "--app", app.app_id, "--data-dir", str(server.data_dir)],
    )
    async with open_client(remote(app) if way == "remote" else local) as client:
        tools = (await client.list_tools()).tools
        assert sorted(tool.name for tool in tools) == TOOLS
        assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in tools)
        summary = await ask(client, "sent_campaigns_summary")
        assert summary == {"campaigns": app.summary(), "hasMore": False}
        assert [row["id"] for row in summary["campaigns"]] == known
        page = await ask(client, "sent_campaigns_summary", limit=1, offset=1)
        assert ([row["id"] for row in page["campaigns"]], page["hasMore"]) == (known[1:2], True)
        detail = await ask(client, "sent_campaigns_detail", campaign_id=known[0], status="Failed")
        assert detail == {
            "recipients": app.result(
                "GET", "/data/sent-campaigns-detail", params={"historyID": known[0], "status": "Failed"}
            ),
            "hasMore": False,
        }
        changes = await ask(client, "campaign_changes")
        assert {row["id"]: row["delivered"] for row in changes["campaigns"]} == dict(
            zip(known, [2, 0, 0], strict=True)
        )
        again = await ask(client, "campaign_changes", since=changes["cursor"])
        assert again["hasMore"] is False
        insights = await ask(client, "campaign_insights", campaign_id=known[0])
        assert insights["funnel"] == app.result("GET", f"/data/campaigns/{known[0]}/insights")["funnel"]
        failures = await ask(client, "campaign_failures", campaign_id=known[0])
        assert [(one["code"], one["count"]) for one in failures["failures"]] == [("131026", 1)]
        read = await ask(client, "campaign_recipients", campaign_id=known[0], state="read")
        assert [one["recipient"] for one in read["recipients"]] == ["+85291000000"]
        first = await ask(client, "campaign_recipients", campaign_id=known[0], limit=3)
        rest = await ask(client, "campaign_recipients", campaign_id=known[0], cursor=first["nextCursor"])
        assert [one["seq"] for one in [*first["recipients"], *rest["recipients"]]] == [0, 1, 2, 3]
        story = await ask(client, "recipient_story", campaign_id=known[0], seq=0)
        assert [event["kind"] for event in story["events"]][-1] == "read"


async def test_an_assistant_is_told_what_the_figures_mean(app: App) -> None:
    async with open_client(remote(app)) as client:
        assert "delivered includes the messages that were" in (client.instructions or "")
        for tool in (await client.list_tools()).tools:
            assert len(tool.description or "") > 60
            for name, schema in tool.input_schema["properties"].items():
                assert "description" in schema, f"{tool.name}.{name}"


async def test_what_goes_wrong_is_told_in_words(app: App) -> None:
    async with open_client(remote(app)) as client:
        answer = await client.call_tool("campaign_insights", {"campaign_id": "12"})
        assert answer.is_error
        assert "no campaign 12" in str(answer.content)
        answer = await client.call_tool("campaign_insights", {"campaign_id": "12/../../../channels?x="})
        assert "method not found" in str(answer.content), "a part of a path stays one"
        answer = await client.call_tool("sent_campaigns_summary", {"start_at": "2026-11-01T00:00:00Z"})
        assert "missing one of startAt, endAt" in str(answer.content)
        answer = await client.call_tool("sent_campaigns_summary", {"limit": 100_000})
        assert answer.is_error


def test_a_command_without_an_app_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tallycast", "mcp", "--data-dir", str(tmp_path)],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Missing option '--app'" in done.stderr
