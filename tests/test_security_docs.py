"""docs/security.md: what it says is shown is shown by tests that exist, and the rights that it lists are the program's."""

import ast
import re
from pathlib import Path

import pytest

from tallycast.apps import SCOPES
from tallycast.roles import ROLES
from test_web_access import find_routes

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/security.md").read_text()
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)))


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_the_threat_model_names_exists(file: str, name: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    assert name in {
        one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_scope_and_role_is_in_the_threat_model_and_no_other() -> None:
    assert len(NAMED) > 30
    assert set(re.findall(r"`(\w+:\w+)`", TEXT)) == set(SCOPES)
    assert f"one role per app: {', '.join(ROLES)};" in TEXT
    assert {route.scope for route in find_routes()} == set(SCOPES)
