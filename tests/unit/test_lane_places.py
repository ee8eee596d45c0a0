"""What a receiver works on, by LANE and by what is in force; and what is in force, as it lies in its queue."""

from __future__ import annotations

import json

import pytest

from relay import config
from relay.errors import ConfigError, Standby
from relay.receiving.lanes.names import Generation
from relay.receiving.lanes.place import OtherNumber, Place, find
from relay.receiving.lanes.plan import Plan, parse
from relay.receiving.lanes.seat import of_command
from relay.values import Lane

PLAIN, TWO, FOUR = Generation("q", 0, 1), Generation("q", 1, 2), Generation("q", 2, 4)
NO_LANES = ["LANE=0/4, and queue q has no lanes", "receiver.py lanes --to 4"]


def test_the_names_of_the_queues_sort_as_their_numbers() -> None:
    queues = Generation("q", 1, 32).queues
    assert queues == sorted(queues)
    assert queues[:2] == ["q.lanes.1.00", "q.lanes.1.01"]


@pytest.mark.parametrize(
    ("lane", "plan", "found"),
    [
        (None, None, Place(PLAIN)),
        (None, Plan(PLAIN), Place(PLAIN)),
        (Lane(1, 2), Plan(TWO), Place(TWO, 1)),
        (Lane(1, 2), Plan(TWO, making=FOUR), Place(TWO, 1)),
        (None, Plan(TWO, before=PLAIN), Place(PLAIN, ends=True)),
        (Lane(1, 2), Plan(FOUR, before=TWO), Place(TWO, 1, ends=True)),
        (Lane(1, 2), Plan(Generation("q", 3, 2), before=TWO), Place(TWO, 1, ends=True)),
    ],
)
def test_where_a_receiver_works(lane: Lane | None, plan: Plan | None, found: Place) -> None:
    assert find("q", lane, plan) == found


@pytest.mark.parametrize(
    ("lane", "plan", "says"),
    [
        (Lane(0, 4), None, NO_LANES),
        (Lane(0, 4), Plan(PLAIN), NO_LANES),
        (Lane(3, 4), Plan(TWO), ["LANE=3/4, and queue q has 2 lanes", "lanes --to 4, or write LANE=1/2"]),
        (None, Plan(TWO), ["queue q has 2 lanes, and LANE is not set", "LANE=0/2"]),
        (Lane(0, 3), Plan(FOUR, before=TWO), ["queue q has 4 lanes"]),
    ],
)
def test_another_number_is_refused(lane: Lane | None, plan: Plan | None, says: list[str]) -> None:
    with pytest.raises(OtherNumber) as raised:
        find("q", lane, plan)
    assert all(one in str(raised.value) for one in says), raised.value


@pytest.mark.parametrize("plan", [Plan(TWO, making=FOUR), Plan(FOUR, before=TWO)])
def test_who_comes_before_its_time_waits(plan: Plan) -> None:
    with pytest.raises(Standby, match="lanes --to 4"):
        find("q", Lane(0, 4), plan)


def test_a_plan_comes_out_as_it_went_in() -> None:
    plan = Plan(FOUR, before=TWO, step=7, last=2)
    assert parse("q", plan.body()) == plan


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[]", b"\xff", b'{"now": null}', b'{"now": [1], "step": 1}', b"[" * 100_000]
)
def test_what_others_write_is_no_plan(body: bytes) -> None:
    assert parse("q", body) is None


@pytest.mark.parametrize("odd", [-1, 10**9 + 1, 10**400, 1.5, True, "1", None, [], {}, float("nan")])
@pytest.mark.parametrize("place", ["now", "before", "making", "step", "last", "lanes"])
def test_a_plan_with_odd_numbers_is_none(place: str, odd: object) -> None:
    """Who may write to the default exchange may write one: no receiver makes queues by the billion."""
    whole: dict[str, object] = {"now": [2, 4], "before": None, "making": None, "step": 7, "last": 2}
    assert parse("q", json.dumps(whole).encode())
    written = {"lanes": {"now": [2, odd]}, "now": {"now": [odd, 4]}, "step": {"step": odd}, "last": {"last": odd}}
    assert parse("q", json.dumps(whole | written.get(place, {place: [3, odd]})).encode()) is None


def test_a_plan_has_as_many_lanes_as_there_are_slots_at_most() -> None:
    assert parse("q", Plan(Generation("q", 1, 32)).body())
    for lanes in (0, 33):
        assert parse("q", Plan(Generation("q", 1, lanes)).body()) is None
    assert parse("q", Plan(Generation("q", 0, 2)).body()) is None
    assert parse("q", Plan(TWO).body() + b" " * 1000) is None


def receive(**more: str) -> config.Receive:
    return config.load(config.Receive, None, {"RABBITMQ_URL": "amqp://u:p@h/v", "QUEUE": "q", **more})


def test_a_command_is_about_one_lane_or_all() -> None:
    assert [at.here.queue for at in of_command(receive(), Plan(TWO), changes=True)] == TWO.queues
    assert [at.here.queue for at in of_command(receive(LANE="1/2"), Plan(TWO), changes=True)] == [TWO.queues[1]]
    assert [at.here.queue for at in of_command(receive(), None, changes=True)] == ["q"]
    with pytest.raises(Standby):
        of_command(receive(), Plan(FOUR, before=TWO), changes=True)
    assert [at.here.queue for at in of_command(receive(), Plan(FOUR, before=TWO), changes=False)] == TWO.queues


@pytest.mark.parametrize("value", ["1", "0/1", "2/2", "-1/2", "0/33", "a/b", "0/4/4", "00000/2"])
def test_what_is_no_lane_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="LANE"):
        receive(LANE=value)


@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"ORDER": "global"}, "ORDER=global"),
        ({"QUEUE_TYPE": "classic"}, "QUEUE_TYPE=classic"),
        ({"QUEUE_TYPE": "existing"}, "QUEUE_TYPE=existing"),
        ({"FROM_START": "public.t", "SOURCE": "erp"}, "FROM_START"),
        ({"QUEUE": "q" * 240}, "QUEUE is too long"),
    ],
)
def test_what_does_not_go_together_with_lanes_is_refused(more: dict[str, str], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        receive(LANE="0/2", **more)
