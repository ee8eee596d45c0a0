"""Receivers that take turns: what one remembers of its deliveries ends with another one's turn."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chaos.proxy import Link
from dev.doubles.endpoint import OK, Answer, Endpoint, Request
from dev.process import wait_until
from dev.rabbitmq import RabbitMQ
from dev.script import Script
from dev.vhost import Vhost
from relay.amqp.replies import ChannelRefused
from relay.amqp.session import Session
from relay.errors import Unavailable
from relay.receiving.lease import Holder, holder_names
from tests.messages import Publisher
from tests.receiving import by_key, done, run
from tests.receiving import settings as receiver_settings
from tests.wired import Wired, wired

Make = Callable[..., Script]
SHORT_OF_ONE = "^(relay|odoo|odoo\\.(lease|parked|control))$"
LEAST = "^(relay|odoo|odoo\\.(lease|parked|control|holder))$"


@pytest.fixture
def link(rabbitmq: RabbitMQ) -> Iterator[Link]:
    """The way of one receiver to the broker."""
    made = Link("receiver-rabbitmq", rabbitmq.port)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def wire(vhost: Vhost) -> Iterator[Wired]:
    with wired(vhost) as made:
        yield made


def one_of_two(make: Make, vhost: Vhost, endpoint: Endpoint, name: str, **more: object) -> Script:
    headers = json.dumps({"Receiver": name})
    return make("receiver.py", receiver_settings(vhost, endpoint, HTTP_HEADERS=headers, **more))


def behind(link: Link, vhost: Vhost) -> str:
    return vhost.url.replace(f":{vhost.broker.port}/", f":{link.port}/")


def said(endpoint: Endpoint) -> list[tuple[str, int]]:
    """Which receiver delivered which number, in order of completion."""
    return [(request.headers["Receiver"], request.json["n"]) for request in endpoint.completed]


@pytest.mark.parametrize("queue_type", ["quorum", "classic"])
@pytest.mark.parametrize("answer_comes", ["before", "after"])
def test_what_another_receiver_has_begun_to_repeat_is_repeated_to_its_end(
    vhost: Vhost, script: Make, endpoint: Endpoint, link: Link, queue_type: str, answer_comes: str
) -> None:
    """B delivers 1 and 2, and RabbitMQ does not hear of it; A delivers 1 and is killed; B comes back.

    The answer to B's request for 2 comes before A's turn, or after it, when 2 waits behind it for the second time.
    """
    answer, over = threading.Event(), threading.Event()

    def rule(request: Request) -> Answer:
        name, number = request.headers["Receiver"], request.json["n"]
        if (name, number) == ("B", 2) and answer_comes == "after" and not over.is_set():
            endpoint.commit(request)
            answer.wait(60)
            return Answer(commit=False)
        if (name, number) == ("A", 2):
            over.wait(60)
            return Answer(commit=False)
        return OK

    endpoint.rule = rule
    b = one_of_two(script, vhost, endpoint, "B", RABBITMQ_URL=behind(link, vhost), QUEUE_TYPE=queue_type)
    b.start()
    b.wait_for_log("consuming")
    a = one_of_two(script, vhost, endpoint, "A", QUEUE_TYPE=queue_type)
    a.start()
    a.wait_for_log("another receiver is at work")
    link.deliver_late(60)  # what B sends from now on does not arrive
    publisher = Publisher(vhost)
    for n in (1, 2):
        publisher.event("t 1", n=n)
    wait_until(lambda: said(endpoint) == [("B", 1), ("B", 2)], 20, "both events by B")
    link.reset()
    wait_until(lambda: ("A", 1) in said(endpoint), 20, "the first one by A")
    a.kill()
    over.set()
    link.mend()
    b.wait_for_log("consuming", count=2)
    if answer_comes == "after":
        wait_until(lambda: vhost.queue_depth("odoo") == 0, 20, "the second one to be with B again")
    answer.set()
    wait_until(lambda: said(endpoint)[-1] == ("B", 2) and len(said(endpoint)) > 3, 20, "the second one again")
    b.terminate()
    assert b.wait() == 0
    assert vhost.queue_depth("odoo") == 0
    assert by_key(endpoint)["t 1"][-1] == 2


def test_a_commands_turn_is_a_turn(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """Any command without a running receiver takes the lease, and so does --drain: each leaves its own mark."""
    receiver = script("receiver.py", receiver_settings(vhost, endpoint))
    marks = []
    for arguments in ([], ["parked"], ["--drain"]):
        if arguments:
            done(run(receiver, *arguments))
        else:
            receiver.start()
            receiver.wait_for_log("consuming")
            receiver.terminate()
            assert receiver.wait() == 0
        marks.append(mark(vhost))
    assert len(set(marks)) == 3


def mark(vhost: Vhost) -> int:
    queue = vhost.broker.api("GET", f"/queues/{vhost.name}/odoo.holder")
    assert queue["durable"]
    return int(queue["arguments"]["x-max-length"])


class Cut:
    """A session that breaks at its n-th step: before it is sent, or when it was carried out and is not answered."""

    def __init__(self, session: Session, at: int | None, *, sent: bool) -> None:
        self._session, self._at, self._sent = session, at, sent
        self.vhost = session.vhost
        self._steps = itertools.count()

    async def refusal(
        self, what: str, method: Callable[..., object], *more: Any, **named: Any
    ) -> ChannelRefused | None:
        return (await self.asked(what, method, *more, **named))[1]

    async def asked(
        self, what: str, method: Callable[..., object], *more: Any, **named: Any
    ) -> tuple[Any, ChannelRefused | None]:
        breaks = next(self._steps) == self._at
        answer = await self._session.asked(what, method, *more, **named) if self._sent or not breaks else (None, None)
        if breaks:
            raise Unavailable("the connection broke")
        return answer


class Turns:
    """Who was at work since whom."""

    def __init__(self) -> None:
        self.holders = [Holder() for _ in range(3)]
        self.at_work: int | None = None
        self.tried: int | None = None

    def take(self, wire: Wired, queue: str, who: int, cut: int | None, *, sent: bool) -> None:
        try:
            session = Cut(wire.session, cut, sent=sent)
            kept = wire.run(self.holders[who].claim(session, queue, 500))  # type: ignore[arg-type]
        except Unavailable:
            self.tried = None  # it was not at work, and may keep nothing
            return
        assert not kept or self.at_work == who, "another one was at work"
        assert kept or self.tried != who, "nobody else has even tried"
        self.at_work = self.tried = who


_queues = itertools.count()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 2), st.none() | st.integers(0, 5), st.booleans()), max_size=12))
def test_only_who_was_the_last_one_at_work_keeps_its_memory(
    wire: Wired, turns: list[tuple[int, int | None, bool]]
) -> None:
    model, queue = Turns(), f"q{next(_queues)}"
    for who, cut, sent in turns:
        model.take(wire, queue, who, cut, sent=sent)


def test_a_missing_mark_keeps_no_memory(vhost: Vhost, wire: Wired) -> None:
    """Who worked without one, because no queue more could be made, has taken the former one away."""
    holder = Holder()
    assert not wire.run(holder.claim(wire.session, "odoo", 500))
    assert wire.run(holder.claim(wire.session, "odoo", 500))
    vhost.channel().queue_delete("odoo.holder")
    assert not wire.run(holder.claim(wire.session, "odoo", 500))
    assert wire.run(holder.claim(wire.session, "odoo", 500))


@pytest.mark.parametrize("in_cluster", [False, True])
def test_a_mark_tells_how_much_may_have_been_given_back(vhost: Vhost, wire: Wired, *, in_cluster: bool) -> None:
    """By its owner, or by one before it: until then it may be anywhere at the front of the queue."""
    name = "odoo.holder"
    for window, widest in ((20, 20), (7, 20), (30, 30), (1, 30)):
        holder = Holder(in_cluster=in_cluster)
        vhost.channel().basic_publish("", name, b"")  # as pulse.py does
        wire.run(holder.claim(wire.session, "odoo", window))
        assert holder.widest == widest
        name = holder.name
    vhost.channel().queue_delete(name)
    wire.run(holder.claim(wire.session, "odoo", 5))
    assert holder.widest == 5


def test_in_a_cluster_the_next_mark_has_another_name_and_the_one_before_is_gone(vhost: Vhost, wire: Wired) -> None:
    names = holder_names("odoo", in_cluster=True)
    had = []
    for _ in range(2 * len(names)):
        holder = Holder(in_cluster=True)
        assert not wire.run(holder.claim(wire.session, "odoo", 5))
        assert wire.run(holder.claim(wire.session, "odoo", 5)), "its own"
        had.append(holder.name)
        there = {queue["name"] for queue in vhost.broker.api("GET", f"/queues/{vhost.name}")}
        assert there & {*names} == {holder.name}
    assert all(len({*had[at : at + 8]}) == 8 for at in range(8))


def test_of_two_marks_neither_is_believed(vhost: Vhost, wire: Wired) -> None:
    """What a dead receiver still declared comes when it may: under a name that another one does not take."""
    holder = Holder(in_cluster=True)
    wire.run(holder.claim(wire.session, "odoo", 5))
    other = next(name for name in holder_names("odoo", in_cluster=True) if name != holder.name)
    arguments = {"x-queue-type": "quorum", "x-max-length": 7}
    vhost.channel().queue_declare(other, durable=True, arguments=arguments)
    assert not wire.run(holder.claim(wire.session, "odoo", 5))
    assert wire.run(holder.claim(wire.session, "odoo", 5))


def test_restarts_that_deliver_nothing_read_no_further_each_time(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    """What was looked at for its order has come back as well."""
    endpoint.stop()
    sent: list[str] = []
    for _ in range(4):
        receiver = script("receiver.py", receiver_settings(vhost, endpoint, PREFETCH=5))
        receiver.start()
        receiver.wait_for_log("consuming")
        if not sent:
            publisher = Publisher(vhost)
            sent = [publisher.event(f"t {n}", n=n) for n in range(40)]
        receiver.wait_for_log("endpoint does not work")
        receiver.kill()
        wait_until(lambda: vhost.queue_depth("odoo") >= 40, 30, "its messages to be back")
    channel = vhost.channel()
    found = [channel.basic_get("odoo") for _ in range(40)]
    assert [properties.message_id for _, properties, _ in found] == sent
    assert sum(method.redelivered for method, _, _ in found) == 5


def test_without_the_right_to_the_mark_it_works_and_says_so(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = restricted(vhost, script, endpoint, SHORT_OF_ONE)
    receiver.start()
    receiver.wait_for_log("consuming")
    Publisher(vhost).event("t 1", n=1)
    wait_until(lambda: len(endpoint.completed) == 1, 20, "the event")
    vhost.broker.close_connections(user="low")
    receiver.wait_for_log("consuming", count=2)
    warnings = [line for line in receiver.log().splitlines() if "without queue odoo.holder" in line]
    assert len(warnings) == 1, "once a process"
    assert "WARNING" in warnings[0]
    assert "rabbitmqctl set_permissions" in warnings[0]


def test_with_the_least_rights_nothing_is_missing(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = restricted(vhost, script, endpoint, LEAST)
    receiver.start()
    receiver.wait_for_log("consuming")
    first = mark(vhost)
    vhost.broker.close_connections(user="low")
    receiver.wait_for_log("consuming", count=2)
    assert mark(vhost) == first, "nobody else was at work"
    assert "holder" not in receiver.log()


def test_a_mark_that_may_not_be_replaced_is_left_to_a_person(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    """To work beside it would make its owner believe that nothing was done."""
    vhost.channel().queue_declare("odoo.holder", durable=True, arguments={"x-max-length": 7})
    receiver = restricted(vhost, script, endpoint, SHORT_OF_ONE)
    receiver.start()
    assert receiver.wait() == 78
    assert "no permission to replace queue odoo.holder" in receiver.log()
    assert "(lease|parked|control|holder)" in receiver.log()


def test_a_queue_in_the_place_of_the_mark_keeps_its_messages(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    channel = vhost.channel()
    channel.queue_declare("odoo.holder", durable=True)
    channel.confirm_delivery()
    channel.basic_publish("", "odoo.holder", b"{}")
    receiver = script("receiver.py", receiver_settings(vhost, endpoint))
    receiver.start()
    assert receiver.wait() == 78
    assert "queue odoo.holder is not a receiver's mark" in receiver.log()
    assert "rabbitmqctl delete_queue" in receiver.log()
    assert vhost.queue_depth("odoo.holder") == 1


def test_a_message_in_the_mark_does_no_harm(vhost: Vhost, script: Make, endpoint: Endpoint) -> None:
    receiver = script("receiver.py", receiver_settings(vhost, endpoint))
    for _ in range(2):
        receiver.start()
        receiver.wait_for_log("consuming")
        vhost.channel().basic_publish("", "odoo.holder", b"{}")
        receiver.kill()
    receiver.start()
    receiver.wait_for_log("consuming")
    assert vhost.queue_depth("odoo.holder") == 0


def test_where_no_queue_more_may_be_made_it_works_without_its_mark(
    vhost: Vhost, script: Make, endpoint: Endpoint
) -> None:
    vhost.broker.api("PUT", f"/vhost-limits/{vhost.name}/max-queues", {"value": 2})
    receiver = script("receiver.py", receiver_settings(vhost, endpoint, ORDER="global", CONTROL="off"))
    receiver.start()
    receiver.wait_for_log("consuming")
    Publisher(vhost).event("t 1", n=1)
    wait_until(lambda: len(endpoint.completed) == 1, 20, "the event")
    assert "without queue odoo.holder a lost connection repeats events" in receiver.log()
    assert "limit" in receiver.log()


def restricted(vhost: Vhost, script: Make, endpoint: Endpoint, pattern: str) -> Script:
    """A receiver whose user has these rights."""
    vhost.broker.add_user("low", "low")
    vhost.broker.grant(vhost.name, "low", pattern, r"^(amq\.default|odoo)$", r"^(relay|odoo|odoo\.(parked|control))$")
    url = f"amqp://low:low@127.0.0.1:{vhost.broker.port}/{vhost.name}"
    return script("receiver.py", receiver_settings(vhost, endpoint, RABBITMQ_URL=url))
