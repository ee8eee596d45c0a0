"""connection.py against servers that hang up at once, are silent, or are no RabbitMQ."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
import threading
import time
from collections.abc import Iterator

import pika
import psycopg2.extensions
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pika.adapters.utils.connection_workflow import AMQPConnector

import connection
from relay import config
from relay.errors import RelayError, Unavailable
from relay.values import Dsn


@pytest.fixture
def hangs_up() -> Iterator[int]:
    """The port of a server that resets every connection as soon as it stands, as a broker's proxy may."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                accepted = server.accept()[0]
            except OSError:
                return
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


def test_a_connection_that_is_reset_while_it_is_made_is_an_outage_and_no_crash(
    hangs_up: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    connected = AMQPConnector._on_tcp_connection_done

    def late(*arguments: object) -> None:
        """Between its two looks at the socket pika is held up; then it raises ValueError."""
        time.sleep(0.05)
        connected(*arguments)

    monkeypatch.setattr(AMQPConnector, "_on_tcp_connection_done", late)
    url = f"amqp://user:secret@127.0.0.1:{hangs_up}/v"
    settings = config.load(config.Receive, None, {"RABBITMQ_URL": url, "QUEUE": "q", "HTTP_URL": "http://127.0.0.1/"})
    for _ in range(20):  # most of the time the reset comes before pika's first look
        with pytest.raises(Unavailable, match="not reachable"):
            asyncio.run(connection.open_rabbitmq(settings, name="test"))
        with pytest.raises(Unavailable, match="not reachable"), connection.rabbitmq_now(settings, name="test"):
            pass


START = pika.frame.Method(
    0, pika.spec.Connection.Start(server_properties={"product": "RabbitMQ", "version": "3.10.8"})
).marshal()
TUNE = pika.frame.Method(0, pika.spec.Connection.Tune(100, 131072, 60)).marshal()
OPEN_OK = pika.frame.Method(0, pika.spec.Connection.OpenOk()).marshal()
WORDS = (START, TUNE, OPEN_OK)


class Pretender:
    """Takes connections and says these bytes to each; then it hangs up, or is silent."""

    def __init__(self, said: bytes, *, hangs_up: bool) -> None:
        self.said, self._hangs_up = said, hangs_up
        self._server = socket.create_server(("127.0.0.1", 0))
        self._taken: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Pretender:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for each in self._taken:
            each.close()

    def _serve(self) -> None:
        while True:
            try:
                accepted = self._server.accept()[0]
            except OSError:
                return
            self._taken.append(accepted)
            accepted.sendall(self.said)
            if self._hangs_up:
                accepted.shutdown(socket.SHUT_WR)

    def settings(self) -> config.Receive:
        url = f"amqp://user:secret@127.0.0.1:{self._server.getsockname()[1]}/v"
        values = {"RABBITMQ_URL": url, "QUEUE": "q", "HTTP_URL": "http://127.0.0.1/"}
        return dataclasses.replace(config.load(config.Receive, None, values), connect_timeout=0.2)


def opened(settings: config.Receive) -> list[str]:
    """What is said when it can't be opened, both ways."""
    with pytest.raises(RelayError) as here:
        asyncio.run(connection.open_rabbitmq(settings, name="test"))
    with pytest.raises(RelayError) as there, connection.rabbitmq_now(settings, name="test"):
        pass
    return [str(here.value), str(there.value)]


@pytest.mark.parametrize("words", range(len(WORDS)))
def test_a_server_that_falls_silent_is_an_outage_and_no_crash(words: int) -> None:
    """A broker that is overloaded, or stopped, or behind a network that lets nothing more through."""
    with Pretender(b"".join(WORDS[:words]), hangs_up=False) as server:
        for said in opened(server.settings()):
            assert "is not reachable: no answer within 0.2 s" in said
            assert "secret" not in said


@hypothesis_settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_server_that_speaks_nonsense_is_an_error_and_no_crash(data: st.DataObject) -> None:
    """Whatever it says: an error of ours, one line."""
    said = bytearray(b"".join(WORDS[: data.draw(st.integers(0, 2))]))
    for _ in range(data.draw(st.integers(0, 4))):
        if said:
            said[data.draw(st.integers(0, len(said) - 1))] = data.draw(st.integers(0, 255))
    said += data.draw(st.sampled_from([b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\0\0\x09\x01", b"\xff" * 40]))
    said += data.draw(st.binary(max_size=40))
    with Pretender(bytes(said), hangs_up=True) as server:
        for line in opened(server.settings()):
            assert "\n" not in line


def _asks_for_the_password(server: socket.socket, heard: list[bytes]) -> None:
    """As PostgreSQL would, without TLS, with `password` in pg_hba.conf."""
    accepted, _ = server.accept()
    with accepted:
        accepted.settimeout(10)
        while (word := accepted.recv(4096)) and word[4:8] in (b"\x04\xd2\x16\x2f", b"\x04\xd2\x16\x30"):
            accepted.sendall(b"N")  # neither TLS nor GSS
        accepted.sendall(b"R\0\0\0\x08\0\0\0\x03")
        heard.append(accepted.recv(4096))


@pytest.mark.skipif(psycopg2.extensions.libpq_version() < 160000, reason="libpq can't be told before 16")
def test_whoever_has_postgresql_s_port_while_it_is_down_is_not_given_the_password() -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = Dsn(f"postgresql://u:hidden@127.0.0.1:{server.getsockname()[1]}/d")
        for attempt in (
            lambda: asyncio.run(connection.open_postgres(url, name="test", timeout=10)),
            lambda: connection.postgres_now(url, name="test", timeout=10),
        ):
            thread = threading.Thread(target=_asks_for_the_password, args=(server, heard))
            thread.start()
            with pytest.raises(Unavailable, match="is not believed"):
                attempt()
            thread.join(20)
    assert heard == [b"", b""]
