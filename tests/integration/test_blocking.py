"""The connection of relay.ask.Client: what RabbitMQ, or the network, does to it. (What is asked: test_requests.py.)"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from dev.process import wait_until
from dev.rabbitmq import RabbitMQ
from dev.vhost import Vhost
from relay.ask import Client, NoListener, NotAnswered

QUEUE = "relay.control.erp"


@pytest.fixture
def deaf(vhost: Vhost) -> Vhost:
    """A listener's queue that nobody reads: no question is answered."""
    vhost.channel().queue_declare(QUEUE)
    return vhost


@pytest.fixture
def client(deaf: Vhost) -> Iterator[Client]:
    with Client(deaf.url, "erp", timeout=0.5) as made:
        yield made


def asks(client: Client) -> None:
    with pytest.raises(NotAnswered, match="has not answered within"):
        client.get("public.t", {"id": 1})


def test_while_it_waits_it_sends_and_hears_heartbeats(deaf: Vhost) -> None:
    """RabbitMQ ends a connection that is silent for two of its heartbeats, and pika one of a silent RabbitMQ."""
    with Client(f"{deaf.url}?heartbeat=1", "erp", timeout=6) as client:
        line = client._opened()
        with pytest.raises(NotAnswered, match="within 6 s"):
            client.get("public.t", {"id": 1})
        assert client._opened() is line


def test_one_that_rabbitmq_has_closed_meanwhile_is_opened_again(client: Client, rabbitmq: RabbitMQ) -> None:
    asks(client)
    line = client._opened()
    rabbitmq.close_connections()
    asks(client)
    assert client._opened() is not line


def test_an_alarm_ends_in_no_answer(client: Client, rabbitmq: RabbitMQ) -> None:
    asks(client)
    rabbitmq.set_memory_alarm()
    try:
        began = time.monotonic()
        with pytest.raises(NotAnswered):
            client.get("public.t", {"id": 1})
        assert time.monotonic() - began < 10
    finally:
        rabbitmq.set_memory_alarm(on=False)
    asks(client)


@pytest.mark.parametrize("refused", ["login", "vhost", "right"])
def test_what_rabbitmq_refuses_is_told(deaf: Vhost, rabbitmq: RabbitMQ, refused: str) -> None:
    user = f"asks-{refused}"
    rabbitmq.add_user(user, "secret", *([] if refused == "vhost" else [deaf.name]))
    if refused == "right":
        rabbitmq.grant(deaf.name, user, configure="^$", write="^$", read="^$")
    password = "wrong" if refused == "login" else "secret"
    url = deaf.url.replace(deaf.url.partition("//")[2].partition("@")[0], f"{user}:{password}")
    with Client(url, "erp", timeout=2) as client, pytest.raises(NotAnswered, match=r"^RabbitMQ: .*refused") as told:
        client.get("public.t", {"id": 1})
    assert "\n" not in str(told.value)


def test_where_nobody_listens_or_nothing_speaks_amqp_is_told(vhost: Vhost) -> None:
    with Client("amqp://a:b@127.0.0.1:1/v", "erp") as client, pytest.raises(NotAnswered, match="refused"):
        client.get("public.t", {"id": 1})
    with Client("amqp://a:b@no.such.host.invalid/v", "erp") as client, pytest.raises(NotAnswered, match="RabbitMQ: "):
        client.get("public.t", {"id": 1})
    with Client(vhost.url, "nobody") as client, pytest.raises(NoListener):
        client.get("public.t", {"id": 1})


def test_a_closed_one_is_gone_from_rabbitmq_too(deaf: Vhost, rabbitmq: RabbitMQ) -> None:
    def open_ones() -> int:
        of_it = f'(catch rabbit_networking:connection_info(One, [vhost])) =:= [{{vhost, <<"{deaf.name}">>}}]'
        return int(rabbitmq.evaluate(f"length([One || One <- rabbit_networking:connections(), {of_it}])"))

    deaf.close()
    wait_until(lambda: open_ones() == 0, 20, "no connection")
    client = Client(deaf.url, "erp", timeout=0.5)
    asks(client)
    assert open_ones() == 1
    client.close()
    wait_until(lambda: open_ones() == 0, 20, "its end")
