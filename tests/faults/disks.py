"""A disk that can be filled: a small tmpfs where we may mount one, elsewhere a limit on what processes may write."""

import contextlib
import os
import resource
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

_LIMIT = 1  # byte: no file of these processes grows any more


class Disk:
    """A folder's disk. The way without mounts stops the given processes, and those that they start, from writing."""

    def __init__(self, folder: Path, *, is_mounted: bool) -> None:
        self.folder = folder
        self._is_mounted = is_mounted
        self._limited: list[int] = []

    def fill(self, pids: Sequence[int]) -> None:
        """Not a byte more."""
        if not self._is_mounted:
            self._limited = [pid for pid in pids if _limit(pid, _LIMIT)]
            return
        with (self.folder / "ballast").open("ab", buffering=0) as ballast, contextlib.suppress(OSError):
            while True:
                ballast.write(b"\0" * 4096)

    def free(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)
        for pid in self._limited:
            _limit(pid, None)
        self._limited = []


def _limit(pid: int, size: int | None) -> bool:
    """Whether the process is still there."""
    try:
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Disk]:
    """A disk of its own below a folder, as long as the context lasts."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "none", str(folder)]
    is_mounted = (
        os.geteuid() == 0 and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )
    try:
        yield Disk(folder, is_mounted=is_mounted)
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
