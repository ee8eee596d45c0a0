"""`listen.py resend` for a person: a bar for each table, and the command that goes on where one was interrupted."""

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from relay import cli
from relay.listening.resend import Resent
from relay.log import complain, printable


class Copy(Protocol):
    """Copies the rows of a table into the outbox. See resend.resend."""

    def __call__(
        self,
        table: str,
        resent: Resent,
        *,
        chunk: int,
        progress: Callable[[int], object],
        waits: Callable[[str], None],
    ) -> None: ...


Total = Callable[[str], int | None]
"""About how many rows a table has; None = not known."""


def resend(
    arguments: argparse.Namespace, tables: Sequence[str], copy: Copy, total: Callable[[str], int | None]
) -> None:
    """Send one table after the other.

    Args:
        arguments: of `listen.py resend`.
        tables: their names, as they were given.

    Raises:
        RelayError: as `copy`, once a person has been told how to go on.
    """
    for at, table in enumerate(tables):
        resent = Resent(arguments.after if at == 0 else None)
        try:
            _one(arguments, table, resent, copy, total)
        except BaseException:
            if resent.rows or at:
                sent = f"{cli.plural(resent.rows, 'row')}{f' of {table}' if len(tables) > 1 else ''} sent"
                complain(f"{sent}; to go on: {_again(arguments, tables[at:], resent)}")
            raise
        cli.print_line(f"{cli.plural(resent.rows, 'row')} of {table} sent")


def _one(arguments: argparse.Namespace, table: str, resent: Resent, copy: Copy, total: Total) -> None:
    from tqdm import tqdm  # here: the daemon and the other commands have no bar

    whole = arguments.where is None and resent.after is None
    with tqdm(unit=" rows", desc=table, disable=None, total=total(table) if whole else None) as bar:

        def waits(why: str) -> None:
            bar.set_postfix_str(printable(why))
            if bar.disable and why:
                complain(f"{table}: {why}")

        copy(table, resent, chunk=arguments.chunk, progress=bar.update, waits=waits)


def _again(arguments: argparse.Namespace, tables: Sequence[str], resent: Resent) -> str:
    """The command that goes on where this one ended."""
    words = [Path(sys.argv[0]).name]
    words += ["--env-file", str(arguments.env_file)] if arguments.env_file else []
    words += ["resend", *(tables if arguments.order is None else ["--order", ",".join(tables)])]
    words += ["--where", arguments.where] if arguments.where else []
    words += ["--queue", arguments.queue] if arguments.queue else []
    words += ["--after", resent.after] if resent.after else []
    return shlex.join([*words, "--chunk", str(arguments.chunk)])
