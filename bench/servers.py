"""The servers under test: started as processes of their own, and stopped by their pid whatever happens."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
TALLYCAST = [sys.executable, "-m", "tallycast"]
# As on a machine of a user: modules that were compiled once stay so.
ENVIRON = {
    name: value
    for name, value in os.environ.items()
    if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith("TALLYCAST_")
}


@dataclass(frozen=True)
class Server:
    name: str
    port: int
    pid: int
    ready: float  # seconds from the start of its process to its first answer

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def tallycast(data_dir: Path, *options: str, port: int = 0) -> Iterator[Server]:
    """`tallycast serve` on a data directory, with its defaults but for `options`."""
    command = [*TALLYCAST, "serve", "--data-dir", str(data_dir), *options]
    with _running("tallycast", command, "/health/ready", 200, port) as server:
        yield server


@contextmanager
def simulator() -> Iterator[Server]:
    """`tallycast simulate`, where everything arrives."""
    command = [*TALLYCAST, "simulate", "--profile", "calm", "--smpp-port", "0"]
    with _running("simulator", command, "/simulator/pending", 200) as server:
        yield server


@contextmanager
def peer(
    name: str, url: str = "", app_id: str = "", token: str = "", batch: int = 1, port: int = 0
) -> Iterator[Server]:
    command = [
        sys.executable,
        str(HERE / "peers" / f"{name}.py"),
        "--url",
        url,
        "--app",
        app_id,
        "--token",
        token,
        "--batch",
        str(batch),
    ]
    with _running(name, command, "/", 404 if name != "bare" else 200, port) as server:
        yield server


@contextmanager
def _running(name: str, command: list[str], path: str, status: int, port: int = 0) -> Iterator[Server]:
    port = port or free_port()
    folder = Path(tempfile.mkdtemp(prefix="tallycast-bench-"))
    log = folder / "log"
    environ = {**ENVIRON, "TMPDIR": str(folder)} if name != "tallycast" else ENVIRON
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen([*command, "--port", str(port)], stdout=output, stderr=output, env=environ)
    try:
        ready = _await_answer(process, log, f"http://127.0.0.1:{port}{path}", status) - began
        yield Server(name, port, process.pid, ready)
        if process.poll() not in {None, -signal.SIGKILL}:  # the latter only as we do it
            raise RuntimeError(
                f"{name} ended by itself with {process.returncode}:\n{log.read_text()[-2000:]}"
            )
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _await_answer(process: "subprocess.Popen[bytes]", log: Path, url: str, status: int) -> float:
    """Wait for an answer of that status; when it came (monotonic seconds)."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                found = int(answer.status)
        except urllib.error.HTTPError as error:
            found = error.code
        except OSError:
            found = 0
        if found == status:
            return time.monotonic()
        time.sleep(0.005)
    raise RuntimeError(f"no {status} from {url}:\n{log.read_text()[-2000:]}")


def descendants(pid: int) -> list[int]:
    """A process and all that it started."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        one = queue.pop()
        found.append(one)
        queue += parents.get(one, [])
    return found


def kill(server: Server) -> None:
    """All its processes at once, but not PostgreSQL's."""
    for pid in descendants(server.pid):
        with suppress(OSError):
            if Path("/proc", str(pid), "exe").readlink().name != "postgres":
                os.kill(pid, signal.SIGKILL)
