"""The receiver's command line: what it takes."""

import argparse
import sys
from pathlib import Path

from relay import checks, cli, values
from relay.cli import positive
from relay.errors import ConfigError
from relay.values import LANES_MAX


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made, add = cli.parser(
        "Delivers events from a RabbitMQ queue to an HTTP endpoint, into Odoo or to Python functions."
    )

    def command(name: str, does: str) -> argparse.ArgumentParser:
        one = add(name, does)
        _add_consumer(one, argparse.SUPPRESS)
        return one

    _add_consumer(made, None)
    made.add_argument("--drain", action="store_true", help="deliver what is there, then exit; 75 = try again later")
    made.add_argument("--limit", type=positive, metavar="N", help="with --drain: deliver at most N events")
    made.add_argument("--max-seconds", type=checks.limit, metavar="S", help="with --drain: stop after S seconds")
    shown = command("status", "show how the running receiver is, and what waits")
    cli.add_json(shown)
    cli.add_watch(shown)
    _add_every(shown)
    parked = command("parked", "list what waits in the parking lot")
    cli.add_json(parked)
    _add_filters(parked)
    show = command("show", "show one parked event with its body")
    show.add_argument("id", metavar="ID", help="what parked calls it, or the event's id")
    attempt = command("try", "send one event, and show the request, the answer and the verdict; it stays where it is")
    attempt.add_argument(
        "event", metavar="EVENT.json|ID", help="a file (- = standard input), or what parked calls an event, or its id"
    )
    attempt.add_argument("--dry-run", action="store_true", help="send nothing that would change anything there")
    replay = command("replay", "deliver parked events again, each key in its order")
    _add_filters(replay)
    replay.add_argument("id", nargs="?", default=argparse.SUPPRESS, metavar="ID", help="as --id")
    replay.add_argument("--all", action="store_true", help="all of them")
    discard = command("discard", "throw parked events away")
    _add_filters(discard)
    discard.add_argument("id", nargs="?", default=argparse.SUPPRESS, metavar="ID", help="as --id")
    discard.add_argument("--all", action="store_true", help="all of them")
    discard.add_argument("--yes", action="store_true", help="do not ask")
    resend = command("resend", "have a watched table's rows sent again by its listener, to this queue alone")
    resend.add_argument("table", metavar="TABLE", help="for example public.orders")
    resend.add_argument("--key", metavar="KEY", help='only the row with this key, for example {"id": 42}')
    resend.add_argument("--after", metavar="KEY", help="go on after this key")
    resend.add_argument(
        "--source", type=_source, metavar="NAME", help="the listener's SOURCE (default: SOURCE of the settings)"
    )
    unbind = command("unbind", "end a binding of the queue that BINDING_KEYS does not name any more")
    unbind.add_argument("key", metavar="KEY", help="the old binding key, for example '#'")
    lanes = command("lanes", "show how many lanes the queue has, or give it another number of them")
    lanes.add_argument(
        "--to", type=int, metavar="N", help="have N of them, each with a receiver of its own; 1 = the queue itself"
    )
    first = command("mapping", "write a first mapping of a table to a model of Odoo, with # ? where it guesses")
    first.add_argument("table", metavar="TABLE", help="for example public.customers")
    first.add_argument("model", metavar="MODEL", help="for example res.partner")
    first.add_argument(
        "--columns", type=_columns, metavar="COLUMNS", required=True,
        help="'id int primary key, name text', or names alone; - = standard input; @erp = the listener of SOURCE erp",
    )  # fmt: skip
    look = command("check", "look whether RabbitMQ, the endpoint and the settings fit each other")
    checks.add_options(look, parked=True)
    _add_every(look)
    look.add_argument(
        "--match", metavar="TABLE",
        help="of TARGET=odoo-load: count which rows (JSON, one a line, from standard input) have a record in Odoo",
    )  # fmt: skip
    look.add_argument(
        "--columns", nargs=2, metavar=("TABLE", "COLUMNS"),
        help="of TARGET=odoo-load: does the mapping fit these columns of the table? As mapping --columns has them",
    )  # fmt: skip
    return made


def _source(text: str) -> str:
    try:
        return values.source_name(text)
    except values.Invalid as error:
        raise argparse.ArgumentTypeError(f"{error.what}: {error.remedy}") from None


def _columns(text: str) -> str:
    return f"@{_source(text[1:])}" if text.startswith("@") else text


def columns(given: str) -> str:
    """What --columns says; of - what standard input says. Raises ConfigError: that is no text."""
    if given != "-":
        return given
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig")
    except (AttributeError, UnicodeDecodeError):  # closed; or of another encoding
        raise ConfigError(("--columns -: standard input is no UTF-8 text", "psql -At writes UTF-8")) from None


def arguments(given: list[str] | None) -> argparse.Namespace:
    """Parse the command line; ends the process with status 2, and the reason, if it will not do."""
    made = parser()
    options = made.parse_args(given)
    if not options.drain and (options.limit is not None or options.max_seconds is not None):
        made.error("--limit and --max-seconds need --drain")
    if getattr(options, "every", False) and options.consumer:
        made.error("--all is of all consumers, and --consumer of one")
    if getattr(options, "every", False) and options.command == "check" and (options.match or options.columns):
        made.error("--match and --columns look at one consumer: name it by --consumer")
    if getattr(options, "to", None) is not None and not 1 <= options.to <= LANES_MAX:
        made.error(f"lanes --to: write a number from 1 to {LANES_MAX}")
    if options.consumers and not (options.consumer or getattr(options, "every", False)):
        made.error("--consumers needs --consumer NAME, or --all")
    return options


def _add_consumer(made: argparse.ArgumentParser, default: str | None) -> None:
    made.add_argument(
        "--consumer", metavar="NAME", default=default, help="take the settings of [NAME] in consumers.toml"
    )
    detail = (
        "that file; default: consumers.toml beside the env file. Where it has no [NAME], NAME.env beside it is taken"
    )
    made.add_argument("--consumers", type=Path, metavar="FILE", default=default, help=detail)


def _add_every(made: argparse.ArgumentParser) -> None:
    made.add_argument("--all", dest="every", action="store_true", help="of all consumers in consumers.toml")


def _add_filters(made: argparse.ArgumentParser) -> None:
    made.add_argument("--id", help="the key whose first parked event has this id, or is called this by parked")
    made.add_argument("--key", help="only this key, e.g. 'public.orders {\"id\":42}'")
    made.add_argument("--table", help="only this table")
    made.add_argument("--reason", help="only those whose reason contains this")
    made.add_argument(
        "--unsigned", action="store_const", const="yes", help="only what is not signed with the secret of SIGN_EVENTS"
    )
