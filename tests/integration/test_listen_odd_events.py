"""Events that the encoder or RabbitMQ cannot take: each blocks its own key, and nothing else."""

from __future__ import annotations

import functools
import json
import random
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.database import Database
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.listening import operate
from tests.listening import Listening, Message, first_seen

UNJUDGED = Path(__file__).parents[1] / "unjudged"

INSERT = "insert into relay.outbox (topic, op, key, body, headers, at) values (%s, %s, %s, %s, %s, %s)"
WAKE = "select pg_notify(channel, '') from relay.listener"
REFUSED = "select body, error, id::text from relay.backlog where error is not null"
NOW = "2026-11-28 12:00+00"
DEEP = '{"x":' + "[" * 3000 + "]" * 3000 + "}"


def row(
    key: str, body: str, topic: str = "app", op: str = "message", headers: str | None = None, at: str = NOW
) -> list[object]:
    return [topic, op, key, body, headers, at]


Row = Callable[[str, str], list[object]]

FOR_RABBITMQ: dict[str, tuple[Row, str]] = {
    "CC": (functools.partial(row, headers='{"CC": "boss@example.com"}'), "CC"),
    "BCC": (functools.partial(row, headers='{"BCC": ["other"], "a": 1}'), "BCC"),
    "large headers": (functools.partial(row, headers=json.dumps({"x": "y" * 140_000})), "frame"),
    "many headers": (functools.partial(row, headers=json.dumps({f"h{n}": "y" * 100 for n in range(2000)})), "frame"),
}
"""What is judged before it is packed, and RabbitMQ closes the channel or the connection for."""

FOR_NOBODY: dict[str, tuple[Row, str]] = {
    "long topic": (functools.partial(row, topic="t" * 256), "topic or op is longer than 255 bytes"),
    "long op": (functools.partial(row, op="\u00e9" * 200), "topic or op is longer than 255 bytes"),
    "before 1970": (functools.partial(row, at="1960-01-01"), "can't be encoded"),
    "headers no object": (functools.partial(row, headers="[1, 2]"), "no JSON object"),
    "headers a string": (functools.partial(row, headers='"CC"'), "no JSON object"),
    "a number of 5000 digits": (functools.partial(row, headers='{"n": 1e5000}'), "can't be read"),
    "deep headers": (functools.partial(row, headers=DEEP), "can't be read"),
}
"""What can't be encoded, or must not be guessed."""

GOOD: list[Row] = [
    row,
    functools.partial(row, headers='{"x-death": "y", "x-delay": 5, "x-match": "any", "x-received-from": 1}'),
    functools.partial(row, headers='{"cc": "a", "user_id": "b", "expiration": "x", "relay-seq": "z", "": null}'),
    functools.partial(row, headers='{"n": 1e400, "f": 0.1, "list": [1, {"a": 1e-400}], "\\u0416": "\\ud83d\\ude00"}'),
    functools.partial(row, topic="t" * 255, op="o" * 255),
    functools.partial(row, headers=json.dumps({"x": "y" * 100_000})),
    functools.partial(row, headers="{}"),
    functools.partial(row, headers="null"),
]


@pytest.fixture
def listening(script: Callable[..., Script], database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost)
    made.bind()
    return made


class Program:
    """Events of several keys by chance, odd ones among them; written, and then judged by what came."""

    def __init__(self, listening: Listening, odd: dict[str, tuple[Row, str]], seed: int, events: int) -> None:
        chance = random.Random(seed)
        self._listening = listening
        self._odd: dict[str, str] = {}  # by body: the reason
        self.good: dict[str, list[str]] = defaultdict(list)  # by key: bodies
        kinds = list(odd.values())
        chance.shuffle(kinds)
        places = set(chance.sample(range(events), len(kinds)))
        self._db = listening.database.admin()
        with self._db.cursor() as cursor:
            cursor.execute("begin")
            for number in range(events):
                key, body = f"k{chance.randrange(12)}", str(number)
                if number in places:
                    make, self._odd[body] = kinds.pop()
                else:
                    make = chance.choice(GOOD)
                    self.good[key].append(body)
                cursor.execute(INSERT, make(key, body))
            cursor.execute(WAKE)
            cursor.execute("commit")

    def all_come(self, timeout: float) -> list[Message]:
        """Drop what is marked until nothing is left, and return what came."""
        left = set(self._odd)
        while left:
            wait_until(lambda: self._listening.admin(REFUSED), timeout, f"one of {left} to be marked")
            for body, error, event_id in self._listening.admin(REFUSED):
                assert body in left, "only odd events are marked"
                assert self._odd[body] in error
                left.remove(body)
                operate.drop(self._db, event_id)
        self._listening.await_empty()
        return self._listening.all_messages()


def by_key(messages: list[Message]) -> dict[str, list[str]]:
    found = defaultdict[str, list[str]](list)
    for message in messages:
        found[message.properties.headers["relay-key"]].append(message.body.decode())
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_odd_events_are_marked_and_all_others_come_exactly_once_in_order(listening: Listening, seed: int) -> None:
    long_key = "k" * 200_000
    listening.start()
    listening.admin("select relay.publish('app', '0'::text, %s)", long_key)
    wait_until(lambda: listening.admin("select 1 from relay.outbox where error ~ 'frame_max'"), 20, "it to be marked")
    listening.admin("delete from relay.outbox")

    program = Program(listening, FOR_RABBITMQ | FOR_NOBODY, seed, 300)

    assert by_key(program.all_come(20)) == program.good
    assert listening.script.log().count("relaying") == 1, "one session"
    assert "Traceback" not in listening.script.log()


def test_what_rabbitmq_closes_for_is_found_one_at_a_time(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    """As above, with nothing judged beforehand: RabbitMQ closes the channel (406) or the connection (501)."""
    listening = Listening(functools.partial(script, environment={"PYTHONPATH": str(UNJUDGED)}), database, vhost)
    listening.bind()
    by_broker = {"CC": "refused by RabbitMQ: 406 ", "BCC": "refused by RabbitMQ: 406 "}
    odd = {name: (make, by_broker.get(name, "refused by RabbitMQ: 501 ")) for name, (make, _) in FOR_RABBITMQ.items()}
    listening.start()

    program = Program(listening, odd, 3, 300)
    came = program.all_come(60)

    assert by_key(first_seen(came)) == program.good
    copies = Counter(message.properties.message_id for message in came)
    assert max(copies.values()) <= 2, "what was on its way, once more at most"
    repeated = [body for key in program.good for body in by_key(came)[key]]
    assert len(repeated) < 2 * 300


def test_a_topic_that_may_not_be_written_to_blocks_its_own_keys_only(
    script: Callable[..., Script], database: Database, vhost: Vhost
) -> None:
    listening = Listening(script, database, vhost)
    listening.bind()
    user = f"writer-{vhost.name}"
    vhost.broker.add_user(user, "secret", vhost.name)
    rights = {"exchange": "relay", "write": "^good", "read": ".*"}
    vhost.broker.api("PUT", f"/topic-permissions/{vhost.name}/{user}", rights)
    listening.settings["RABBITMQ_URL"] = vhost.url.replace(
        vhost.url.partition("://")[2].partition("@")[0], f"{user}:secret"
    )
    listening.script = listening.another()
    listening.start()
    with listening.database.admin() as db, db.cursor() as cursor:
        for number in range(50):
            cursor.execute(INSERT, row(f"k{number % 10}", str(number), topic="bad" if number == 20 else "good"))
        cursor.execute(WAKE)
    listening.script.wait_for_log("event refused by the broker")
    wait_until(lambda: listening.pending() == 3, 20, "all but the event and those behind it to be gone")
    ((error,),) = listening.admin("select error from relay.outbox where error is not null")
    assert "403 ACCESS_REFUSED" in error
    assert "topic 'bad'" in error
    expected = defaultdict[str, list[str]](list)
    for number in range(50):
        if number % 10 or number < 20:
            expected[f"k{number % 10}"].append(str(number))
    assert by_key(first_seen(listening.all_messages())) == expected


def test_an_administrator_who_closes_all_connections_convicts_nobody(
    script: Callable[..., Script], database: Database, private_vhost: Vhost
) -> None:
    """Under an alarm one event is on its way, alone, each time."""
    listening = Listening(script, database, private_vhost)
    listening.bind()
    listening.table()
    listening.start()
    broker = private_vhost.broker
    broker.set_memory_alarm()
    listening.execute("insert into t values (1)")
    for number in range(1, 4):
        listening.script.wait_for_log("RabbitMQ blocks this connection", count=number)
        broker.close_connections()
    broker.set_memory_alarm(on=False)
    listening.messages(1)
    listening.await_empty()
    assert "event refused" not in listening.script.log()
    assert "one at a time" not in listening.script.log()
