"""The key that encrypts channel secrets at rest (AES-256-GCM, NIST SP 800-38D)."""

import base64
import binascii
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = b"\x01"


class BadKey(ValueError):
    """The encryption key cannot be used; the message says what to do."""


class Cipher:
    """Seals bytes for one place (`context`): a sealed secret that is moved to another row does not open."""

    def __init__(self, key: bytes) -> None:
        self._aead = AESGCM(key)

    def seal(self, plain: bytes, context: str) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + nonce + self._aead.encrypt(nonce, plain, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        nonce, body = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
        try:
            return self._aead.decrypt(nonce, body, context.encode())
        except InvalidTag:
            raise BadKey(
                "a channel's secrets were encrypted with another key: set TALLYCAST_ENCRYPTION_KEY, "
                "or put back the secret.key file of the data directory"
            ) from None


def load_cipher(encryption_key: str | None, data_dir: Path) -> Cipher:
    """The cipher of the given base64 key, else of `secret.key` in the data directory, made there when missing."""
    if encryption_key:
        return Cipher(_decode(encryption_key, "TALLYCAST_ENCRYPTION_KEY"))
    path = data_dir / "secret.key"
    if not path.exists():
        _write_new_key(path)
    return Cipher(_decode(path.read_text(), str(path)))


def _write_new_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(base64.b64encode(os.urandom(_KEY_BYTES)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(draft, path)  # unlike a rename it never replaces a key that another process made meanwhile
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def _decode(text: str, source: str) -> bytes:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        key = b""
    if len(key) != _KEY_BYTES:
        raise BadKey(
            f"{source} must be {_KEY_BYTES} random bytes in base64 (make one: openssl rand -base64 32)"
        )
    return key
