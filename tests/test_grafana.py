"""The Grafana dashboard: one that Grafana can load, of metrics that exist with the labels that they have."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Counter, Gauge, Histogram

from tallycast import telemetry

FILE = Path(__file__).parent.parent / "deploy" / "grafana" / "tallycast.json"
DASHBOARD = json.loads(FILE.read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SUFFIXES = {Counter: ("_total",), Gauge: ("",), Histogram: ("_bucket", "_sum", "_count")}


def known_metrics() -> dict[str, set[str]]:
    """The names of all series that `/metrics` may have, and the labels of each beside Prometheus' own."""
    found: dict[str, set[str]] = {}
    for metric in vars(telemetry).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            for suffix in SUFFIXES[type(metric)]:
                names = metric._labelnames  # noqa: SLF001 - the library tells them in no other way
                labels = set(names) | ({"le"} if suffix == "_bucket" else set())
                found[next(iter(metric.describe())).name + suffix] = labels | {"instance"}
    return found


def expressions() -> list[tuple[str, str]]:
    return [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


def test_it_has_what_grafana_asks_of_a_dashboard() -> None:
    assert DASHBOARD["uid"] == "tallycast"
    assert "id" not in DASHBOARD, "an id is the instance's own"
    assert isinstance(DASHBOARD["schemaVersion"], int)
    assert DASHBOARD["schemaVersion"] >= 36
    assert {"title", "panels", "templating", "time", "timezone"} <= DASHBOARD.keys()
    assert [one["name"] for one in DASHBOARD["templating"]["list"]] == ["datasource", "instance"]


def test_every_panel_is_in_its_place_and_has_targets() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in PANELS:
        assert panel["description"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)


@pytest.mark.parametrize(("title", "expression"), expressions())
def test_every_metric_exists_with_the_labels_that_are_asked_for(title: str, expression: str) -> None:
    known = known_metrics()
    named = re.findall(r"(tallycast_\w+)\{([^}]*)\}", expression)
    assert named, title
    assert len(named) == expression.count("tallycast_"), "each is narrowed to the chosen servers"
    for name, selector in named:
        assert name in known, name
        labels = set(re.findall(r"(\w+)=?[~!=]+", selector))
        assert labels <= known[name], name
        assert "instance" in labels
        for grouped in re.findall(r"by \(([\w, ]+)\)", expression):
            assert set(grouped.split(", ")) <= known[name], name


def test_every_metric_is_on_the_dashboard() -> None:
    text = " ".join(expression for _, expression in expressions())
    families = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in known_metrics()}
    assert {name for name in families if name not in text} == set()
