#!/usr/bin/env python3
"""Daemon 2: RabbitMQ -> Odoo. Takes events from a queue and hands each to an endpoint; acknowledges on success only.

receiver.py [--env-file FILE]
"""

import argparse
import sys
import time
from pathlib import Path

from pika.adapters.select_connection import IOLoop

import connection
from relay import config as settings
from relay import log
from relay.consumer import Session
from relay.courier import Courier
from relay.daemon import EX_CONFIG, Daemon, Stop, report
from relay.dispatch import Dispatch
from relay.errors import ConfigError
from relay.retry import Backoff
from relay.targets import make
from relay.workers import Workers

_log = log.Log("receiver")


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon. Return the process's exit status."""
    options = _parser().parse_args(arguments)
    try:
        config = settings.load(settings.Receive, options.env_file)
        log.setup(config.log_level, config.log_file)
        return run(config)
    except ConfigError as error:
        report(error)
        return EX_CONFIG


def run(config: settings.Receive) -> int:
    """Deliver until asked to stop."""
    stop = Stop()
    stop.install()
    target = make(config)
    dispatch = Dispatch(group=target.group, remember=2 * config.window_events)
    workers = Workers(target, config.workers)
    courier = Courier(
        dispatch,
        workers,
        batch_size=target.batch_size,
        retry=(config.retry_min, config.retry_max),
        clock=time.monotonic,
        log=_log,
    )
    daemon = Daemon(stop, _log, Backoff(config.reconnect_min, config.reconnect_max))

    def session() -> None:
        loop = IOLoop()
        name = f"relay receiver {config.queue}"
        handle = connection.open_rabbitmq(config, name=name, loop=loop, stop=stop)
        Session(config, handle, loop, dispatch, courier, workers, daemon).run()

    _log.info("starting", queue=config.queue, target=config.target, workers=config.workers)
    status = daemon.run(session)
    workers.end()
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="receiver.py", description="Delivers events from RabbitMQ to an endpoint.")
    default = Path(__file__).resolve().parent / "config.env"
    parser.add_argument("--env-file", type=Path, default=default, metavar="FILE", help=f"settings (default: {default})")
    return parser


if __name__ == "__main__":
    sys.exit(main())
