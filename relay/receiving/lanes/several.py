"""A command of receiver.py for all lanes of a queue: one after another, and one answer."""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from relay.cli import EX_FAILED, print_line
from relay.daemon import EX_OK
from relay.log import complain
from relay.receiving.commands import Printer, print_json


class LanePrinter(Printer):
    """Prints what one lane answers, and keeps what may be true of all the others: an event lies in one of them."""

    def __init__(self, options: argparse.Namespace) -> None:
        super().__init__(options)
        self.complaint = ""
        self.parked: list[dict[str, Any]] = []

    def _complain(self, what: str) -> None:
        self.complaint = what

    def _list(self, parked: list[dict[str, Any]]) -> None:
        self.parked = parked
        if not self._options.json:
            super()._list(parked)


def of_each(each: Mapping[str, Callable[[Printer], int]], options: argparse.Namespace) -> int:
    """Carry out a command in each lane. Return the exit status: the worst of those that it was about.

    Args:
        each: by queue, what does it there.

    Raises:
        RelayError: as the first that does.
    """
    worst, complaints, parked = None, dict[str, str](), dict[str, Any]()
    as_json = getattr(options, "json", False)
    for queue, do in each.items():
        printer = LanePrinter(options)
        if not as_json:
            print_line(f"[{queue}]")
        status = do(printer)
        parked[queue] = printer.parked
        if printer.complaint and status == EX_FAILED:
            complaints[queue] = printer.complaint
        else:
            if printer.complaint:
                complain(printer.complaint)
            worst = max(worst or EX_OK, status)
    if as_json:
        print_json(parked)
    if worst is None:
        complain(next(iter(complaints.values()), "nothing was done"))
    return EX_FAILED if worst is None else worst
