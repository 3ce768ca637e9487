"""Proofs of origin that more than one provider uses, all compared in constant time."""

import base64
import binascii
import hmac


def carries_secret(authorization: str, secret: str) -> bool:
    """Whether an Authorization header is `Bearer <secret>`, or `Basic` with the secret as password."""
    scheme, _, proof = authorization.partition(" ")
    match scheme.lower():
        case "bearer":
            return equal(octets(proof.strip()), secret.encode())
        case "basic":
            return equal(_password(proof), secret.encode())
    return False


def is_hmac_sha256(signature: str, key: str, body: bytes) -> bool:
    """Whether a hexadecimal signature, in either case, is the body's under the key."""
    expected = hmac.digest(key.encode(), body, "sha256").hex().encode()
    return bool(key) and hmac.compare_digest(octets(signature.lower()), expected)


def equal(given: bytes, secret: bytes) -> bool:
    """Whether both are the same; an empty secret equals nothing, it would let everybody in."""
    return bool(secret) and hmac.compare_digest(given, secret)


def octets(header: str) -> bytes:
    """The bytes of a header as they were on the wire: HTTP servers decode them as Latin-1."""
    try:
        return header.encode("latin-1")
    except UnicodeEncodeError:
        return header.encode("utf-8", "surrogatepass")


def _password(proof: str) -> bytes:
    try:
        return base64.b64decode(octets(proof.strip())).partition(b":")[2]
    except binascii.Error:
        return b""
