"""Measure the figures of README.md, side by side in one run. Exit status 1 when one is missed."""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg

import data
import exporting
import figures
import importing
import load
import reading
import receiving
import sending
import starting
from figures import Figure
from plan import Plan

ROWS = frozenset(range(1, 13))


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test: few messages, short rounds, nothing judged"
    )
    parser.add_argument("--only", help="rows to measure, e.g. 1,4; all when left out")
    default = Path(tempfile.gettempdir()) / "tallycast-bench"
    parser.add_argument(
        "--cache", type=Path, default=default, help="where data sets are kept [default: %(default)s]"
    )
    options = parser.parse_args()
    options.rows = {int(row) for row in options.only.split(",")} if options.only else set(ROWS)
    if not options.rows <= ROWS:
        parser.error(f"rows are {min(ROWS)} to {max(ROWS)}")
    return options


def _plan(options: argparse.Namespace, work: Path) -> Plan:
    small, cache = data.SMALL, options.cache
    if options.quick:
        shape, sizes = data.SHAPES["100k"], (2, 2, 1_000, 5, 2_000, 1, 20_000, 3_000, 5, 3_000, 100_000)
    else:
        shape, sizes = (
            data.SHAPES["10m"],
            (5, 9, 3_000, 60, 200_000, 3, 1_000_000, 60_000, 60, 10_000, 1_000_000),
        )
    return Plan(shape, small, cache, work, _say, *sizes)


def _measure(plan: Plan, rows: set[int]) -> Iterator[Figure]:
    if rows & {1, 2, 3, 4, 5, 6}:
        fresh = plan.fresh if rows & {4, 5, 6} else (0, 0)
        large = data.prepare(plan.cache, plan.large, _say, fresh)
        yield from reading.measure(plan, large, rows)
        yield from receiving.measure(plan, large, rows)
    if 7 in rows:
        yield from starting.measure(plan)
    if 8 in rows:
        yield from importing.measure(plan)
    if rows & {9, 10, 11}:
        yield from sending.measure(plan, rows)
    if 12 in rows:
        yield from exporting.measure(plan)


def _server_version(cache: Path) -> str:
    with data.prepare(cache, data.SMALL, _say).database() as url, psycopg.connect(url) as connection:
        row = connection.execute(b"show server_version").fetchone()
        return f"{row[0]}, as `serve` starts it" if row else "unknown"


def main() -> int:
    options = _options()
    load.ensure_wrk()
    options.cache.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="work-", dir=options.cache))
    found: list[Figure] = []
    machine = figures.describe_machine(_server_version(options.cache))
    at = datetime.now(UTC).isoformat(timespec="seconds")
    run = {"at": at, "machine": machine, "quick": options.quick, "rows": sorted(options.rows)}
    try:
        for figure in _measure(_plan(options, work), options.rows):
            _say(f"row {figure.row}: {figure.measured} (target {figure.target})")
            found.append(figure)
    finally:  # what was measured before a failure is shown, too
        shutil.rmtree(work, ignore_errors=True)
        found.sort(key=lambda figure: figure.row)
        figures.show(found, judged=not options.quick)
        _say(f"written to {figures.write(found, run)}")
    if options.rows == ROWS and not options.quick:
        figures.publish(found, run)
    return int(not options.quick and not all(figure.holds for figure in found))


if __name__ == "__main__":
    sys.exit(main())
