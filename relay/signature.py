"""Signatures with a shared secret: of events (SIGN_EVENTS) and of commands (CONTROL_SECRET). Pure: no sockets.

Who may write to the exchange, or to the default exchange, can otherwise say anything in a listener's or an operator's
name. HMAC-SHA256 as hexadecimal digits. What is signed, in UTF-8 (docs/delivery.md):

- an event: routing key, message_id, type, table, key and seq, each followed by a NUL, then the body;
- a command: queue, correlation_id and the second of its expiry, each followed by a NUL, then the body; with a key that
  is made of the secret for one vhost;
- an answer to one: queue, correlation_id and the word answer, each followed by a NUL, then the body; with that key.

No field may hold a NUL (PostgreSQL's text never does), so no two messages give the same bytes.
"""

import hashlib
import hmac
import time

HEADER, EXPIRES = "relay-signature", "relay-expires"
COMMAND_SECONDS = 60  # that a signed command is good for; the clocks of both hosts may differ by as much


Fields = tuple[str, str, str, str, str, str]
"""Of an event: routing key, message_id, type, table, key and seq."""


class Signer:
    """Signs events.

    HMAC by RFC 2104, with both halves of the key hashed beforehand: hmac.digest takes twice as long, since OpenSSL
    looks its algorithm up each time. In all an event costs the listener 3 us more, of 4 to pack it (docs/delivery.md).
    """

    def __init__(self, secret: bytes) -> None:
        key = (secret if len(secret) <= 64 else hashlib.sha256(secret).digest()).ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in key))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in key))

    def sign(self, fields: Fields, body: bytes) -> str:
        """Return the signature, 64 digits."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(b"%b\0%b" % ("\0".join(fields).encode(), body))
        outer.update(inner.digest())
        return outer.hexdigest()

    def is_signed(self, fields: Fields, body: bytes, given: str) -> bool:
        """Is `given` the signature of these?"""
        right = self.sign(fields, body)
        return not any("\0" in field for field in fields) and hmac.compare_digest(right.encode(), given.encode())


def command_key(secret: bytes, vhost: str) -> bytes:
    """Return what commands in a vhost are signed with: else one would be good wherever the secret is the same."""
    return hmac.digest(secret, vhost.encode(), "sha256") if secret else b""


def sign_command(key: bytes, queue: str, nonce: str, expires: int, body: bytes) -> str:
    """Sign a command to the daemon behind `queue`. `nonce`: its correlation_id; `expires`: seconds since the epoch."""
    head = f"{queue}\0{nonce}\0{expires}\0"
    return hmac.digest(key, head.encode() + body, "sha256").hex()


def sign_answer(key: bytes, queue: str, nonce: str, body: bytes) -> str:
    """Sign an answer of the daemon behind `queue` to the command with this correlation_id."""
    return hmac.digest(key, f"{queue}\0{nonce}\0answer\0".encode() + body, "sha256").hex()


def is_answer(key: bytes, queue: str, nonce: str, body: bytes, given: object) -> bool:
    """Is `given` the signature of such an answer?"""
    right = sign_answer(key, queue, nonce, body)
    return isinstance(given, str) and hmac.compare_digest(right.encode(), given.encode())


class Guard:
    """Says of commands whether they are signed, in time, and new: signed since this was made, and not seen since."""

    def __init__(self, key: bytes, queue: str) -> None:
        self._key = key
        self._queue = queue
        self._since = int(time.time())
        # Signatures by the second in which they expire, until then: each is good for one command.
        self._seen: dict[int, set[bytes]] = {}

    def objection(self, nonce: object, expires: object, body: bytes, given: object) -> str:
        """Return why a command is not believed; empty = it is."""
        now = time.time()
        if not isinstance(given, str) or not isinstance(expires, int) or not isinstance(nonce, str):
            return "it is not signed"
        right = sign_command(self._key, self._queue, nonce, expires, body)
        if not hmac.compare_digest(right.encode(), given.encode()):
            return "its signature is wrong"
        if not now - COMMAND_SECONDS < expires < now + 2 * COMMAND_SECONDS:
            return "its signature has expired; do the clocks of both hosts agree?"
        if expires < self._since + COMMAND_SECONDS:
            return "it was signed before this daemon began; send it again, and do the clocks of both hosts agree?"
        if expires not in self._seen:
            self._seen = {at: some for at, some in self._seen.items() if at > now - COMMAND_SECONDS} | {expires: set()}
        seen, digest = self._seen[expires], bytes.fromhex(right)
        if digest in seen:
            return "its signature was used before"
        seen.add(digest)
        return ""
