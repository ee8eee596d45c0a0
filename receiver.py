#!/usr/bin/env python3
"""The receiving daemon: events from a queue, each to an endpoint; acknowledged on success only."""

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it, without a traceback, until cli.run does

import argparse
import collections
import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Awaitable, Iterator
from pathlib import Path

import connection
from relay import alert_command, checks, cli, consumers, findings, log, setting, targets, transport
from relay import config as settings
from relay.amqp import look, management_api, rights
from relay.amqp.session import Session
from relay.daemon import Stop, run
from relay.delivery import MapsRows
from relay.errors import ConfigError, RelayError, Standby
from relay.findings import Finding, of_error
from relay.receiving import arguments as command_line
from relay.receiving import check, columns, commands, fill, status_command
from relay.receiving.drain import Drain
from relay.receiving.fence import Fence
from relay.receiving.lanes import plan as plans
from relay.receiving.lanes import several
from relay.receiving.lanes.change import Change
from relay.receiving.lanes.names import plan_name
from relay.receiving.lanes.seat import At, of_command, of_receiver
from relay.receiving.receiver import Receiver
from relay.receiving.resend import resend
from relay.receiving.sessions import Sessions
from relay.targets import trial
from relay.targets.only import Only
from relay.values import Lane

STARTING_SECONDS = 15.0  # from taking the lease to listening for commands: the parking lot is read in between

_log = log.Log("receiver")


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says. Return the process's exit status."""
    options = command_line.arguments(arguments)
    if options.command:
        log.setup("error")
    if getattr(options, "every", False):
        return _every(options)
    env_file = _source(options)
    if options.command == "check":
        return findings.report(_check(env_file, options), style=options.style)
    if options.command == "mapping":
        return _mapping(env_file, options)
    config = _load(env_file, runs=not options.command)
    if options.command:
        return _do(config, options)
    log.setup(config.log_level, config.log_file, config.log_format)
    findings.warn_of_exposed(setting.read_by_others(type(config), env_file), _log)
    sessions = _sessions(config)
    if not options.drain:
        return run(sessions.run)
    limits = options.limit, options.max_seconds
    return run(lambda: sessions.once(lambda config, receiver: Drain(config, receiver, *limits).run(), consume=True))


def _do(config: settings.Receive, options: argparse.Namespace) -> int:
    """A command about what is in RabbitMQ."""
    if options.command == "lanes":
        return run(functools.partial(_lanes, config, options.to))
    if options.command == "try":
        return _try(config, options)
    found = _found(config, changes=options.command not in ("status", "unbind"))
    if options.command == "unbind":
        return _unbind(found[0], options.key)
    if options.command == "status" and len(found) == 1:
        return cli.watched(functools.partial(_status, found[0].here, options), options.watch)
    if options.command == "status":
        shown = {at.here.queue: functools.partial(_status_here, at.here) for at in found}
        return cli.watched(functools.partial(status_command.status_of_each, shown, as_json=options.json), options.watch)
    if options.command == "resend":
        return _resend(found[0], options)
    if len(found) == 1:
        return _command(found[0], options, commands.Printer(options))
    return several.of_each({at.here.queue: functools.partial(_command, at, options) for at in found}, options)


def _found(config: settings.Receive, *, changes: bool) -> list[At]:
    """Where a command looks: see `of_command`."""
    if config.lane is None:
        with connection.rabbitmq_now(config, name="relay receiver command") as handle:
            if commands.look_at(handle, plan_name(config.queue)) is None:
                return of_command(config, None, changes=changes)
    found: list[At] = []

    async def look() -> int:
        async with Session(Stop(), rights.command(config)) as session:
            session.attach(await connection.open_rabbitmq(config, name="relay receiver command"))
            found.extend(of_command(config, await plans.read(session, config.queue), changes=changes))
        return 0

    run(look)
    return found


async def _lanes(config: settings.Receive, total: int | None) -> int:
    """Show how many there are, or change it."""
    stop = Stop()
    stop.install(on_hangup=log.reopen)
    another = functools.partial(connection.open_rabbitmq, config, name=f"relay receiver lanes of {config.queue}")
    wanted = dataclasses.replace(config, lane=Lane(0, max(2, total or 2)))
    async with Session(stop, rights.command(wanted)) as session:
        session.attach(await another())
        if total is None:
            cli.print_line(plans.told(config.queue, await plans.read(session, config.queue)))
            return 0
        await Change(config, session, Fence(session, another, collections.Counter()), cli.print_now).run(total)
    return 0


def _source(options: argparse.Namespace) -> consumers.Source:
    """Where the settings are: the env file, or a consumer's section."""
    if options.consumer is None:
        return setting.env_file(options.env_file, __file__)
    return consumers.find(options.consumer, _consumers_file(options), options.env_file)


def _consumers_file(options: argparse.Namespace) -> Path:
    beside: Path = options.env_file or Path(__file__)
    return options.consumers or beside.resolve().parent / consumers.FILE


def _every(options: argparse.Namespace) -> int:
    """`check` or `status` of all consumers."""
    found = {one.name: one for one in consumers.every(_consumers_file(options), options.env_file)}
    if options.command == "check":
        each = {name: functools.partial(_check, one, options) for name, one in found.items()}
        return findings.report(findings.of_each(each), style=options.style)
    shown = {name: functools.partial(_status_of, one) for name, one in found.items()}
    return cli.watched(functools.partial(status_command.status_of_each, shown, as_json=options.json), options.watch)


def _status_of(source: consumers.Source) -> status_command.Shown:
    return _status_here(_found(_load(source, runs=False), changes=False)[0].here)


def _status_here(config: settings.Receive) -> status_command.Shown:
    with connection.rabbitmq_now(config, name="relay receiver status") as handle:
        return status_command.look_at_status(handle, config)


def _check(env_file: consumers.Source, options: argparse.Namespace) -> Iterator[Finding]:
    """Nothing is changed, and no event touched: it may run beside the receiver."""
    config = _load(env_file, runs=False)
    if options.match or options.columns:
        yield from _check_table(config, options)
        return
    yield from findings.exposed(setting.read_by_others(type(config), env_file))
    yield from checks.log_file(config.log_file)
    yield from checks.status_addr(config.status_addr)
    yield from alert_command.findings(config)
    yield from transport.findings(config)
    try:
        here = of_receiver(config, _found(config, changes=False)).here
        with connection.rabbitmq_now(config, name="relay receiver check") as handle:
            ask = functools.partial(management_api.ask, config)
            yield from check.rabbitmq(handle, here, ask, checks.limits(options))
        with contextlib.suppress(RelayError):  # that it is not asked is told already
            yield checks.of_clock("RabbitMQ", *management_api.clock(config))
        yield from look.certificates(config)
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


def _mapping(env_file: consumers.Source, options: argparse.Namespace) -> int:
    config, write = cli.load(lambda: targets.mapper(env_file), env_file, runs=False)
    given = _columns(config, options.table, options.columns)
    return run(functools.partial(write, config, options.table, options.model, given))


def _columns(config: settings.Receive, table: str, given: str) -> str:
    """What --columns says: @ and the SOURCE of a listener = it is asked."""
    if not given.startswith("@"):
        return command_line.columns(given)
    with connection.rabbitmq_now(config, name="relay receiver columns") as handle:
        return columns.of_table(handle, given[1:], config.command_key, table)


def _load(env_file: consumers.Source, *, runs: bool) -> settings.Receive:
    return cli.load(lambda: targets.load(env_file), env_file, runs=runs)


def _unbind(at: At, key: str) -> int:
    lanes = at.place.generation.exchange if at.place.is_lane else ""
    with connection.rabbitmq_now(at.config, name="relay receiver unbind") as handle:
        return commands.unbind(handle, at.config, key, lanes)


def _resend(at: At, options: argparse.Namespace) -> int:
    config = at.config
    if at.place.is_lane:
        what = f"receiver.py resend is to one queue alone, and {config.queue} has {at.place.generation.lanes} lanes"
        raise ConfigError(
            (what, f"listen.py resend {options.table}, which all consumers get; or receiver.py lanes --to 1")
        )
    wish = fill.Wish(options.source or config.source, options.table, config.queue, options.key, options.after)
    with connection.rabbitmq_now(config, name="relay receiver resend") as handle:
        return resend(handle, config, wish)


def _status(config: settings.Receive, options: argparse.Namespace) -> int:
    return _status_here(config).show(as_json=options.json)


def _try(config: settings.Receive, options: argparse.Namespace) -> int:
    """Nothing is acknowledged or parked: what comes of it is shown, and nothing else. A file needs no RabbitMQ."""
    target, name, status = targets.make(config), options.event, cli.EX_FAILED
    try:
        if trial.is_file(name):
            event = trial.read(name)
        else:
            keeper = commands.Keeper(options)
            for at in _found(config, changes=True):
                if not keeper.event:
                    status = _command(at, argparse.Namespace(command="show", id=name), keeper)
            if not keeper.event:
                return status
            event = trial.shown(keeper.event)
    except trial.NoEvent as error:
        log.complain(f"receiver.py try: {name}: {error}")
        return commands.EX_USAGE
    return run(functools.partial(trial.run, config, target, event, sends=not options.dry_run))


def _command(at: At, options: argparse.Namespace, printer: commands.Printer) -> int:
    """Let the running receiver do it; with none, do it ourselves."""
    config, here = at.config, at.here
    until, sessions = time.monotonic() + STARTING_SECONDS, None

    def do(_config: settings.Receive, receiver: Receiver) -> Awaitable[int]:
        return commands.carry_out(receiver, options, printer)

    while True:
        with connection.rabbitmq_now(config, name=f"relay receiver {options.command}") as handle:
            status = commands.ask_running(handle, here, options, printer)
        if status is not None:
            return status
        sessions = sessions or _sessions(config)
        try:
            return run(functools.partial(sessions.once, do, consume=False))
        except Standby as standby:
            if not config.control:
                raise Standby(standby.what, "CONTROL=off: it takes no commands; stop it first") from None
            if time.monotonic() > until:
                raise
            time.sleep(0.3)  # it holds the lease already, and will listen in a moment


def _sessions(config: settings.Receive) -> Sessions:
    return Sessions(
        config,
        functools.partial(targets.make, config),
        Only(config.only).wants,
        lambda name: connection.open_rabbitmq(config, name=name),
        lambda name: connection.rabbitmq_now(config, name=name),
    )


if __name__ == "__main__":
    cli.leave(cli.run(main))
