"""Logs and metrics. One line per request, with its `cid`; metrics right over all server processes.

The metrics library decides when it is imported whether processes share their metrics, so `serving` names the folder
that they share before any server process imports this module.
"""

import asyncio
import logging
import os
import sys
import time
from bisect import bisect_left
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
REQUESTS = Counter("tallycast_requests", "Requests answered", ["method", "route", "status"])
REQUEST_SECONDS = Histogram("tallycast_request_seconds", "Time to answer", ["route"], buckets=_SECONDS)
EVENTS = Counter("tallycast_events", "Receipts, replies and clicks that arrived")
BATCH_EVENTS = Histogram(
    "tallycast_batch_events",
    "Events of one database batch",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000),
)
RECEIPTS_PARKED = Counter("tallycast_receipts_parked", "Receipts whose message was not known when they came")
UNREADABLE = Counter("tallycast_unreadable", "Bodies, or parts of them, kept raw", ["provider"])
CLICKS = Counter("tallycast_clicks", "Hits of tracked links", ["counted"])
SENDS = Counter("tallycast_sends", "Messages handed to a provider", ["provider", "outcome"])
NOTICES = Counter("tallycast_notices", "Attempts to deliver to webhook endpoints", ["outcome"])
SPOOLED = Counter("tallycast_spooled", "Arrivals written to the spool")
DATABASE_AWAY = Gauge(
    "tallycast_database_away",
    "Server processes that spool because the database is away",
    multiprocess_mode="livesum",
)
_FLUSH_SECONDS = 0.05
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_ACCESS = logging.getLogger("tallycast.access")
_ROOT = logging.getLogger()
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class RequestMeter:
    """Requests counted in plain numbers, and handed to the metrics library many at a time: with metrics that
    processes share, each of its increments is a write to a mapped file.
    """

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, int], list[float]] = {}

    def note(self, method: str, route: str, status: int, seconds: float) -> None:
        method = method if method in _METHODS else "other"  # anybody can make up methods without end
        if not self._tallies:
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)
        key = (method, route, status)
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = [0.0] * (len(_SECONDS) + 3)
        tally[0] += seconds
        tally[1] += 1
        tally[bisect_left(_SECONDS, seconds) + 2] += 1

    def flush(self) -> None:
        tallies, self._tallies = self._tallies, {}
        for (method, route, status), (total, count, *buckets) in tallies.items():
            REQUESTS.labels(method, route, str(status)).inc(count)
            # The library has no public way to add many observations at once.
            histogram = REQUEST_SECONDS.labels(route)
            histogram._sum.inc(total)  # noqa: SLF001
            for bucket, amount in zip(histogram._buckets, buckets, strict=True):  # noqa: SLF001
                if amount:
                    bucket.inc(amount)


REQUEST_METER = RequestMeter()


def render_metrics() -> bytes:
    """All processes' metrics in Prometheus' text format; the others' are of the last tenth of a second."""
    REQUEST_METER.flush()
    registry = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget_dead_processes() -> None:
    """Drop the live gauges of server processes that were killed: nobody else can set them back."""
    for file in Path(os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")).glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not Path(f"/proc/{pid}").exists():
            mark_process_dead(pid)  # type: ignore[no-untyped-call]


def set_up_logging(log_format: str, level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else ConsoleFormatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)


def _extras(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class AccessLog:
    """The line of each request. Written past the logging machinery, which would cost more than the request, and many
    at a time: a write for each would too.
    """

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._second = 0
        self._clock = ""

    def is_on(self) -> bool:
        return _ACCESS.isEnabledFor(logging.INFO)

    def write(self, text: str, cid: str, seconds: float) -> None:
        if not self._lines:
            asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self.flush)
        self._lines.append(self._format(text, cid, round(seconds * 1000, 2), time.time()))

    def flush(self) -> None:
        lines, self._lines = self._lines, []
        sys.stderr.buffer.write(b"".join(lines))
        sys.stderr.buffer.flush()

    def _format(self, text: str, cid: str, ms: float, now: float) -> bytes:
        if _ROOT.handlers and isinstance(_ROOT.handlers[0].formatter, JsonFormatter):
            at = datetime.fromtimestamp(now, UTC)
            line = {
                "at": at,
                "level": "info",
                "logger": "tallycast.access",
                "event": text,
                "cid": cid,
                "ms": ms,
            }
            return msgspec.json.encode(line) + b"\n"
        return f"{self._tell(now)}.{int(now * 1000) % 1000:03d} info    {text} cid={cid} ms={ms}\n".encode()

    def _tell(self, now: float) -> str:
        if int(now) != self._second:
            self._second, self._clock = int(now), time.strftime("%H:%M:%S", time.localtime(now))
        return self._clock


ACCESS_LOG = AccessLog()


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_extras(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


class ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        extras = "".join(f" {key}={value}" for key, value in _extras(record).items())
        text = f"{clock}.{int(record.msecs):03d} {record.levelname.lower():7} {record.getMessage()}{extras}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text
