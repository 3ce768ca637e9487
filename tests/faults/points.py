"""Named points at which tallycast's processes kill themselves, and a clock that steps.

Nothing in tallycast knows of them: each of its processes wraps the named functions as their modules are loaded. A
point is armed by a file with a number, and the process that passes it that many times takes the file and is gone, as
by `kill -9`. The clock is set by a file with seconds.
"""

import ctypes
import functools
import gc
import importlib
import inspect
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, tzinfo
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, NamedTuple

FOLDER = "FAULTS_FOLDER"
WORKER_URL = "FAULTS_WORKER_URL"
_CLOCK_SECONDS = 0.1


class Point(NamedTuple):
    """A function of tallycast, and whether the process dies before it, after it, or before each item that it gives."""

    module: str
    name: str
    when: Literal["before", "after", "each"]


POINTS = {
    # The server, from a provider's request to its answer.
    "receipt arrived": Point("tallycast.receipts", "_apply_fold", "before"),
    "receipt folded": Point("tallycast.receipts", "apply_facts", "after"),
    "receipt stored, not answered": Point("tallycast.intake", "Batch.settle", "before"),
    "parked receipt taken": Point("tallycast.receipts", "_match_channel", "after"),
    "spool written, not synced": Point("tallycast.spool", "os.fsync", "before"),
    "spool half drained": Point("tallycast.intake", "read", "each"),
    # The server, from a caller's request to its answer.
    "recording not committed": Point("tallycast.messages", "record", "after"),
    "stage not committed": Point("tallycast.stages", "move", "after"),
    "request done, not answered": Point("tallycast.web.answers", "succeed_raw", "before"),
    # The worker, from the claim of a message to the record of its answer.
    "messages claimed, not sent": Point("tallycast.handovers", "claim_next", "after"),
    "provider answered, not noted": Point("tallycast.sender", "Sender._note", "before"),
    "provider answered, not recorded": Point("tallycast.handovers", "record", "before"),
    "answer recorded, not committed": Point("tallycast.handovers", "_settle_rows", "after"),
    "answer committed": Point("tallycast.handovers", "record", "after"),
    "taking over, not committed": Point("tallycast.handovers", "_count_as_pending", "before"),
    "import not committed": Point("tallycast.audience", "_Run._write", "after"),
    "import committed": Point("tallycast.audience", "_Run._store", "after"),
    # What runs apart from the storm.
    "retention not committed": Point("tallycast.retention", "anonymise", "after"),
    "retention between batches": Point("tallycast.retention", "_hold", "before"),
    "retention freezing": Point("tallycast.insights", "freeze", "after"),
    "replay between batches": Point("tallycast.replay", "_add", "before"),
}
_passed: Counter[str] = Counter()


def arm(folder: Path, name: str, times: int) -> Path:
    """Let the process die that passes a point so many times; its file is gone when that has happened."""
    assert name in POINTS
    path = folder / name
    draft = path.with_name(f"{name}.new")
    draft.write_text(str(times))
    draft.rename(path)
    return path


def install() -> None:
    """In a process of tallycast, before anything of it is loaded."""
    if os.environ.get(WORKER_URL) and sys.orig_argv[-1] == "worker":
        os.environ["TALLYCAST_DATABASE_URL"] = os.environ[WORKER_URL]
    if FOLDER in os.environ:
        folder = Path(os.environ[FOLDER])
        _Clock(folder / "clock").install()
        sys.meta_path.insert(0, _Finder(folder))


class _Finder(MetaPathFinder):
    """Loads modules as ever, then wraps what is named in them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names = {point.module for point in POINTS.values()}

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in self._names else None
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_wrap(module: ModuleType) -> None:
            load(module)
            for name, point in POINTS.items():
                if point.module == fullname:
                    _wrap(module, point, functools.partial(_pass, self._folder / name))

        spec.loader.exec_module = load_and_wrap  # type: ignore[method-assign]
        return spec


def _wrap(module: ModuleType, point: Point, reach: Callable[[], None]) -> None:
    *owners, name = point.name.split(".")
    owner: Any = functools.reduce(getattr, owners, module)
    function = getattr(owner, name)
    wrapper: Callable[..., Any] = _wrap_plain
    if point.when == "each":
        wrapper = _wrap_each
    elif inspect.iscoroutinefunction(function):
        wrapper = _wrap_async
    setattr(owner, name, wrapper(function, reach, is_before=point.when == "before"))


def _wrap_plain(function: Callable[..., Any], reach: Callable[[], None], *, is_before: bool) -> Any:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if is_before:
            reach()
        result = function(*args, **kwargs)
        if not is_before:
            reach()
        return result

    return wrapped


def _wrap_async(function: Callable[..., Any], reach: Callable[[], None], *, is_before: bool) -> Any:
    @functools.wraps(function)
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        if is_before:
            reach()
        result = await function(*args, **kwargs)
        if not is_before:
            reach()
        return result

    return wrapped


def _wrap_each(function: Callable[..., Any], reach: Callable[[], None], *, is_before: bool) -> Any:
    """The point is between two items, and after the last one."""
    assert not is_before

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Iterator[Any]:
        for item in function(*args, **kwargs):
            yield item
            reach()

    return wrapped


def _pass(armed: Path) -> None:
    try:
        times = int(armed.read_text())
    except FileNotFoundError:
        _passed.pop(armed.name, None)
        return
    _passed[armed.name] += 1
    if _passed[armed.name] >= times:
        try:
            armed.unlink()  # only one process of all takes it
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)


class _Clock:
    """What Python takes for the time of day, stepped by a file's seconds; monotonic clocks go on as they do.

    libfaketime cannot: below it `time.sleep` fails (EINVAL of clock_nanosleep), and `serve` never gets ready.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seconds = 0
        self._read_at = -1.0

    def step(self) -> int:
        now = time.monotonic()
        if now - self._read_at > _CLOCK_SECONDS:
            self._read_at = now
            self._seconds = int(self._path.read_text()) if self._path.exists() else 0
        return self._seconds

    def install(self) -> None:
        real_time, real_ns, real_now = time.time, time.time_ns, datetime.now

        def now(_kind: type[datetime], tz: tzinfo | None = None) -> datetime:
            return real_now(tz) + timedelta(seconds=self.step())

        time.time = lambda: real_time() + self.step()
        time.time_ns = lambda: real_ns() + self.step() * 1_000_000_000
        # A built-in class takes no attributes, but its dictionary does.
        (members,) = gc.get_referents(datetime.__dict__)
        members["now"] = classmethod(now)
        ctypes.pythonapi.PyType_Modified(ctypes.py_object(datetime))


def loaded(name: str) -> Callable[..., Any]:
    """The function behind a point, as it stands in tallycast: a renamed one must not silence its point."""
    point = POINTS[name]
    module: Any = importlib.import_module(point.module)
    found: Callable[..., Any] = functools.reduce(getattr, point.name.split("."), module)
    return found
