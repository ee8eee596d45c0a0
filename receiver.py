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
from relay import alert_command, checks, cli, findings, log, targets, transport
from relay import config as settings
from relay.amqp import management_api, rights
from relay.amqp.lifetime import Lifetime
from relay.amqp.session import Session
from relay.backoff import Backoff
from relay.daemon import Daemon, Stop, in_thread, run
from relay.delivery import MapsRows, Ranked
from relay.errors import ConfigError, RelayError, Standby
from relay.findings import Finding, of_error
from relay.receiving import arguments as command_line
from relay.receiving import check, columns, commands, harm
from relay.receiving.breaker import Breaker
from relay.receiving.dispatcher import Dispatcher
from relay.receiving.drain import Drain
from relay.receiving.holder import Holder
from relay.receiving.lanes import Lanes
from relay.receiving.management import Lookout
from relay.receiving.parking.index import ParkedIndex
from relay.receiving.parts import Parts
from relay.receiving.queues import Declared
from relay.receiving.receiver import Receiver
from relay.receiving.status import Status
from relay.receiving.summary import Summary
from relay.receiving.topics import Strays
from relay.receiving.workers import Workers
from relay.status.show import shown
from relay.targets import trial

STARTING_SECONDS = 15.0  # from taking the lease to listening for commands: the parking lot is read in between

_log = log.Log("receiver")


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says. Return the process's exit status."""
    options = command_line.arguments(arguments)
    env_file = settings.env_file(options.env_file, __file__)
    if options.command:
        log.setup("error")
    if options.command == "check":
        return findings.report(_check(env_file, options), style=options.style)
    if options.command == "mapping":
        return _mapping(env_file, options)
    config = _load(env_file, runs=not options.command)
    if options.command:
        if options.command == "status":
            return cli.watched(functools.partial(_status, config, options), options.watch)
        if options.command == "try":
            return _try(config, options)
        if options.command == "unbind":
            return _unbind(config, options.key)
        return _command(config, options, commands.Printer(options))
    log.setup(config.log_level, config.log_file, config.log_format)
    findings.warn_of_exposed(settings.read_by_others(type(config), env_file), _log)
    return run(functools.partial(_run, config, options))


def _check(env_file: Path | None, options: argparse.Namespace) -> Iterator[Finding]:
    """Nothing is changed, and no event touched: it may run beside the receiver."""
    config = _load(env_file, runs=False)
    if options.match or options.columns:
        yield from _check_table(config, options)
        return
    yield from findings.exposed(settings.read_by_others(type(config), env_file))
    yield from checks.log_file(config.log_file)
    yield from alert_command.findings(config)
    yield from transport.findings(config)
    try:
        with connection.rabbitmq_now(config, name="relay receiver check") as handle:
            ask = functools.partial(management_api.ask, config)
            yield from check.rabbitmq(handle, config, ask, checks.limits(options))
        with contextlib.suppress(RelayError):  # that it is not asked is told already
            yield checks.of_clock("RabbitMQ", *management_api.clock(config))
    except RelayError as error:
        yield of_error("RabbitMQ", error)
    yield from findings.each(targets.make(config).check())


def _check_table(config: settings.Receive, options: argparse.Namespace) -> Iterator[Finding]:
    target = targets.make(config)
    if not isinstance(target, MapsRows):
        option = "--match" if options.match else "--columns"
        raise ConfigError((f"check {option} is for TARGET=odoo-load, not for {config.target}", f"leave {option} out"))
    if options.match:
        yield from findings.each(target.check_match(options.match, sys.stdin))
    if options.columns:
        table, given = options.columns
        yield from findings.each(target.check_columns(table, _columns(config, table, given)))


def _mapping(env_file: Path | None, options: argparse.Namespace) -> int:
    config, write = cli.load(lambda: targets.mapper(env_file), env_file, runs=False)
    given = _columns(config, options.table, options.columns)
    return run(functools.partial(write, config, options.table, options.model, given))


def _columns(config: settings.Receive, table: str, given: str) -> str:
    """What --columns says: @ and the SOURCE of a listener = it is asked."""
    if not given.startswith("@"):
        return command_line.columns(given)
    with connection.rabbitmq_now(config, name="relay receiver columns") as handle:
        return columns.of_table(handle, given[1:], config.control_secret, table)


def _load(env_file: Path | None, *, runs: bool) -> settings.Receive:
    return cli.load(lambda: targets.load(env_file), env_file, runs=runs)


def _unbind(config: settings.Receive, key: str) -> int:
    with connection.rabbitmq_now(config, name="relay receiver unbind") as handle:
        return commands.unbind(handle, config, key)


def _status(config: settings.Receive, options: argparse.Namespace) -> int:
    with connection.rabbitmq_now(config, name="relay receiver status") as handle:
        return commands.status(handle, config, as_json=options.json)


def _try(config: settings.Receive, options: argparse.Namespace) -> int:
    """Nothing is acknowledged or parked: what comes of it is shown, and nothing else."""
    name, target = options.event, targets.make(config)
    try:
        if trial.is_file(name):
            event = trial.read(name)
        else:
            keeper = commands.Keeper(options)
            status = _command(config, argparse.Namespace(command="show", id=name), keeper)
            if not keeper.event:
                return status
            event = trial.shown(keeper.event)
    except trial.NoEvent as error:
        log.complain(f"receiver.py try: {name}: {error}")
        return commands.EX_USAGE
    return run(functools.partial(trial.run, config, target, event, sends=not options.dry_run))


def _command(config: settings.Receive, options: argparse.Namespace, printer: commands.Printer) -> int:
    """Let the running receiver do it; with none, do it ourselves."""
    until = time.monotonic() + STARTING_SECONDS
    while True:
        with connection.rabbitmq_now(config, name=f"relay receiver {options.command}") as handle:
            status = commands.ask_running(handle, config, options, printer)
        if status is not None:
            return status
        try:
            return run(functools.partial(_run, config, options, printer))
        except Standby as standby:
            if not config.control:
                raise Standby(standby.what, "CONTROL=off: it takes no commands; stop it first") from None
            if time.monotonic() > until:
                raise
            time.sleep(0.3)  # it holds the lease already, and will listen in a moment


async def _run(config: settings.Receive, options: argparse.Namespace, printer: commands.Printer | None = None) -> int:
    stop = Stop()
    stop.install(on_hangup=log.reopen)
    parts = _parts(config)
    daemon = Daemon(stop, _log, Backoff(config.reconnect_min, config.reconnect_max))
    parts.status.follow(lambda: (daemon.state, daemon.state_since))
    opened = functools.partial(_opened, config, parts, daemon)
    try:
        if printer is not None:
            async with opened(consume=False) as receiver:
                return await commands.carry_out(receiver, options, printer)
        if options.drain:
            async with opened() as receiver:
                return await Drain(config, receiver, options.limit, options.max_seconds).run()
        _log.info("starting", queue=config.queue, target=config.target, workers=config.workers)
        transport.warn(config, _log)
        holder, learnt = Holder(config), parts.declared.learnt
        ask = functools.partial(management_api.ask, config)
        lookout = Lookout(ask, config, lambda: harm.ours(config, learnt))

        async def session() -> None:
            try:
                async with opened(lookout=lookout) as receiver:
                    await receiver.run()
            except Standby as standby:
                await _look_at(holder, config, stop)
                raise holder.said(standby) from None

        async with (
            shown(parts.status, config, _log),
            alert_command.alerting(config, daemon, f"receiver of {config.queue}", parts.status.troubles, _log),
        ):
            return await daemon.run(session)
    finally:
        await parts.workers.end()


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
    where = endpoint.shown() if endpoint else config.target
    retries = max(1, config.workers // 4)
    rank = target.rank if isinstance(target, Ranked) and config.order != "global" else None
    lanes = Lanes(config.order, target.group, remember=4 * config.prefetch, retries=retries, rank=rank)
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
        where=where,
    )
    index = ParkedIndex(barriers=config.order == "key")
    summary = Summary(dispatcher, lanes, index, _log)
    status = Status(config, dispatcher, lanes, workers, index, where)
    return Parts(lanes, dispatcher, workers, index, Declared(config), Strays(config), summary, status)


if __name__ == "__main__":
    sys.exit(cli.run(main))
