"""Closed-loop load by wrk: every connection sends its next request when it has the answer to the last one."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from paced import Job, Told

HERE = Path(__file__).parent
_SCRIPTS = HERE / "wrk"


@dataclass(frozen=True)
class Round:
    """What one round of load saw; latencies in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p90: float
    p99: float
    worst: float
    errors: int

    @property
    def rate(self) -> float:
        return self.requests / self.seconds


def ensure_wrk() -> None:
    """Wrk from Debian where it is missing and may be installed."""
    if not has_wrk() and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(
            ["apt-get", "install", "--yes", "--quiet", "wrk"], check=False, stdout=subprocess.DEVNULL
        )


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


def read(port: int, path: str, token: str, connections: int, seconds: float) -> Round:
    """GET one path again and again."""
    return _run(Job(port, 0, seconds, connections, "GET", path, f"Bearer {token}"))


def post(job: Job) -> Round:
    """POST receipts, each for another message."""
    return _run(job)


def _run(job: Job) -> Round:
    measured = _wrk(job) if has_wrk() else _closed_loop(job)
    if measured.errors or not measured.requests:
        raise RuntimeError(f"{job.path}: {measured.errors} errors in {measured.requests} requests")
    return measured


def _wrk(job: Job) -> Round:
    script = _SCRIPTS / ("webhook.lua" if job.ids else "read.lua")
    command = [
        "wrk",
        "--threads",
        "1",
        "--connections",
        str(job.connections),
        "--timeout",
        "60s",
        "--latency",
    ]
    command += ["--duration", f"{max(1, round(job.seconds))}s", "--script", str(script)]
    command += ["--header", f"Authorization: {job.authorization}", f"http://127.0.0.1:{job.port}{job.path}"]
    told = {"READ_LUA": str(_SCRIPTS / "read.lua"), "IDS": job.ids, "FIRST": str(job.first)}
    environ = {**os.environ, **told, "TARGET": job.path, "BODY": job.body, "AUTHORIZATION": job.authorization}
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environ, timeout=job.seconds + 90
    )
    found: dict[str, Any] = json.loads(done.stdout.strip().rpartition("\n")[2])
    return Round(**found)


def _closed_loop(job: Job) -> Round:
    told = finish(start(job))
    return Round(told.answered, told.seconds, told.p50, told.p90, told.p99, told.worst, told.errors)


def start(job: Job) -> "subprocess.Popen[bytes]":
    """A process that makes the job's load, told on its standard input."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "paced.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(job))
    process.stdin.close()
    return process


def finish(process: "subprocess.Popen[bytes]") -> Told:
    """Wait for its end; what it saw."""
    with process:
        assert process.stdout is not None
        said = process.stdout.read()
    if process.returncode:
        raise RuntimeError("the paced load failed")
    return msgspec.json.decode(said, type=Told)


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
