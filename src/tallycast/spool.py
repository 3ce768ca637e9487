"""The spool: what was acknowledged while the database was away, on local disk, with fsync.

A file has one line per arrival or click, each closed by its own newline. A line without one was torn by a crash
before it was acknowledged. The writer holds a lock on its file; whoever gets the lock of a file may drain it.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from tallycast.apps import random_text
from tallycast.links import Click
from tallycast.receipts import Arrival

Item = Arrival | Click
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Item)


class Spool:
    """One process's door to the spool folder. Blocking: call it off the event loop."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = data_dir / "spool"
        self._descriptor: int | None = None

    def write(self, items: Sequence[Item]) -> None:
        """Make items durable, or raise OSError and keep none of them."""
        data = b"".join(_encoder.encode(item) + b"\n" for item in items)
        if self._descriptor is None:
            self._open()
        assert self._descriptor is not None
        start = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
            os.fsync(self._descriptor)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, start)
            self.close()  # what could not be cut off must not be glued to the next line
            raise

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Locked before it gets the name that drains look for: none may take the file away before it is written.
        path = self._folder / f"{os.getpid()}-{random_text(8)}.ndjson"
        draft = path.with_suffix(".new")
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        draft.rename(path)
        folder = os.open(self._folder, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._descriptor = descriptor

    def close(self) -> None:
        """Let go of the file that is being written, so that it can be drained."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def is_empty(self) -> bool:
        try:
            return not any(path.suffix == ".ndjson" for path in self._folder.iterdir())
        except FileNotFoundError:
            return True

    def files(self) -> Iterator[Path]:
        """Files that nobody writes or drains; each is locked while the caller has it."""
        if not self._folder.exists():
            return
        for path in sorted(self._folder.glob("*.ndjson")):
            with _lock(path) as is_locked:
                if is_locked:
                    yield path


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[bool]:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        yield False
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield path.exists()  # it may have been drained and removed before the lock was ours
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def read(path: Path, size: int, odd: list[bytes]) -> Iterator[list[Item]]:
    """The items of a spool file in batches; what a crash tore off at the end was never acknowledged.

    Lines that cannot be read are added to `odd`: a damaged one must not hold up the others.
    """
    batch: list[Item] = []
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                try:
                    batch.append(_decoder.decode(line))
                except (msgspec.MsgspecError, UnicodeDecodeError):
                    odd.append(line)
            if len(batch) >= size:
                yield batch
                batch = []
    if batch:
        yield batch
