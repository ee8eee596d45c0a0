"""What both command lines share. However they end, a user who caused it sees one line and never a traceback."""

import argparse
import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from relay.daemon import EX_CONFIG, EX_SOFTWARE, EX_TEMPFAIL, Defect, report
from relay.errors import ConfigError, RelayError, one_line, place
from relay.log import printable, setup, to_file

T = TypeVar("T")

EX_FAILED = 1
EX_INTERRUPTED = 130  # as a shell shows it: 128 + SIGINT


def run(main: Callable[[], int]) -> int:
    """Call `main`; return its exit status, or that of the error it ended with."""
    sys.excepthook = lambda _kind, error, trace: _tell_defect(error, trace)
    threading.excepthook = lambda args: _tell_defect(args.exc_value, args.exc_traceback)
    try:
        status = main()
        sys.stdout.flush()  # here, where a closed pipe can be caught, not while the interpreter exits
    except ConfigError as error:
        report(error)
        return EX_CONFIG
    except RelayError as error:
        report(error)
        return EX_TEMPFAIL
    except Defect as defect:
        cause = defect.__cause__
        _tell_defect(cause, cause.__traceback__ if cause else None)
        return EX_SOFTWARE
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return EX_INTERRUPTED
    except OSError as error:
        if not isinstance(error, BrokenPipeError):  # else `| head` has seen enough
            report(RelayError(f"{one_line(error)} ({place(error)})"))
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # it is flushed once more: into nothing
        return EX_FAILED
    return status


def load(read: Callable[[], T], *, runs: bool) -> T:
    """Read the settings. Those of a daemon (`runs`) that can't be used are told in the LOG_FILE that they name, too.

    Raises:
        ConfigError: everything that is wrong with them.
    """
    try:
        return read()
    except ConfigError as error:
        if runs and error.log_file:
            with contextlib.suppress(ConfigError):
                setup(file=error.log_file)
        raise


def _tell_defect(error: BaseException | None, trace: TracebackType | None) -> None:
    """A defect of ours, as Python tells it, but for the exception's own words: they may quote a secret."""
    lines = traceback.format_tb(trace)
    said = f"{type(error).__name__}: {one_line(error)}"
    sys.stderr.write(f"Traceback (most recent call last):\n{''.join(lines)}{said}\n")
    if error is not None:
        program = Path(sys.argv[0]).name.removesuffix(".py")
        to_file(program, [f"defect, please report it: {said} ({place(error)})"])


def say(line: str) -> None:
    """Print one line for a person, whatever is in it."""
    encoding = sys.stdout.encoding or "utf-8"  # a terminal of Latin-1 has no word for most
    sys.stdout.write(printable(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def agreed(question: str, answers: tuple[str, ...]) -> bool:
    """Ask a person; an input that is closed (cron, Ctrl-D) is a no."""
    try:
        return input(question).strip().lower() in answers
    except EOFError:
        sys.stderr.write("\n")
        return False


def positive(text: str) -> int:
    """Parse a number for argparse, from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("write a number from 1 on")
    return int(text)


def counted(count: int, name: str) -> str:
    """1 event, 2 events."""
    return f"{count} {name}" + ("" if count == 1 else "s")
