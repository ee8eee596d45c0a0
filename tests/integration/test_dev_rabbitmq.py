"""The private RabbitMQ survives what tests do to it, and leaves nothing behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pika
import pytest
from pika.exceptions import AMQPConnectionError, AMQPError

from dev.process import Process, ServerError, processes_below, wait_until
from dev.rabbitmq import RabbitMQ
from dev.vhost import Vhost

QUORUM = {"x-queue-type": "quorum", "x-delivery-limit": 1000000}


def publish(vhost: Vhost, queue: str, count: int) -> None:
    """Returns when every message is confirmed."""
    channel = vhost.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True, arguments=QUORUM)
    for number in range(count):
        persistent = pika.BasicProperties(delivery_mode=2)
        channel.basic_publish("", queue, str(number).encode(), persistent, mandatory=True)


def drain(vhost: Vhost, queue: str) -> list[int]:
    channel = vhost.channel()
    found = []
    while (got := channel.basic_get(queue, auto_ack=True))[2] is not None:
        found.append(int(got[2]))
    return found


@pytest.mark.long  # every kill of a broker elsewhere relies on it
def test_a_quorum_queue_keeps_its_messages_over_a_restart_and_a_kill(private_vhost: Vhost) -> None:
    broker = private_vhost.broker
    ports = broker.port, broker.management_port
    publish(private_vhost, "orders", 50)
    broker.restart()
    wait_until(lambda: broker.queue_depth(private_vhost.name, "orders") == 50, 10, "the messages after the restart")
    publish(private_vhost, "orders", 50)
    publish(private_vhost, "invoices", 1)
    broker.sync()
    broker.kill()
    with pytest.raises(AMQPConnectionError):
        private_vhost.connection()
    broker.start()
    assert drain(private_vhost, "orders") == [*range(50), *range(50)]
    assert drain(private_vhost, "invoices") == [0]
    assert (broker.port, broker.management_port) == ports


def test_a_paused_broker_answers_nobody_until_it_is_resumed(private_vhost: Vhost) -> None:
    broker = private_vhost.broker
    broker.pause()
    with socket.create_connection(("127.0.0.1", broker.port), timeout=2) as link:
        link.sendall(b"AMQP\x00\x00\x09\x01")
        with pytest.raises(TimeoutError):
            link.recv(1)
        broker.resume()
        assert link.recv(1) == b"\x01"


def test_alarms_are_raised_and_cleared_and_connections_are_closed_on_request(private_vhost: Vhost) -> None:
    broker = private_vhost.broker
    for alarm in (broker.set_memory_alarm, broker.set_disk_alarm):
        alarm(on=True)
        with pytest.raises(ServerError, match="503"):
            broker.api("GET", "/health/checks/alarms")
        alarm(on=False)
        broker.api("GET", "/health/checks/alarms")
    connection = private_vhost.connection()
    broker.close_connections()
    with pytest.raises(AMQPError):
        connection.process_data_events(time_limit=10)


def test_a_user_has_the_rights_it_was_given_and_no_others(rabbitmq: RabbitMQ, vhost: Vhost) -> None:
    rabbitmq.add_user("limited", "secret", vhost.name)
    url = rabbitmq.url(vhost.name, "limited", "secret")
    pika.BlockingConnection(pika.URLParameters(url)).close()
    with pytest.raises(AMQPConnectionError):
        pika.BlockingConnection(pika.URLParameters(rabbitmq.url("/", "limited", "secret")))


@pytest.mark.long
def test_two_brokers_run_side_by_side_and_leave_nothing(run_directory: Path) -> None:
    brokers = [RabbitMQ(run_directory / "side" / name) for name in ("a", "b")]
    family: list[Process] = []
    try:
        for broker in brokers:
            broker.start()
            broker.add_vhost("same-name")
            epmd = Process.load(broker.directory / "epmd.process")
            assert broker.process
            assert epmd
            family += [*broker.process.tree(), *epmd.tree()]
        vhosts = [Vhost(broker, "same-name") for broker in brokers]
        for count, vhost in enumerate(vhosts, start=1):
            publish(vhost, "queue", count)
        assert [vhost.queue_depth("queue") for vhost in vhosts] == [1, 2]
        for vhost in vhosts:
            vhost.close()
        brokers[0].stop()
        assert vhosts[1].queue_depth("queue") == 2
    finally:
        for broker in brokers:
            broker.remove()
    wait_until(lambda: not any(process.alive() for process in family), 10, "all processes to end")
    assert not any(broker.directory.exists() for broker in brokers)
    assert not processes_below(run_directory / "side")


def test_the_broker_listens_on_loopback_only(rabbitmq: RabbitMQ) -> None:
    ports = [value for value in rabbitmq.settings.values() if isinstance(value, int)]
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    bound = {fields[1] for fields in listening if fields[3] == "0A"}
    for port in ports:
        assert f"0100007F:{port:04X}" in bound
        assert f"00000000:{port:04X}" not in bound


@pytest.mark.long
def test_the_rabbitmq_of_another_debian_suite_runs_here_as_well(run_directory: Path) -> None:
    broker = RabbitMQ(run_directory / "trixie", suite="trixie")
    try:
        broker.start()
        assert broker.release.version.startswith("4.")
        broker.add_vhost("newer")
        vhost = Vhost(broker, "newer")
        publish(vhost, "orders", 10)
        broker.sync()
        broker.kill()
        broker.start()
        assert drain(vhost, "orders") == list(range(10))
        vhost.close()
    finally:
        broker.remove()
