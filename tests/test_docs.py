"""The documentation is true: its commands run, its JSON parses, its pages are current, its links lead somewhere."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import free_port, wait_for

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ENDLESS = re.compile(r"tallycast serve|make run")


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in _BLOCK.findall(page.read_text()) if kind == language]


class Reader:
    """Somebody who types a page's commands, one block after the other, in a folder of their own."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._servers: list[subprocess.Popen[bytes]] = []
        self._ports = {"8080": str(port), "8081": str(free_port())}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environ = {
            **os.environ,
            "PATH": path,
            "TALLYCAST_PORT": str(port),
            "DATA": str(folder / "demo"),
        }

    def type(self, block: str) -> str:
        for written, free in self._ports.items():
            block = block.replace(written, free)
        block = block.replace(".venv/bin/", "")
        if _ENDLESS.search(block):
            self._start(block)
            return ""
        return self._finish(block)

    def _start(self, command: str) -> None:
        log = self._folder / f"server-{len(self._servers)}.log"
        folder = ROOT if command.startswith("make") else self._folder
        with log.open("wb") as output:
            server = subprocess.Popen(
                ["bash", "-ec", f"exec {command}"],
                cwd=folder, env=self._environ, stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        self._servers.append(server)
        wait_for(lambda: "tallycast is ready" in log.read_text(), 60)

    def _finish(self, block: str) -> str:
        # Exported variables live on from block to block, as in a person's shell.
        state = self._folder / "variables"
        state.touch()
        script = f"set -a; source {state}; {block}\nexport -p > {state}"
        done = subprocess.run(
            ["bash", "-ec", script],
            cwd=self._folder,
            env=self._environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def leave(self) -> None:
        for server in reversed(self._servers):
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path, free_port())
    yield reader
    reader.leave()


def test_the_quickstart_ends_with_the_figures_that_it_promises(reader: Reader) -> None:
    outputs = [reader.type(block) for block in blocks(ROOT / "docs/quickstart.md", "sh")]
    summary, detail = (
        json.loads(text) for text in re.findall(r"^\{.*?^\}", outputs[-1], re.MULTILINE | re.DOTALL)
    )
    figures = summary["result"][0]
    assert [figures[name] for name in ("totalRecipients", "delivered", "read", "failed", "pending")] == [
        4,
        2,
        1,
        1,
        1,
    ]
    assert [row["status"] for row in detail["result"]] == ["Read", "Delivered", "Pending", "Failed"]
    assert outputs[-1].endswith("1 campaigns, 4 messages, drift 0\n")


def test_the_commands_of_the_readme_run_and_its_first_request_is_answered(reader: Reader) -> None:
    outputs = [reader.type(block) for block in blocks(ROOT / "README.md", "sh") if "make test" not in block]
    assert json.loads(outputs[-1])["result"] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_json_in_the_docs_parses(page: Path) -> None:
    for block in blocks(page, "json"):
        json.loads(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, check=False, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()


def test_every_error_code_of_the_api_is_documented() -> None:
    page = (ROOT / "docs/api.md").read_text()
    for code in ("6451000", "6450001", "6451001", "6451010", "401", "403", "404", "405", "413", "415", "422"):
        assert code in page
