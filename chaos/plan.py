"""What strikes, when, and for how long: made from a seed alone, so that a failed run can be repeated. Pure."""

from __future__ import annotations

import random
from dataclasses import dataclass

ROUND_SECONDS = 14.0  # in which strikes begin
STRIKES = 18
REST = 0.3  # seconds between two strikes on one place


@dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Args:
        place: strikes on one place never overlap; the part before the first dot of the name says what is struck.
        weight: how often, against the others.
        seconds: shortest and longest time until it is mended.
        repeats: may an event be delivered twice because of it?
        most: strikes of this kind in a round; servers take their time to come back.
    """

    name: str
    place: str
    weight: int
    seconds: tuple[float, float]
    repeats: bool = True
    most: int = 99


KINDS = (
    Kind("listener.kill", "listener", 10, (0.0, 3.0)),
    Kind("listener.kill-both", "listener", 3, (0.0, 3.0)),
    Kind("listener.pause", "listener", 5, (0.2, 3.0), repeats=False),
    Kind("listener.freeze", "listener", 2, (14.0, 18.0), most=1),  # beyond its heartbeat: the standby takes over
    Kind("listener.restart", "listener", 4, (0.0, 1.0), repeats=False),
    Kind("receiver.kill", "receiver", 10, (0.0, 3.0)),
    Kind("receiver.kill-both", "receiver", 3, (0.0, 3.0)),
    Kind("receiver.pause", "receiver", 5, (0.2, 3.0)),  # a request may time out meanwhile
    Kind("receiver.freeze", "receiver", 2, (14.0, 18.0), most=1),
    Kind("receiver.restart", "receiver", 4, (0.0, 1.0), repeats=False),
    Kind("receiver.handover", "receiver", 20, (0.5, 1.5)),  # a turn of its standby, then it is back
    Kind("rabbitmq.kill", "rabbitmq", 3, (0.0, 3.0), most=1),
    Kind("rabbitmq.restart", "rabbitmq", 1, (0.0, 1.0), most=1),
    Kind("rabbitmq.pause", "rabbitmq", 3, (0.2, 3.0)),  # a confirm may come too late for a listener that is killed
    Kind("rabbitmq.memory-alarm", "rabbitmq", 3, (0.5, 3.0), repeats=False),
    Kind("rabbitmq.disk-alarm", "rabbitmq", 3, (0.5, 3.0), repeats=False),
    Kind("rabbitmq.close-connections", "rabbitmq", 3, (0.0, 0.0)),
    Kind("postgres.kill", "postgres", 4, (0.0, 3.0), most=2),
    Kind("postgres.immediate", "postgres", 3, (0.0, 1.0), most=2),
    Kind("postgres.backend-kill", "postgres", 4, (0.0, 0.0), most=2),  # SIGKILL of one: all are thrown out
    Kind("postgres.terminate", "postgres", 4, (0.0, 0.0)),
    Kind("postgres.pause", "postgres", 3, (0.2, 3.0), repeats=False),
    *(
        Kind(f"{link}.{how}", link, weight, seconds, repeats)
        for link in ("listener-rabbitmq", "receiver-rabbitmq", "listener-postgres")
        for how, weight, seconds, repeats in (
            ("stall", 2, (0.5, 6.0), True),  # held, then it goes on; the other side may have given up
            ("drop", 2, (1.0, 8.0), True),  # swallowed, then reset
            ("reset", 3, (0.0, 2.0), True),
            ("half-close", 2, (0.5, 2.0), True),
            ("delay", 2, (1.0, 4.0), False),
            ("throttle", 1, (1.0, 4.0), False),
        )
    ),
    Kind("listener-rabbitmq.ghost", "listener-rabbitmq", 4, (2.0, 4.0)),  # killed, its packets still arrive
    Kind("receiver-rabbitmq.ghost", "receiver-rabbitmq", 4, (2.0, 4.0)),
    Kind("listener-postgres.ghost", "listener-postgres", 3, (2.0, 4.0)),
    Kind("endpoint.down", "endpoint", 4, (0.5, 4.0)),  # a request that is cut off may have been committed
    Kind("endpoint.slow", "endpoint", 3, (1.0, 4.0), repeats=False),
    Kind("endpoint.hang", "endpoint", 3, (1.0, 3.0), repeats=False),
    Kind("endpoint.late", "endpoint", 4, (1.0, 4.0)),  # commits after its client has given up
    Kind("endpoint.refuse", "endpoint", 9, (1.5, 5.0), repeats=False),
    Kind("endpoint.errors", "endpoint", 4, (1.0, 4.0)),  # 500, some of them after the commit
    Kind("endpoint.reset", "endpoint", 3, (0.5, 2.0)),  # after the commit, without an answer
)
# What takes a receiver's connection away, so that its successor can't know which requests are under way.
SEVERS = frozenset(
    {"receiver.kill", "receiver.kill-both", "receiver.freeze", "receiver.handover"}
    | {"rabbitmq.kill", "rabbitmq.restart", "rabbitmq.close-connections"}
    | {f"receiver-rabbitmq.{how}" for how in ("stall", "drop", "reset", "half-close", "ghost")}
)


@dataclass(frozen=True)
class Strike:
    """One fault: `at` seconds after the round's beginning, mended after `seconds`. `choice` decides its details."""

    at: float
    kind: Kind
    seconds: float
    choice: int

    def __str__(self) -> str:
        return f"{self.at:5.1f} s  {self.kind.name:<30} {self.seconds:4.1f} s"


@dataclass(frozen=True)
class Round:
    """One round. `notify`: writers NOTIFY a sleeping listener; without it they may prepare transactions instead."""

    number: int
    notify: bool
    strikes: tuple[Strike, ...]


def make(seed: int, number: int, strikes: int = STRIKES, seconds: float = ROUND_SECONDS, only: str = "") -> Round:
    """The plan of one round; the same for the same arguments. `only`: of one kind alone."""
    rng = random.Random(f"{seed} {number}")
    free: dict[str, float] = {}
    found: list[Strike] = []
    while len(found) < strikes:
        kinds = [kind for kind in KINDS if sum(strike.kind is kind for strike in found) < kind.most]
        kinds = [kind for kind in KINDS if kind.name == only] or kinds
        kind = rng.choices(kinds, [each.weight for each in kinds])[0]
        at = max(rng.uniform(0.5, seconds), free.get(kind.place, 0.0))
        lasts = rng.uniform(*kind.seconds)
        free[kind.place] = at + lasts + REST
        found.append(Strike(round(at, 3), kind, round(lasts, 3), rng.getrandbits(32)))
    return Round(number, rng.random() < 0.7, tuple(sorted(found, key=lambda strike: strike.at)))
