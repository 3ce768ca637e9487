"""What a measurement gives: one row of the table, and how rows become a table, a file and a page."""

import json
import os
import platform
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
_BEGIN, _END = "<!-- results -->", "<!-- end of results -->"


@dataclass(frozen=True)
class Figure:
    """`measured` is for people; `value` is compared with `bound`: at least it, or at most it."""

    row: int
    what: str
    target: str
    measured: str
    value: float
    bound: float
    at_least: bool
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def at_least(
    row: int, what: str, target: str, measured: str, value: float, bound: float, **details: Any
) -> Figure:
    return Figure(row, what, target, measured, value, bound, True, details)


def at_most(
    row: int, what: str, target: str, measured: str, value: float, bound: float, **details: Any
) -> Figure:
    return Figure(row, what, target, measured, value, bound, False, details)


def describe_machine(server_version: str) -> dict[str, str]:
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    gigabytes = f"{int(memory[1]) / 1024 / 1024:.0f} GB" if memory else "unknown"
    return {
        "processor": f"{len(os.sched_getaffinity(0))} x {cpu[1] if cpu else platform.machine()}",
        "memory": gigabytes,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgresql": server_version,
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def show(figures: list[Figure], judged: bool) -> None:
    title = "" if judged else "a smoke test: nothing is judged"
    table = Table(
        "", "what", "target", "measured", "", title=title, title_justify="left", header_style="bold"
    )
    for one in figures:
        verdict = "yes" if one.holds else "[bold red]NO"
        table.add_row(str(one.row), one.what, one.target, one.measured, verdict if judged else "-")
    Console(width=None if os.isatty(1) else 150).print(table)


def write(figures: list[Figure], run: dict[str, Any]) -> Path:
    path = HERE / "results" / "latest.json"
    path.parent.mkdir(exist_ok=True)
    rows = [asdict(one) | {"holds": one.holds} for one in figures]
    path.write_text(json.dumps({**run, "figures": rows}, indent=2, ensure_ascii=False) + "\n")
    return path


def publish(figures: list[Figure], run: dict[str, Any]) -> None:
    """Put the table between the markers of the README."""
    page = HERE / "README.md"
    lines = ["| row | what | target | measured | holds |", "|---|---|---|---|---|"]
    for one in figures:
        holds = "yes" if one.holds else "**no**"
        lines.append(f"| {one.row} | {one.what} | {one.target} | {one.measured} | {holds} |")
    machine = "; ".join(f"{name}: {value}" for name, value in run["machine"].items())
    block = "\n".join([_BEGIN, *lines, "", f"Measured on {run['at']}. {machine}.", _END])
    text = page.read_text()
    page.write_text(text[: text.index(_BEGIN)] + block + text[text.index(_END) + len(_END) :])
