"""The figures of all storms, shown when the run ends; a whole run in the full form writes them into docs/."""

import os
from collections.abc import Callable
from dataclasses import asdict

import pytest

from faults.figures import Figures, Storm

_NAME = "storm"
Note = Callable[[Storm], None]


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Add a storm to the table: with the test's report, which finds its way from any process."""
    return lambda storm: request.node.user_properties.append((_NAME, asdict(storm)))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = [one for name in ("passed", "failed") for one in terminalreporter.stats.get(name, [])]
    found = [value for one in reports for name, value in one.user_properties if name == _NAME]
    figures = Figures(sorted((Storm(**one) for one in found), key=lambda storm: storm.name))
    if not figures.storms:
        return
    terminalreporter.write_line(figures.render())
    is_whole = not (config.option.keyword or terminalreporter.stats.get("failed"))
    if os.environ.get("TALLYCAST_FAULTS") and is_whole:
        figures.write()
