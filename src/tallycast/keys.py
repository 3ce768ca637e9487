"""The keys that encrypt secrets at rest (AES-256-GCM, NIST SP 800-38D): the first seals, all of them open.

What is sealed names its key, by four bytes of a digest from which nothing can be computed back; what older versions
sealed names none, and is tried with all. A key file is read again when it has changed, so that keys can be rotated while
everything runs.
"""

import base64
import binascii
import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_NONCE_BYTES = 12
_ID_BYTES = 4
_NAMELESS, _NAMED = 1, 2
# Behind a key of the file: it only opens until all processes know it.
_NEXT = "next"


class BadKey(ValueError):
    """The encryption key cannot be used; the message says what to do."""


class Key(NamedTuple):
    """`is_next`: it will seal as soon as everybody can open with it."""

    secret: bytes
    is_next: bool = False

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(b"tallycast key " + self.secret).digest()[:_ID_BYTES]

    def __repr__(self) -> str:
        return f"Key({self.key_id.hex()})"


def make_key() -> Key:
    return Key(os.urandom(_KEY_BYTES))


class KeyFile:
    """`secret.key` in the data directory: a key a line in base64, the one that seals first."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "secret.key"

    def look(self) -> tuple[int, ...]:
        """What is another after each change."""
        found = self.path.stat()
        return found.st_ino, found.st_mtime_ns, found.st_size

    def read(self) -> list[Key]:
        """BadKey, OSError."""
        lines = [line for line in self.path.read_text().split("\n") if line.strip()]
        return [_read_line(line, str(self.path)) for line in lines or [""]]

    def write(self, keys: Sequence[Key], *, replaces: bool = True) -> None:
        """Durable before it is seen. Without `replaces` a file that another process made meanwhile stays."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        draft.unlink(missing_ok=True)  # of a process that was killed
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.writelines(_write_line(key) for key in keys)
            file.flush()
            os.fsync(file.fileno())
        if replaces:
            draft.rename(self.path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(draft, self.path)  # unlike a rename it never replaces a key
            draft.unlink()
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class Cipher:
    """Seals bytes for one place (`context`): a sealed secret that is moved to another row does not open."""

    def __init__(self, *secrets: bytes, file: KeyFile | None = None) -> None:
        self._file = file
        self._seen = file.look() if file else ()
        self._keys = file.read() if file else [Key(secret) for secret in secrets]

    @property
    def keys(self) -> list[Key]:
        return self._keys

    def refresh(self) -> None:
        """Read the key file again where it has changed; one that cannot be read leaves the keys as they are."""
        if self._file is not None:
            with contextlib.suppress(OSError, BadKey):
                if (seen := self._file.look()) != self._seen:
                    self._keys, self._seen = self._file.read(), seen

    def seal(self, plain: bytes, context: str) -> bytes:
        self.refresh()
        key, nonce = self._keys[0], os.urandom(_NONCE_BYTES)
        body = AESGCM(key.secret).encrypt(nonce, plain, context.encode())
        return bytes([_NAMED]) + key.key_id + nonce + body

    def open(self, sealed: bytes, context: str) -> bytes:
        """BadKey for what none of the keys has sealed, or not for this place."""
        opened = self._try(sealed, context)
        if opened is None:
            self.refresh()
            opened = self._try(sealed, context)
        if opened is None:
            raise BadKey(
                "a channel's secrets were encrypted with another key: set TALLYCAST_ENCRYPTION_KEY, "
                "or put back the secret.key file of the data directory"
            )
        return opened[1]

    def is_current(self, sealed: bytes) -> bool:
        """Whether it was sealed with the key that seals now."""
        return sealed.startswith(bytes([_NAMED]) + self._keys[0].key_id)

    def find_key(self, sealed: bytes, context: str) -> Key | None:
        """The key with which it was sealed for this place."""
        opened = self._try(sealed, context)
        return opened[0] if opened else None

    def _try(self, sealed: bytes, context: str) -> tuple[Key, bytes] | None:
        start = 1 + _ID_BYTES if sealed[:1] == bytes([_NAMED]) else 1
        nonce, body = sealed[start : start + _NONCE_BYTES], sealed[start + _NONCE_BYTES :]
        for key in self._fitting(sealed):
            with contextlib.suppress(InvalidTag, ValueError):  # ValueError: too short for a nonce
                return key, AESGCM(key.secret).decrypt(nonce, body, context.encode())
        return None

    def _fitting(self, sealed: bytes) -> Iterator[Key]:
        version = sealed[:1]
        for key in self._keys:
            is_named = version == bytes([_NAMED]) and sealed[1 : 1 + _ID_BYTES] == key.key_id
            if is_named or version == bytes([_NAMELESS]):
                yield key


def load_cipher(encryption_key: str | None, data_dir: Path) -> Cipher:
    """The cipher of the given base64 keys, else of `secret.key` in the data directory, made there when missing."""
    if encryption_key:
        return Cipher(*(_decode(one, "TALLYCAST_ENCRYPTION_KEY") for one in encryption_key.split(",")))
    file = KeyFile(data_dir)
    if not file.path.exists():
        file.write([make_key()], replaces=False)
    return Cipher(file=file)


def _write_line(key: Key) -> str:
    return base64.b64encode(key.secret).decode() + (f" {_NEXT}" if key.is_next else "") + "\n"


def _read_line(line: str, source: str) -> Key:
    text = line.strip()
    return Key(_decode(text.removesuffix(f" {_NEXT}"), source), text.endswith(f" {_NEXT}"))


def _decode(text: str, source: str) -> bytes:
    try:
        secret = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        secret = b""
    if len(secret) != _KEY_BYTES:
        raise BadKey(
            f"{source} must be {_KEY_BYTES} random bytes in base64 (make one: openssl rand -base64 32)"
        )
    return secret
