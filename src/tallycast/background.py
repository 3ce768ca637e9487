"""The worker processes of `serve`: started, started again when they end, and stopped with it."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import fields

from tallycast.config import ENV_PREFIX, Settings

log = logging.getLogger("tallycast.background")
_PARENT = f"{ENV_PREFIX}WORKER_PARENT"
_LOOK_SECONDS = 0.2
_RESTART_SECONDS = 1.0
# A worker waits for the last answers of providers, which have half a minute.
_STOP_SECONDS = 45


class Background:
    """`count` processes of `tallycast worker`, looked after by one thread that lives as long as they do."""

    def __init__(self, settings: Settings, url: str, count: int) -> None:
        self.thread = threading.Thread(target=self._look_after, args=[count], name="background")
        self._environ = _write_environ(settings, url)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._is_stopping = threading.Event()

    def _look_after(self, count: int) -> None:
        while not self._is_stopping.is_set():
            ended = [process for process in self._processes if process.poll() is not None]
            for process in ended:
                log.error("a worker ended with status %s, another one starts", process.returncode)
                self._processes.remove(process)
            if ended:
                time.sleep(_RESTART_SECONDS)
            while len(self._processes) < count and not self._is_stopping.is_set():
                self._processes.append(self._start())
            self._is_stopping.wait(_LOOK_SECONDS)
        for process in self._processes:
            process.send_signal(signal.SIGTERM)
        for process in self._processes:
            _end(process)

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-m", "tallycast", "worker"], env=self._environ)

    def stop(self) -> None:
        """Let the workers finish what is on its way, and wait for it."""
        self._is_stopping.set()
        if self.thread.is_alive():
            self.thread.join()


def _end(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        log.error("worker %d does not stop, it is killed", process.pid)  # noqa: TRY400 - a trace helps nobody
        process.kill()
        process.wait()


def _write_environ(settings: Settings, url: str) -> dict[str, str]:
    """The settings as the worker reads them: by environment, which other users cannot see as they see arguments."""
    environ = {name: text for name, text in os.environ.items() if not name.startswith(ENV_PREFIX)}
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if value is not None:
            text = ",".join(value) if isinstance(value, tuple) else str(value)
            environ[ENV_PREFIX + setting.name.upper()] = text
    environ[f"{ENV_PREFIX}DATABASE_URL"] = url
    environ[f"{ENV_PREFIX}DATA_DIR"] = str(settings.data_dir.absolute())
    environ[_PARENT] = str(os.getpid())
    return environ


def end_with_parent() -> None:
    """In a worker that `serve` started: be asked to stop when `serve` is killed (prctl(2), PR_SET_PDEATHSIG)."""
    parent = os.environ.get(_PARENT, "")
    if not parent:
        return
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if parent != str(os.getppid()):  # it was killed before
        sys.exit(0)
