"""Rate limits per token and for signing in, exact over all server processes of a machine: small files that they map."""

import fcntl
import hashlib
import math
import mmap
import os
import struct
import time
from pathlib import Path

RATES = "rates.bin"
SIGN_INS = "sign-ins.bin"
_SLOTS = 1 << 16
_SLOT = struct.Struct("=Qd")
_PROBES = 64


class Limiter:
    """The generic cell rate algorithm: `limit` requests at once, then one every `seconds / limit` seconds.

    A slot holds a token's digest and the time (monotonic seconds, the same for all processes) at which its
    allowance is whole again.
    """

    def __init__(self, data_dir: Path, limit: int, seconds: float = 60.0, name: str = RATES) -> None:
        self._interval = seconds / limit
        self._burst = seconds
        data_dir.mkdir(parents=True, exist_ok=True)
        self._file = os.open(data_dir / name, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._file, _SLOTS * _SLOT.size)
        self._map = mmap.mmap(self._file, _SLOTS * _SLOT.size)

    def wait(self, token_id: str) -> int:
        """0 when the request may go on, else the seconds after which it may be tried again."""
        digest = int.from_bytes(hashlib.blake2b(token_id.encode(), digest_size=8).digest(), "little") | 1
        fcntl.lockf(self._file, fcntl.LOCK_EX)
        try:
            return self._take(digest, time.monotonic())
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _take(self, digest: int, now: float) -> int:
        offset = self._find(digest, now)
        whole_at: float = max(_SLOT.unpack_from(self._map, offset)[1], now)
        if whole_at + self._interval - now > self._burst + 1e-9:
            return math.ceil(whole_at + self._interval - now - self._burst)
        _SLOT.pack_into(self._map, offset, digest, whole_at + self._interval)
        return 0

    def _find(self, digest: int, now: float) -> int:
        """The token's slot, else one whose token has its whole allowance, else (very full) the first to become free."""
        offsets = [(digest + probe) % _SLOTS * _SLOT.size for probe in range(_PROBES)]
        for offset in offsets:
            owner, _ = _SLOT.unpack_from(self._map, offset)
            if owner == digest:
                return offset
            if owner == 0:
                break
        free = min(offsets, key=lambda offset: _SLOT.unpack_from(self._map, offset)[1])
        _SLOT.pack_into(self._map, free, digest, now)
        return free


def clear(data_dir: Path) -> None:
    """Start counting anew; called once by `serve`, before its processes map the files."""
    for name in (RATES, SIGN_INS):
        (data_dir / name).unlink(missing_ok=True)
