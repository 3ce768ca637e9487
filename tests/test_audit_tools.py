"""`make audit`: what it makes of lock files, and of a service that is not there or answers as if all were well."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
HASH = "--hash=sha256:85ece4451f492d0c13c5dd7c13a64681a86afae63a5f347908daf103ce6d2f67"


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_run", ROOT / ".ci/audit/run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("line", "is_pinned"),
    [
        (f"jinja2==3.1.6 \\\n    {HASH} \\\n    {HASH}", True),
        (f"granian[uvloop]==2.8.0 ; sys_platform != 'win32' \\\n    {HASH}", True),
        ("# a remark\n\n", True),
        ("jinja2==3.1.6", False),
        (f"jinja2>=3.1 {HASH}", False),
        (f"jinja2 {HASH}", False),
        (f"git+https://example.com/jinja2.git {HASH}", False),
    ],
)
def test_a_requirement_is_one_version_with_its_hashes(audit: ModuleType, line: str, is_pinned: bool) -> None:
    assert (audit.find_unpinned(line) == []) == is_pinned


def test_all_lock_files_are_pinned(audit: ModuleType) -> None:
    assert audit.check_pins() == []


WELL = {"name": "jinja2", "version": "3.1.2", "vulns": []}
BUG = {"id": "PYSEC-1", "fix_versions": ["3.1.3"]}


def answer_with(*answers: list[dict[str, Any]]) -> Any:
    left = list(answers)
    return lambda _: left.pop(0)


def test_a_service_that_knows_nothing_of_a_version_that_is_known_to_be_bad_was_not_asked(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for answer in ([WELL], [{"name": "jinja2", "skip_reason": "not found"}]):
        monkeypatch.setattr(audit, "ask_service", answer_with(answer, answer))
        assert audit.ask(False) is True
        assert "NOT CHECKED" in capsys.readouterr().out
        assert audit.ask(True) is False


def test_vulnerabilities_are_findings_with_the_version_that_mends_them(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(audit, "tracked", lambda *_: ["a.lock", "b.lock"])
    bad = {**WELL, "vulns": [BUG]}
    monkeypatch.setattr(
        audit, "ask_service", answer_with([bad], [bad], [{"name": "own", "skip_reason": "?"}])
    )
    assert audit.ask(False) is False
    said = capsys.readouterr().out
    assert "a.lock: jinja2 3.1.2: PYSEC-1, mended in 3.1.3" in said
    assert "b.lock: the service does not know own" in said


def test_what_the_scan_for_secrets_leaves_out_has_a_reason_and_every_rule_says_what_it_guards() -> None:
    known = json.loads((ROOT / ".ci/audit/secrets.json").read_text())
    assert all(reason for reason in known["skipped"].values())
    rules = (ROOT / ".ci/audit/rules.yml").read_text()
    assert rules.count("  - id: ") == rules.count("    message: ") == 8
