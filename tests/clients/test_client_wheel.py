"""tallycast-client as people get it: its wheel, its README's examples, its data frames: `make test-clients`."""

import json
import os
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

import pytest

from harness import App

pytestmark = pytest.mark.clients
ROOT = Path(__file__).parents[2]
CLIENT = ROOT / "client"
PYTHON = ROOT / ".venv-clients" / "bin" / "python"
FRAMES = """
import json, os
from tallycast_client import Client
with Client(os.environ["URL"], os.environ["APP"], os.environ["TOKEN"]) as client:
    pandas, polars = client.sent_campaigns().to_pandas(), client.sent_campaigns().to_polars()
    nobody = client.sent_campaigns(channel="sms")
    people = client.recipients(polars["id"][0])
    print(json.dumps({
        "pandas": {name: str(kind) for name, kind in pandas.dtypes.items()},
        "polars": {name: str(kind) for name, kind in polars.schema.items()},
        "delivered": [int(pandas["delivered"].sum()), polars["delivered"].sum()],
        "date": [pandas["date"][0].isoformat(), polars["date"][0].isoformat()],
        "empty": [
            len(nobody.to_pandas()), nobody.to_polars().height,
            bool((nobody.to_pandas().dtypes == pandas.dtypes).all()), nobody.to_polars().schema == polars.schema,
        ],
        "recipients": [people.to_pandas()["recipient"].tolist(), people.to_polars()["recipient"].to_list()],
        "reason": people.to_polars()["failed_reason"].to_list(),
    }))
"""


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, installed for the clients' Python."""
    assert PYTHON.exists(), "make test-clients sets it up"
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=CLIENT, check=True, capture_output=True)
    [made] = folder.glob("*.whl")
    install = [
        str(PYTHON),
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--force-reinstall",
        str(made),
    ]
    subprocess.run(install, check=True)
    return made


def run_python(program: str, app: App, folder: Path) -> str:
    environ = {**os.environ, "URL": app.server_url, "APP": app.app_id, "TOKEN": app.token}
    done = subprocess.run(
        [str(PYTHON), "-c", program], cwd=folder, env=environ,
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def add_channels(app: App) -> str:
    """A WhatsApp channel, whose id it gives, and one for SMS."""
    channel = app.add_channel()
    app.add_channel(
        type="sms", provider="twilio", phone="+15005550006", channelName="",
        credentials={"accountSID": "AC" + "0" * 32, "authToken": "0" * 32},
    )  # fmt: skip
    return channel


def test_the_wheel_holds_the_package_its_types_and_its_licence(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith(".py")}
        about = Parser().parsestr(archive.read("tallycast_client-0.1.0.dist-info/METADATA").decode())
    assert wheel.name == "tallycast_client-0.1.0-py3-none-any.whl"
    assert names == {
        "tallycast_client/py.typed",
        *(
            f"tallycast_client-0.1.0.dist-info/{name}"
            for name in ("METADATA", "WHEEL", "RECORD", "licenses/LICENSE")
        ),
    }
    assert (about["Name"], about["Version"], about["License-Expression"]) == (
        "tallycast-client",
        "0.1.0",
        "Apache-2.0",
    )
    assert about["Requires-Python"] == ">=3.11"
    assert about.get_all("Requires-Dist") == [
        "httpx<1,>=0.28",
        "pandas>=2.2; extra == 'pandas'",
        "polars>=1.0; extra == 'polars'",
    ]
    assert "## Reports" in str(about.get_payload())


def test_it_needs_httpx_and_loads_no_data_frames_by_itself(wheel: Path, app: App, tmp_path: Path) -> None:
    assert wheel.exists()
    program = "import sys, tallycast_client; print(tallycast_client.__version__, {'pandas', 'polars'} & sys.modules.keys())"
    assert run_python(program, app, tmp_path) == "0.1.0 set()\n"


def test_the_examples_of_the_readme_run(wheel: Path, app: App, tmp_path: Path) -> None:
    assert wheel.exists()
    channel = add_channels(app)
    app.record(channel, ["m-0"], date="2026-11-20T03:00:00Z")
    app.post_receipts(channel, {"messageID": "m-0", "status": "failed", "errorCode": 131026})
    page = (CLIENT / "README.md").read_text()
    program = "\n".join(part.partition("```")[0] for part in page.split("```python\n")[1:])
    printed = run_python(program.replace("http://127.0.0.1:8080", app.server_url), app, tmp_path)
    assert "+85291000000 131026" in printed
    assert "done 1 \nHi Mei, see you at ten\nno campaign 7" in printed
    assert (tmp_path / "campaigns.parquet").read_bytes()[:4] == b"PAR1"


def test_data_frames_have_the_types_of_their_fields(wheel: Path, app: App, tmp_path: Path) -> None:
    assert wheel.exists()
    channel = add_channels(app)
    app.record(channel, ["m-0", "m-1"], date="2026-11-20T03:00:00Z")
    app.post_receipts(channel, {"messageID": "m-0", "status": "read"})
    found: dict[str, Any] = json.loads(run_python(FRAMES, app, tmp_path))
    assert found["polars"] == {
        "id": "String", "date": "Datetime(time_unit='ms', time_zone='UTC')", "campaign_name": "String",
        "channel": "String", "created_by": "String", "sender_phone": "String", "sender_channel_name": "String",
        "sender_source_name": "String", "sender_sender_eid": "String", "subject": "String",
        "total_recipients": "Int64", "delivered": "Int64", "read": "Int64", "replied": "Int64", "pending": "Int64",
        "failed": "Int64",
    }  # fmt: skip
    assert found["pandas"].keys() == found["polars"].keys()
    assert {found["pandas"][name] for name in ("total_recipients", "delivered", "failed")} == {"Int64"}
    assert found["pandas"]["date"] == "datetime64[ms, UTC]"
    assert {found["pandas"][name] for name in ("id", "subject", "sender_sender_eid")} == {"string"}
    assert found["delivered"] == [1, 1]
    assert found["date"] == ["2026-11-20T03:00:00+00:00"] * 2
    assert found["empty"] == [0, 0, True, True]
    assert found["recipients"] == [["+85291000000", "+85291000001"]] * 2
    assert found["reason"] == [None, None]
