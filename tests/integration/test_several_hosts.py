"""RABBITMQ_URL with several hosts of a cluster: the next one where one does not work; another cluster's is refused."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest

import connection
from dev.doubles.endpoint import Endpoint
from dev.process import wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from relay import config
from relay.amqp import nodes
from relay.errors import ConfigError, Unavailable
from tests.messages import Publisher
from tests.receiving import done, run, settings

Make = Callable[..., Script]


@contextlib.contextmanager
def forwarder(port: int) -> Iterator[tuple[int, Callable[[], None]]]:
    """A port of its own that leads to the broker's, and what cuts it off, like a host that goes down."""
    loop, started = asyncio.new_event_loop(), threading.Event()
    found: dict[str, object] = {}
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()

    async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writers.extend((writer, far_writer))
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))

    async def begin() -> None:
        found["server"] = await asyncio.start_server(taken, "127.0.0.1", 0)
        started.set()

    def serve() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(begin())
        loop.run_forever()
        for task in (left := asyncio.all_tasks(loop)):
            task.cancel()
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    thread = threading.Thread(target=serve)
    thread.start()
    started.wait()
    server = found["server"]
    assert isinstance(server, asyncio.Server)

    def cut() -> None:
        def now() -> None:
            server.close()
            for writer in writers:
                writer.transport.abort()

        loop.call_soon_threadsafe(now)

    try:
        yield server.sockets[0].getsockname()[1], cut
    finally:
        cut()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def several(url: str, *ports: int) -> str:
    """The URL with these ports of this host before its own."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return f"amqp://{user}@{','.join([*(f'127.0.0.1:{port}' for port in ports), host])}{parts.path}"


def loaded(url: str) -> config.Receive:
    return config.load(config.Receive, None, {"RABBITMQ_URL": url, "QUEUE": "q", "CONNECT_TIMEOUT": "2"})


def test_the_next_host_is_taken_where_one_does_not_answer(vhost: Vhost) -> None:
    made = loaded(several(vhost.url, closed_port(), closed_port()))

    async def connect() -> None:
        handle = await connection.open_rabbitmq(made, name="test")
        assert nodes.in_use(made.rabbitmq_url) == urlsplit(vhost.url).netloc.rpartition("@")[2]
        handle.abort()

    for _ in range(5):  # whatever the order
        asyncio.run(connect())
        with connection.rabbitmq_now(made, name="test") as blocking:
            assert blocking.is_open


def test_where_none_answers_all_are_named(vhost: Vhost) -> None:
    ports = closed_port(), closed_port()
    path = urlsplit(vhost.url).path
    made = loaded(f"amqp://user:s3cret@127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}{path}")
    with pytest.raises(Unavailable) as caught:
        asyncio.run(connection.open_rabbitmq(made, name="test"))
    assert f"127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    with pytest.raises(Unavailable, match="no host lets us in"), connection.rabbitmq_now(made, name="test"):
        pass


def test_a_wrong_password_is_a_mistake_in_the_settings_if_each_host_says_so(vhost: Vhost) -> None:
    path, port = urlsplit(vhost.url).path, urlsplit(vhost.url).port
    everywhere = loaded(f"amqp://nobody:s3cret@127.0.0.1:{port},localhost:{port}{path}")
    with pytest.raises(ConfigError, match="refuses the user or password"):
        asyncio.run(connection.open_rabbitmq(everywhere, name="test"))
    one_away = loaded(f"amqp://nobody:s3cret@127.0.0.1:{port},127.0.0.1:{closed_port()}{path}")
    with pytest.raises(Unavailable):
        asyncio.run(connection.open_rabbitmq(one_away, name="test"))


def test_hosts_of_two_clusters_are_refused(vhost: Vhost, private_rabbitmq: RabbitMQ) -> None:
    """Each would give the lease."""
    private_rabbitmq.add_vhost(vhost.name)
    for name, broker in (("one", vhost.broker), ("other", private_rabbitmq)):
        broker.add_user("both", "secret", vhost.name)
        broker.api("PUT", "/cluster-name", {"name": name})
    ports = [urlsplit(broker.url(vhost.name)).port for broker in (vhost.broker, private_rabbitmq)]
    made = loaded(f"amqp://both:secret@127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}{urlsplit(vhost.url).path}")

    async def connect() -> None:
        (await connection.open_rabbitmq(made, name="test")).abort()

    asyncio.run(connect())
    with pytest.raises(ConfigError, match="hosts of two clusters"):
        asyncio.run(connect())  # the other one has its turn
    for broker in (vhost.broker, private_rabbitmq):
        broker.api("PUT", "/cluster-name", {"name": broker.node})
    for _ in range(2):  # RabbitMQ's own names say nothing: each node of a cluster has one
        asyncio.run(connect())


def test_the_receiver_goes_on_by_the_next_host(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    with forwarder(urlsplit(vhost.url).port or 0) as (one, cut_one), forwarder(urlsplit(vhost.url).port or 0) as (
        two, _cut,
    ):  # fmt: skip
        parts = urlsplit(vhost.url)
        url = f"amqp://{parts.netloc.rpartition('@')[0]}@127.0.0.1:{one},127.0.0.1:{two}{parts.path}"
        receiver = script("receiver.py", settings(vhost, endpoint, RABBITMQ_URL=url))
        receiver.start()
        receiver.wait_for_log("consuming")
        publisher = Publisher(vhost)
        publisher.event("t 1", n=0)
        wait_until(lambda: len(endpoint.completed) == 1, 10, "the first event")
        cut_one()
        publisher.event("t 1", n=1)
        wait_until(lambda: len({request.event_id for request in endpoint.completed}) == 2, 20, "the second event")
        wait_until(lambda: f"127.0.0.1:{two}" in done(run(receiver, "status")), 10, "the host in use")
        assert f"connected to RabbitMQ host=127.0.0.1:{two}" in receiver.log()


def test_check_says_which_host_is_down(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    gone = closed_port()
    receiver = script("receiver.py", settings(vhost, endpoint, RABBITMQ_URL=several(vhost.url, gone)))
    said = run(receiver, "check").stdout
    assert f"a node is down: that of 127.0.0.1:{gone}" in said
    assert "pause_minority" in said
    assert "QUEUE_TYPE=failover" in said
    receiver.configure(settings(vhost, endpoint))
    assert "cluster" not in run(receiver, "check").stdout
