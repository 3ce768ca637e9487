"""An SDK that a public generator makes from /openapi.json compiles and fetches the summary: `make test-clients`."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from harness import App

pytestmark = pytest.mark.clients
HERE = Path(__file__).parent
BIN = HERE.parents[1] / ".venv-clients" / "bin"
PROGRAM = """
import importlib, io, json, os, pkgutil, sdk
for module in pkgutil.walk_packages(sdk.__path__, "sdk."):
    importlib.import_module(module.name)
from sdk import AuthenticatedClient
from sdk.api.reports import get_sent_campaigns_detail, get_sent_campaigns_summary
from sdk.api.campaigns import record_messages
from sdk.models import GetSentCampaignsSummaryChannel
from sdk.types import File

client = AuthenticatedClient(base_url=os.environ["URL"], token=os.environ["TOKEN"])
app = os.environ["APP"]
summary = get_sent_campaigns_summary.sync(app, client=client, limit=5, channel=GetSentCampaignsSummaryChannel.WHATSAPP)
rows = [[one.id, one.sender.phone, one.total_recipients, one.delivered, one.failed] for one in summary.result]
detail = get_sent_campaigns_detail.sync(app, client=client, history_id=rows[0][0])
more = record_messages.sync(app, rows[0][0], client=client, body=File(io.BytesIO(b"recipient,messageID\\n+85291000009,m-9\\n")))
wrong = AuthenticatedClient(base_url=os.environ["URL"], token="wrong")
refusal = get_sent_campaigns_summary.sync(app, client=wrong)
print(json.dumps([rows, [one.status for one in detail.result], more.result.accepted, refusal.code]))
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert BIN.is_dir(), "make test-clients sets it up"
    return tmp_path_factory.mktemp("sdk")


def test_the_generator_takes_the_document_without_a_warning_and_its_sdk_reads_the_reports(
    app: App, folder: Path
) -> None:
    channel = app.add_channel()
    campaign = app.record(channel, ["m-1", "m-2"])
    app.post_receipts(
        channel, {"messageID": "m-1", "status": "delivered"}, {"messageID": "m-2", "status": "failed"}
    )
    environ = {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "URL": app.server_url,
        "APP": app.app_id,
        "TOKEN": app.token,
    }
    generate = [
        "openapi-python-client", "generate", "--url", f"{app.server_url}/openapi.json", "--meta", "none",
        "--output-path", "sdk", "--config", str(HERE / "sdk.yaml"), "--fail-on-warning",
    ]  # fmt: skip
    made = subprocess.run(
        generate, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=300
    )
    assert made.returncode == 0, made.stdout + made.stderr
    program = [str(BIN / "python"), "-c", PROGRAM]
    done = subprocess.run(
        program, cwd=folder, env=environ, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[[campaign, "+85230001234", 2, 1, 1]], ["Delivered", "Failed"], 1, 401]
