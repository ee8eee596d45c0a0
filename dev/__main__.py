"""python -m dev up | down | status | fetch: a developer's private PostgreSQL and RabbitMQ below .run."""

from __future__ import annotations

import argparse
import os
import sys

from dev import debian, mariadb, session
from dev.process import ServerError
from dev.stack import OfPostgres, Stack


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0 done (status: both run), 1 not done, with the reason on stderr."""
    parser = argparse.ArgumentParser(prog="python -m dev", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start both servers and write .run/config.env; harmless if they run")
    up.add_argument("--pg", default="embedded", help="embedded, system, or a directory with its programs")
    commands.add_parser("down", help="stop both and remove .run")
    commands.add_parser("status", help="say what runs")
    commands.add_parser("fetch", help="have RabbitMQ's and MariaDB's files in .cache, without starting anything")
    options = parser.parse_args(arguments)
    try:
        if options.command in {"up", "fetch"}:
            debian.find(os.environ.get("RABBITMQ_SUITE") or None)
        if options.command == "fetch":
            mariadb.find()
            return 0
        stack = Stack(source=OfPostgres(session.RUN, getattr(options, "pg", "embedded")))
        return {"up": _up, "down": _down, "status": _status}[options.command](stack)
    except ServerError as error:
        print(f"dev {options.command}: {error}", file=sys.stderr)
        return 1


def _up(stack: Stack) -> int:
    already = stack.running()
    if not already:
        print("starting PostgreSQL and RabbitMQ")
    stack.up()
    print("already running" if already else "running")
    print("\n".join(stack.describe()))
    return 0


def _down(stack: Stack) -> int:
    was_running = stack.directory.exists()
    stack.down()
    print("stopped, .run removed" if was_running else "nothing runs")
    return 0


def _status(stack: Stack) -> int:
    print("\n".join(stack.describe()))
    return 0 if stack.running() else 1


if __name__ == "__main__":
    sys.exit(main())
