#!/usr/bin/env python3
"""The receiving daemon: events from a queue, each to an endpoint; acknowledged on success only."""

import argparse
import contextlib
import functools
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import connection
from relay import cli, findings, log, targets, transport
from relay import config as settings
from relay.amqp import rights
from relay.amqp.lifetime import Lifetime
from relay.amqp.session import Session
from relay.backoff import Backoff
from relay.daemon import Daemon, Stop, in_thread, run
from relay.errors import RelayError, Standby
from relay.findings import Finding
from relay.receiving import check, commands, harm
from relay.receiving.breaker import Breaker
from relay.receiving.dispatcher import Dispatcher
from relay.receiving.drain import Drain
from relay.receiving.holder import Holder
from relay.receiving.lanes import Lanes
from relay.receiving.management import Lookout
from relay.receiving.parking.index import ParkedIndex
from relay.receiving.queues import Declared
from relay.receiving.receiver import Parts, Receiver
from relay.receiving.summary import Summary
from relay.receiving.topics import Strays
from relay.receiving.workers import Workers

STARTING_SECONDS = 15.0  # from taking the lease to listening for commands: the parking lot is read in between

_log = log.Log("receiver")


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says. Return the process's exit status."""
    options = commands.arguments(arguments)
    env_file = settings.env_file(options.env_file, __file__)
    config = cli.load(lambda: targets.load(env_file), env_file, runs=not options.command)
    exposed = settings.read_by_others(type(config), env_file)
    if options.command:
        log.setup("error")
        if options.command == "check":
            return _check(config, options, exposed)
        return _unbind(config, options.key) if options.command == "unbind" else _command(config, options)
    log.setup(config.log_level, config.log_file, config.log_format)
    findings.warn_of_exposed(exposed, _log)
    return run(functools.partial(_run, config, options))


def _check(config: settings.Receive, options: argparse.Namespace, exposed: list[Path]) -> int:
    """Nothing is changed, and no event touched: it may run beside the receiver."""

    def look() -> Iterator[Finding]:
        yield from findings.exposed(exposed)
        yield from transport.findings(config)
        try:
            with connection.rabbitmq_now(config, name="relay receiver check") as handle:
                yield from check.rabbitmq(handle, config, functools.partial(connection.ask_management, config))
        except RelayError as error:
            yield Finding("RabbitMQ", ok=False, detail=error.what, remedy=error.remedy)
        yield from targets.make(config).check()

    return findings.report(look(), as_json=options.json)


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
            return run(functools.partial(_run, config, options))
        except Standby as standby:
            if not config.control:
                raise Standby(standby.what, "CONTROL=off: it takes no commands; stop it first") from None
            if time.monotonic() > until:
                raise
            time.sleep(0.3)  # it holds the lease already, and will listen in a moment


async def _run(config: settings.Receive, options: argparse.Namespace) -> int:
    stop = Stop()
    stop.install(on_hangup=log.reopen)
    # A thread that has its answer waits for the interpreter's lock, by default up to 5 ms. 16 workers, 20 ms an answer:
    # 698/s became 729/s (a bare loop of 16 threads without RabbitMQ: 680/s).
    sys.setswitchinterval(0.0005)
    parts = _parts(config)
    daemon = Daemon(stop, _log, Backoff(config.reconnect_min, config.reconnect_max))
    opened = functools.partial(_opened, config, parts, daemon)
    try:
        if options.command:
            async with opened(consume=False) as receiver:
                return await commands.carry_out(receiver, options)
        if options.drain:
            async with opened() as receiver:
                return await Drain(config, receiver, options.limit, options.max_seconds).run()
        _log.info("starting", queue=config.queue, target=config.target, workers=config.workers)
        transport.warn(config, _log)
        holder, learnt = Holder(config), parts.declared.learnt
        ask = functools.partial(connection.ask_management, config)
        lookout = Lookout(ask, config, lambda: harm.ours(config, learnt))

        async def session() -> None:
            try:
                async with opened(lookout=lookout) as receiver:
                    await receiver.run()
            except Standby as standby:
                await _look_at(holder, config, stop)
                raise holder.said(standby) from None

        return await daemon.run(session)
    finally:
        parts.workers.end()


@contextlib.asynccontextmanager
async def _opened(
    config: settings.Receive, parts: Parts, daemon: Daemon, *, lookout: Lookout | None = None, consume: bool = True
) -> AsyncIterator[Receiver]:
    """A session with its connection."""
    name = f"relay receiver {config.queue}"
    another = functools.partial(connection.open_rabbitmq, config, name=f"{name}, probe")
    async with Session(daemon.stop, rights.command(config)) as session:
        session.attach(await connection.open_rabbitmq(config, name=name))
        yield Receiver(config, session, another, parts, daemon, lookout=lookout, consume=consume)


async def _look_at(holder: Holder, config: settings.Receive, stop: Stop) -> None:
    """What can't be looked at now will be soon; the standby goes on, whatever becomes of that."""

    def look() -> None:
        with connection.rabbitmq_now(config, name=f"relay receiver {config.queue}, standby") as handle:
            holder.look(handle)

    if holder.wants_to_look:
        with contextlib.suppress(RelayError):
            async with Lifetime(stop):
                await in_thread(look)


def _parts(config: settings.Receive) -> Parts:
    target, endpoint = targets.make(config), config.endpoint()
    retries = max(1, config.workers // 4)
    lanes = Lanes(config.order, target.group, remember=4 * config.prefetch, retries=retries)
    workers = Workers(target, config.workers)
    dispatcher = Dispatcher(
        lanes,
        workers,
        Breaker(streak=max(3, config.workers), minimum=config.retry_min),
        batch_size=target.batch_size,
        retry=(config.retry_min, config.retry_max),
        max_attempts=config.max_attempts,
        max_rate=config.max_rate,
        clock=time.monotonic,
        log=_log,
        where=endpoint.shown() if endpoint else config.target,
    )
    index = ParkedIndex(barriers=config.order == "key")
    summary = Summary(dispatcher, lanes, index, _log)
    return Parts(lanes, dispatcher, workers, index, Declared(config), Strays(config), summary)


if __name__ == "__main__":
    sys.exit(cli.run(main))
