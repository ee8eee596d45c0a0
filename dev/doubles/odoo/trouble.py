"""What a test has told the stand-in to break."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Mapping
from typing import Any

KINDS = {
    *("database", "key", "session", "conflict", "slow", "reset"),
    *("half", "status", "access", "error", "action", "records"),
}


class Conflict(Exception):
    """PostgreSQL's serialization failure."""

    message = "could not serialize access due to concurrent update\n"


@dataclasses.dataclass
class Trouble:
    """One thing that is broken.

    Args:
        kind: "database": PostgreSQL behind Odoo is down. "key": no key and no password is taken. "session": a worker
            says that the session has expired. "conflict": writing meets a concurrent update. "slow": `before` seconds
            before the work, `after` seconds between its commit and the answer; the work is done whether or not
            the client waits. "reset": no answer, the connection is reset. "half": half an answer. "status": `status`,
            `headers` and `body` instead of Odoo's answer, as a proxy does. "access": the model is closed to this user.
            "error": the method raises `name` with `message`. "action": it answers with a window for a person.
            "records": JSON-RPC: the method of the model is one of its records (18: product.template.default_get).
        times: so many requests (None: until it is mended).
        model, method: only calls of this model, of this method (None: all).
        text, size, rows: only requests that hold this text, that are larger (bytes), that have more rows.
        commit: whether a "reset", "half" or "status" comes after the work was done.
    """

    kind: str
    times: int | None = None
    model: str | None = None
    method: str | None = None
    text: str = ""
    size: int = -1
    rows: int = -1
    before: float = 0.0
    after: float = 0.0
    status: int = 503
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    body: str = "<html><body>Service Unavailable</body></html>"
    commit: bool = False
    name: str = "odoo.exceptions.UserError"
    message: str = "It was told to fail."

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind}: not one of {', '.join(KINDS)}")

    def hits(self, model: str | None, method: str | None, body: bytes, rows: int) -> bool:
        named = self.model in {None, model} and self.method in {None, method}
        return named and self.text.encode() in body and len(body) > self.size and rows > self.rows


class Troubles:
    """All of them; taking one counts it."""

    def __init__(self) -> None:
        self._list: list[Trouble] = []
        self._lock = threading.Lock()

    def add(self, **what: Any) -> None:
        with self._lock:
            self._list.append(Trouble(**what))

    def mend(self, kind: str | None = None) -> None:
        with self._lock:
            self._list = [one for one in self._list if kind not in {None, one.kind}]

    def take(
        self, kind: str, model: str | None = None, method: str | None = None, body: bytes = b"", rows: int = 0
    ) -> Trouble | None:
        with self._lock:
            for one in self._list:
                if one.kind == kind and one.hits(model, method, body, rows):
                    if one.times is not None:
                        one.times -= 1
                        if one.times <= 0:
                            self._list.remove(one)
                    return one
        return None
