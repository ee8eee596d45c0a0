#!/usr/bin/env python3
"""The receiving daemon: events from a queue, each to an endpoint; acknowledged on success only."""

import argparse
import contextlib
import functools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pika.adapters.select_connection import IOLoop

import connection
from relay import checks, cli, findings, log, transport
from relay import config as settings
from relay.backoff import Backoff
from relay.daemon import Daemon, Stop
from relay.errors import RelayError, Standby
from relay.findings import Finding, of_error
from relay.receiving import check, commands, harm
from relay.receiving.breaker import Breaker
from relay.receiving.dispatcher import Courier
from relay.receiving.drain import Drain
from relay.receiving.holder import Holder
from relay.receiving.lanes import Dispatch
from relay.receiving.management import Lookout
from relay.receiving.parking.index import Room
from relay.receiving.queues import Declared
from relay.receiving.receiver import Parts, Session
from relay.receiving.summary import Summary
from relay.receiving.topics import Strays
from relay.receiving.workers import Workers
from relay.targets import make

STARTING_SECONDS = 15.0  # from taking the lease to listening for commands: the waiting room is read in between

_log = log.Log("receiver")


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says. Return the process's exit status."""
    options = commands.arguments(arguments)
    env_file = settings.env_file(options.env_file, __file__)
    if options.command:
        log.setup("error")
    if options.command == "check":
        return findings.tell(_check(env_file, options), style=options.style)
    config = _load(env_file, runs=not options.command)
    if options.command:
        return _unbind(config, options.key) if options.command == "unbind" else _command(config, options)
    log.setup(config.log_level, config.log_file, config.log_format)
    log.reopen_on_hangup()
    findings.warn_of_exposed(settings.read_by_others(settings.Receive, env_file), _log)
    return _run(config, options)


def _check(env_file: Path | None, options: argparse.Namespace) -> Iterator[Finding]:
    """Nothing is changed, and no event touched: it may run beside the receiver."""
    config = _load(env_file, runs=False)
    yield from findings.exposed(settings.read_by_others(settings.Receive, env_file))
    yield from checks.log_file(config.log_file)
    yield from transport.findings(config)
    try:
        with connection.rabbitmq_now(config, name="relay receiver check") as handle:
            ask = functools.partial(connection.ask_management, config)
            yield from check.rabbitmq(handle, config, ask, checks.limits(options))
    except RelayError as error:
        yield of_error("RabbitMQ", error)
    yield from make(config).check()


def _load(env_file: Path | None, *, runs: bool) -> settings.Receive:
    return cli.load(lambda: settings.load(settings.Receive, env_file), env_file, runs=runs)


def _unbind(config: settings.Receive, key: str) -> int:
    with connection.rabbitmq_now(config, name="relay receiver unbind") as handle:
        return commands.unbind(handle, config, key)


def _command(config: settings.Receive, options: argparse.Namespace) -> int:
    """Let the running receiver do it; with none, do it ourselves."""
    until = time.monotonic() + STARTING_SECONDS
    while True:
        with connection.rabbitmq_now(config, name=f"relay receiver {options.command}") as handle:
            status = commands.ask_running(handle, config, options)
        if status is not None:
            return status
        try:
            return _run(config, options)
        except Standby as standby:
            if not config.control:
                raise Standby(standby.what, "CONTROL=off: it takes no commands; stop it first") from None
            if time.monotonic() > until:
                raise
            time.sleep(0.3)  # it holds the lease already, and will listen in a moment


def _run(config: settings.Receive, options: argparse.Namespace) -> int:
    stop = Stop()
    stop.install()
    # A thread that has its answer waits for the interpreter's lock, by default up to 5 ms. 16 workers, 20 ms an answer:
    # 698/s became 729/s (a bare loop of 16 threads without RabbitMQ: 680/s).
    sys.setswitchinterval(0.0005)
    parts = _parts(config)
    daemon = Daemon(stop, _log, Backoff(config.reconnect_min, config.reconnect_max))

    def open_session(*, lookout: Lookout | None = None, consume: bool = True) -> Session:
        loop = IOLoop()
        connect = functools.partial(connection.open_rabbitmq, config, loop=loop, stop=stop)
        name = f"relay receiver {config.queue}"
        another = functools.partial(connect, name=f"{name}, probe", watch_stop=False)
        return Session(config, connect(name=name), another, loop, parts, daemon, lookout=lookout, consume=consume)

    try:
        if options.command:
            return commands.carry_out(open_session(consume=False), options)
        if options.drain:
            return Drain(config, open_session(), options.limit, options.max_seconds).run()
        _log.info("starting", queue=config.queue, target=config.target, workers=config.workers)
        transport.warn(config, _log)
        holder, learnt = Holder(config), parts.declared.learnt
        ask = functools.partial(connection.ask_management, config)
        lookout = Lookout(ask, config, lambda: harm.ours(config, learnt))
        return daemon.run(lambda: _session(config, functools.partial(open_session, lookout=lookout), holder))
    finally:
        parts.workers.end()


def _session(config: settings.Receive, open_session: Callable[[], Session], holder: Holder) -> None:
    try:
        open_session().run()
    except Standby as standby:
        if holder.wants_to_look:
            # What can't be looked at now will be soon; the standby goes on, whatever becomes of that.
            with (
                contextlib.suppress(RelayError),
                connection.rabbitmq_now(config, name=f"relay receiver {config.queue}, standby") as handle,
            ):
                holder.look(handle)
        raise holder.said(standby) from None


def _parts(config: settings.Receive) -> Parts:
    target = make(config)
    retries = max(1, config.workers // 4)
    dispatch = Dispatch(config.order, target.group, remember=4 * config.prefetch, retries=retries)
    workers = Workers(target, config.workers)
    courier = Courier(
        dispatch,
        workers,
        Breaker(streak=max(3, config.workers), least=config.retry_min),
        batch_size=target.batch_size,
        retry=(config.retry_min, config.retry_max),
        max_attempts=config.max_attempts,
        max_rate=config.max_rate,
        clock=time.monotonic,
        log=_log,
        where=config.endpoint(),
    )
    room = Room(barriers=config.order == "key")
    summary = Summary(courier, dispatch, room, _log)
    return Parts(dispatch, courier, workers, room, Declared(config), Strays(config), summary)


if __name__ == "__main__":
    sys.exit(cli.run(main))
