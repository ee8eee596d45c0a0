"""examples/order_mail.py: an order is confirmed, and its customer gets a mail."""

from __future__ import annotations

import email
import email.policy
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dev.process import wait_until
from dev.script import ROOT
from dev.vhost import Vhost
from tests.handling import Make
from tests.messages import Publisher


class Mails(socketserver.ThreadingTCPServer):
    """A mail server that takes what RFC 5321 demands at least, and refuses who is called nobody."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Session)
        self.got: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Session(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self._say("220 mails")
        while line := self.rfile.readline().decode().strip():
            word = line.upper()[:4]
            if word == "RCPT" and "<nobody@" in line:
                self._say("550 no such user: " + line)
            elif word == "DATA":
                self._say("354 go on")
                text = []
                while (part := self.rfile.readline().decode()) != ".\r\n":
                    text.append(part)
                self.server.got.append("".join(text))  # type: ignore[attr-defined]
                self._say("250 taken")
            else:
                self._say("221 bye" if word == "QUIT" else "250 fine")

    def _say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@contextmanager
def mails(port: int = 0) -> Iterator[Mails]:
    with Mails(port) as server:
        yield server
        server.shutdown()


def test_an_order_is_confirmed_and_its_customer_gets_a_mail(vhost: Vhost, script: Make) -> None:
    with mails() as server:
        port = server.server_address[1]
    settings = {
        "RABBITMQ_URL": vhost.url, "QUEUE": "mail", "BINDING_KEYS": "public.orders", "TARGET": "python",
        "PYTHON_HANDLERS": "order_mail", "HANDLER_PATH": ROOT / "examples", "MAX_ATTEMPTS": 2, "RETRY_MIN": "0.1",
    }  # fmt: skip
    environment = {"SMTP_HOST": "127.0.0.1", "SMTP_PORT": str(port)}
    receiver = script("receiver.py", settings, environment=environment)
    receiver.start()
    receiver.wait_for_log("consuming")
    publisher = Publisher(vhost)

    def order(number: int, state: str, address: str | None, old: str | None = None) -> None:
        row = {"id": number, "state": state, "email": address, "total": 10}
        body = {"table": "public.orders", "new": row, "old": {**row, "state": old} if old else None}
        publisher.event(f"public.orders {number}", table="public.orders", op="update", body=body)

    order(1, "confirmed", "a@example.com", "draft")
    order(2, "draft", "b@example.com", "draft")
    order(3, "confirmed", "nobody@example.com", "draft")
    order(4, "confirmed", None, "draft")
    order(5, "confirmed", "e@example.com", "confirmed")
    order(6, "confirmed", "f@example.com")
    receiver.wait_for_log("endpoint does not work")
    time.sleep(1)
    with mails(port) as server:
        wait_until(lambda: len(server.got) >= 2, 20, "the mails")
        found = [email.message_from_string(text, policy=email.policy.default) for text in server.got]
        assert sorted(mail["To"] for mail in found) == ["a@example.com", "f@example.com"]
        for n in range(7, 60):  # others succeed meanwhile: then a refused address is the order's own failure
            order(n, "confirmed", "g@example.com")
            if receiver.log().count("event refused and parked") == 2:
                break
            time.sleep(0.2)
        receiver.wait_for_log("event refused and parked", count=2)
    assert "the order has no address" in receiver.log()
    assert "550 SMTPRecipientsRefused" in receiver.log()
    assert "nobody@" not in receiver.log()
    receiver.terminate()
    assert receiver.wait() == 0
    assert vhost.queue_depth("mail.parked") == 2
