"""python -m dev.doubles.odoo.server VERSION [options]: serve until stdin ends.

The first line that it prints tells port, keys and databases; then each line of stdin is a command in JSON, answered by
a line: how `handle.py` breaks and mends it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any

from dev.doubles.endpoint import Server, reset
from dev.doubles.odoo.answers import Odoo
from dev.doubles.odoo.model import Field
from dev.doubles.odoo.trouble import Trouble
from dev.doubles.odoo.wire import Answer, Request, read


class Standin:
    """The server's sockets and clock around the Odoo that answers.

    Args:
        call, row: seconds that a call and each of its rows take.
        workers: so many calls at once, the others wait (0: no limit).
        close: HTTP/1.0 and "Connection: close" after each answer, as Odoo's prefork workers without a proxy.
    """

    def __init__(
        self, odoo: Odoo, *, call: float = 0.0, row: float = 0.0, workers: int = 0, close: bool = False
    ) -> None:
        self.odoo = odoo
        self.call, self.row = call, row
        self.close = close
        self.seen: list[dict[str, Any]] = []
        self.port = 0
        self._workers = threading.Semaphore(workers) if workers else contextlib.nullcontext()
        self._server: Server | None = None

    def start(self) -> None:
        standin = self

        class Handler(_Handler):
            owner = standin
            protocol_version = "HTTP/1.0" if standin.close else "HTTP/1.1"

        self._server = Server.begin(self.port, Handler)
        self.port = self._server.server_address[1]

    def stop(self) -> None:
        """Refuse connections; open ones are reset."""
        if self._server:
            self._server.end()
            self._server = None

    def work(self, request: Request) -> tuple[Answer | None, Trouble | None]:
        """The answer (None: the connection is reset) and what is wrong with it."""
        read(request)
        if request.admin_view:
            return self.odoo.answer(request), None
        began = time.time()
        note: dict[str, Any] = {
            "path": request.path,
            "model": request.model,
            "method": request.name,
            "rows": request.rows,
            "firsts": request.firsts,
            "status": 0,
            "started": began,
            "host": request.headers.get("Host"),
            "database": request.headers.get("X-Odoo-Database"),
        }
        self.seen.append(note)
        wrong = next(filter(None, (self._take(kind, request) for kind in ("slow", "reset", "half", "status"))), None)
        if wrong and wrong.kind != "slow" and not wrong.commit:
            answer = self._instead(wrong, None)
        else:
            answer = self._done(request, wrong)
        note["status"] = answer.status if answer else 0
        note["took"] = time.time() - began
        return answer, wrong

    def _take(self, kind: str, request: Request) -> Trouble | None:
        return self.odoo.troubles.take(kind, request.model, request.name, request.body, request.rows)

    def _done(self, request: Request, wrong: Trouble | None) -> Answer | None:
        with self._workers:
            if wrong:
                time.sleep(wrong.before)
            if request.model:
                time.sleep(self.call + self.row * request.rows)
            answer = self.odoo.answer(request)
            if wrong:
                time.sleep(wrong.after)
        return self._instead(wrong, answer) if wrong else answer

    def _instead(self, wrong: Trouble, answer: Answer | None) -> Answer | None:
        if wrong.kind == "reset":
            return None
        if wrong.kind == "status":
            return Answer(wrong.status, wrong.body, "text/html; charset=utf-8", wrong.headers)
        return answer or Answer(200, "{}")


class _Handler(BaseHTTPRequestHandler):
    owner: Standin

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:  # the client was killed in the middle of its request
            self.close_connection = True
            return
        answer, wrong = self.owner.work(Request(self.command, self.path, self.headers, body))
        if answer is None:
            self.close_connection = True
            reset(self.connection)
            return
        self._send(answer, half=wrong is not None and wrong.kind == "half")

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve

    def _send(self, answer: Answer, *, half: bool) -> None:
        body = answer.body.encode()
        self.close_connection = self.close_connection or self.owner.close or half
        head = [
            f"{self.protocol_version} {answer.status} X",
            f"Content-Type: {answer.type}",
            f"Content-Length: {len(body)}",
        ]
        head += [f"{name}: {value}" for name, value in answer.headers.items()]
        head += ["Connection: close"] if self.close_connection else []
        whole = "\r\n".join([*head, "", ""]).encode() + body
        self.wfile.write(whole[: -max(1, len(body) // 2)] if half else whole)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


class Console:
    """The commands of the test."""

    def __init__(self, standin: Standin, fresh: Callable[[], Odoo]) -> None:
        self._standin = standin
        self._fresh = fresh
        self._given = standin.call, standin.row

    @property
    def _odoo(self) -> Odoo:
        return self._standin.odoo

    def describe(self) -> dict[str, Any]:
        """What a client needs."""
        keys = {user.login: user.key for user in next(iter(self._odoo.users.values()))}
        return {
            "port": self._standin.port,
            "version": self._odoo.series,
            "keys": keys,
            "databases": [*self._odoo.databases],
        }

    def obey(self, command: str, **options: Any) -> Any:
        """One command; its answer goes back as JSON."""
        return getattr(self, f"_{command}")(**options)

    def _requests(self) -> list[dict[str, Any]]:
        return self._standin.seen

    def _reset(self) -> dict[str, Any]:
        """As after the start, on the same port."""
        self._standin.stop()
        self._standin.odoo = self._fresh()
        self._standin.call, self._standin.row = self._given
        self._standin.seen = []
        self._standin.start()
        return self.describe()

    def _forget(self) -> None:
        self._standin.seen = []

    def _break(self, **what: Any) -> None:
        self._odoo.troubles.add(**what)

    def _mend(self, kind: str | None = None) -> None:
        self._odoo.troubles.mend(kind)

    def _stop(self) -> None:
        self._standin.stop()

    def _start(self) -> None:
        self._standin.start()

    def _pace(self, call: float, row: float) -> None:
        self._standin.call, self._standin.row = call, row

    def _hook(self, database: str) -> str:
        made = str(uuid.uuid4())
        self._odoo.hooks[made] = database
        return made

    def _add_field(self, model: str, name: str, kind: str) -> None:
        """As a person adds one, or the update of a module."""
        for store in self._odoo.databases.values():
            with store.transaction():
                known = store.models[model]
                made = Field(kind, name)
                store.models[model] = dataclasses.replace(known, fields={**known.fields, name: made})
                for record in store.tables[model].values():
                    record[name] = made.empty

    def _zone(self, database: str, login: str, zone: str) -> None:
        store = self._odoo.databases[database]
        with store.transaction():
            uid = next(user.uid for user in self._odoo.users[database] if user.login == login)
            store.write("res.users", uid, {"tz": zone})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m dev.doubles.odoo.server", description=__doc__)
    parser.add_argument("version", choices=("14", "17", "19"))
    parser.add_argument("--databases", default="odoo")
    parser.add_argument("--call", type=float, default=0.0)
    parser.add_argument("--row", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--close", action="store_true")
    parser.add_argument("--key-days", type=float, default=90)
    options = parser.parse_args()
    expires = datetime.now(UTC) + timedelta(days=options.key_days)

    def fresh() -> Odoo:
        return Odoo(options.version, tuple(options.databases.split(",")), f"{expires:%Y-%m-%d %H:%M:%S}")

    standin = Standin(fresh(), call=options.call, row=options.row, workers=options.workers, close=options.close)
    standin.start()
    console = Console(standin, fresh)
    print(json.dumps(console.describe()), flush=True)
    for line in sys.stdin:
        print(json.dumps(console.obey(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
