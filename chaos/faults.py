"""How each fault of the plan strikes, and how it is mended."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable

import psycopg2

from chaos.plan import REST, SEVERS, Strike
from chaos.referee import Fault
from chaos.site import READ_TIMEOUT, TIME_LIMIT, Daemon, Pair, Site, now
from dev.database import Database, connect
from dev.doubles.endpoint import OK, Answer, Request, Rule
from dev.postgres import Postgres
from dev.process import ServerError, wait_until

SERVER_SECONDS = 30.0
UNHEARD_SECONDS = 60.0  # what is sent so late is lost with its connection
TURN_SECONDS = 8.0  # a standby looks once a second
TURN_MOST = 40  # deliveries of it
THROTTLED = 20_000  # bytes a second
REFUSED_SHARE = 3  # one key of so many
_BACKENDS = f"select pid from pg_stat_activity where usename = '{Database.LISTENER}'"


class Striker:
    """Carries out the strikes of one round: each place in a thread of its own, so that places are struck at once."""

    def __init__(self, site: Site, strikes: tuple[Strike, ...]) -> None:
        self._site = site
        self._began = time.monotonic()
        places: dict[str, list[Strike]] = defaultdict(list)
        for strike in strikes:
            places[strike.kind.place].append(strike)
        self._threads = [threading.Thread(target=self._run, args=(each,), daemon=True) for each in places.values()]
        self.faults: list[Fault] = []
        self.cuts: list[Fault] = []  # a further moment of one of those, at which a receiver was cut off
        self.failures: list[str] = []

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()

    def _run(self, strikes: list[Strike]) -> None:
        for strike in strikes:
            time.sleep(max(0.0, self._began + strike.at - time.monotonic()))
            begin, cuts = now(), list[float]()
            place, _, how = strike.kind.name.partition(".")
            try:
                cuts = _ACTS[place](self._site, how, strike) or []
            except (ServerError, AssertionError, OSError, psycopg2.Error) as error:
                self.failures.append(f"{strike.kind.name}: {error}")
            name, kind = strike.kind.name, strike.kind
            self.faults.append(Fault(name, begin, now(), repeats=kind.repeats, severs=name in SEVERS))
            self.cuts += [Fault(name, cut, now(), repeats=kind.repeats, severs=True, known=0.0) for cut in cuts]


def _strike_receivers(site: Site, how: str, strike: Strike) -> list[float] | None:
    if how == "handover":
        return _hand_over(site, strike)
    _strike_pair(site.receivers, how, strike)
    return None


def _hand_over(site: Site, strike: Strike) -> list[float]:
    """The active receiver loses its connection, with what it has said last; its standby has a turn, and is killed.

    Return when each of the two was cut off: what it has begun until then may end later, and nobody knows of it.
    """
    link, pair = site.links["receiver-rabbitmq"], site.receivers
    with pair.lock, contextlib.suppress(AssertionError):  # something else may strike at the same time
        wait_until(lambda: any(daemon.is_active() for daemon in pair.both), TURN_SECONDS, "a receiver at work")
    with pair.lock:
        first = pair.active()
        second = next(daemon for daemon in pair.both if daemon is not first)
        link.deliver_late(UNHEARD_SECONDS)
        time.sleep(0.5 + strike.choice % 100 / 66)
        first.pause()  # or it would be back before its standby has noticed
        paused = now()
        link.reset_connections()
        turn = len(_sent_by(site, second)) + 1 + strike.choice % TURN_MOST
        with contextlib.suppress(AssertionError):  # fewer were there
            wait_until(second.is_active, TURN_SECONDS, "the standby to be at work")
            wait_until(lambda: len(_sent_by(site, second)) >= turn, strike.seconds, "its deliveries")
        second.kill()
        killed = now()
        first.resume()
        time.sleep(REST)
        second.start()
    return [paused, killed]


def _sent_by(site: Site, receiver: Daemon) -> list[Request]:
    return [r for r in list(site.endpoint.completed) if r.headers["Chaos-Sender"].startswith(f"{receiver.name}.")]


def _strike_pair(pair: Pair, how: str, strike: Strike) -> None:
    with pair.lock:
        victims = list(pair.both) if how == "kill-both" else [pair.active()]
        if how in ("pause", "freeze"):
            victims[0].pause()
            time.sleep(strike.seconds)
            victims[0].resume()
            return
        for victim in victims:
            victim.stop() if how == "restart" else victim.kill()
        time.sleep(strike.seconds)
        for victim in victims:
            victim.start()


def _rabbitmq(site: Site, how: str, strike: Strike) -> None:
    broker = site.rabbitmq
    if how in ("kill", "restart"):
        broker.kill() if how == "kill" else broker.stop()
        time.sleep(strike.seconds)
        broker.start()
    elif how == "pause":
        broker.pause()
        time.sleep(strike.seconds)
        broker.resume()
    elif how == "close-connections":
        broker.close_connections("closed by the chaos run")
    else:
        alarm = broker.set_memory_alarm if how == "memory-alarm" else broker.set_disk_alarm
        alarm(on=True)
        time.sleep(strike.seconds)
        alarm(on=False)


def _postgres(site: Site, how: str, strike: Strike) -> None:
    server = site.postgres
    if how in ("kill", "immediate"):
        server.kill() if how == "kill" else server.stop("immediate")
        time.sleep(strike.seconds)
        server.start()
    elif how == "pause":
        server.pause()
        time.sleep(strike.seconds)
        server.resume()
    else:
        _strike_backends(site, how)


def _strike_backends(site: Site, how: str) -> None:
    wait_until(lambda: _answers(site.postgres), SERVER_SECONDS, "PostgreSQL to be there")  # its last crash is near
    with contextlib.closing(connect(site.postgres.dsn())) as admin, admin.cursor() as cursor:
        if how == "terminate":
            cursor.execute(f"select pg_terminate_backend(pid) from ({_BACKENDS}) b")
        else:
            cursor.execute(_BACKENDS)
            for (pid,) in cursor.fetchall()[:1]:
                os.kill(pid, signal.SIGKILL)


def _answers(server: Postgres) -> bool:
    """Does it take connections?"""
    try:
        connect(server.dsn()).close()
    except psycopg2.OperationalError:
        return False
    return True


def _link(name: str) -> Callable[[Site, str, Strike], None]:
    def strike_link(site: Site, how: str, strike: Strike) -> None:
        link = site.links[name]
        if how == "ghost":
            pair = site.listeners if name.startswith("listener") else site.receivers
            _ghost(site, name, pair, strike)
            return
        acts: dict[str, Callable[[], None]] = {
            "stall": link.stall,
            "drop": link.stall,
            "reset": link.reset,
            "half-close": lambda: link.half_close(upward=bool(strike.choice % 2)),
            "delay": lambda: link.delay(0.05 + strike.choice % 100 / 250),
            "throttle": lambda: link.throttle(THROTTLED),
        }
        acts[how]()
        time.sleep(strike.seconds)
        if how == "drop":
            link.reset_connections()
        link.mend()

    return strike_link


def _ghost(site: Site, name: str, pair: Pair, strike: Strike) -> None:
    """What a process has sent arrives late, and goes on arriving after its death and beside its successor."""
    with pair.lock:
        victim = pair.active()
        site.links[name].deliver_late(strike.seconds)
        time.sleep(strike.seconds / 2)
        victim.kill()
        victim.start()
    time.sleep(strike.seconds / 2)
    site.links[name].mend()  # its standby may have been connected, too, and is to work with that connection


def _endpoint(site: Site, how: str, strike: Strike) -> None:
    if how == "down":
        site.endpoint.stop()
        time.sleep(strike.seconds)
        site.endpoint.start()
        return
    site.endpoint.rule = _rule(how, strike.choice)
    time.sleep(strike.seconds)
    site.endpoint.rule = healthy


def healthy(_request: Request) -> Answer:
    """The rule of an endpoint that works; it takes its time, so that whatever strikes meets requests under way."""
    return Answer(work=random.uniform(0, 0.02), hang=random.uniform(0, 0.01))


def _rule(how: str, choice: int) -> Rule:
    rng = random.Random(choice)

    def refuse(request: Request) -> Answer:
        key = request.headers.get("Relay-Key", "")
        return (
            Answer(422, b"no") if random.Random(f"{choice} {key}").randrange(REFUSED_SHARE) == 0 else healthy(request)
        )

    def errors(_request: Request) -> Answer:
        return rng.choice((OK, Answer(500), Answer(500, commit=True), Answer(409), Answer(404, b"<html>")))

    def late(_request: Request) -> Answer:
        return Answer(work=rng.uniform(READ_TIMEOUT + 0.2, TIME_LIMIT - 0.5)) if rng.random() < 0.5 else OK

    rules: dict[str, Rule] = {
        "slow": lambda _request: Answer(work=rng.uniform(0.05, 0.4)),
        "hang": lambda _request: Answer(commit=False, hang=READ_TIMEOUT + 0.5),
        "late": late,
        "refuse": refuse,
        "errors": errors,
        "reset": lambda _request: Answer(reset=True, commit=rng.random() < 0.5),
    }
    return rules[how]


_ACTS: dict[str, Callable[[Site, str, Strike], list[float] | None]] = {
    "listener": lambda site, how, strike: _strike_pair(site.listeners, how, strike),
    "receiver": _strike_receivers,
    "rabbitmq": _rabbitmq,
    "postgres": _postgres,
    "endpoint": _endpoint,
    **{name: _link(name) for name in ("listener-rabbitmq", "receiver-rabbitmq", "listener-postgres")},
}
