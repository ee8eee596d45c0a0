"""What both command lines share. However they end, a user who caused it sees one line and never a traceback."""

import argparse
import os
import sys
from collections.abc import Callable

from relay.daemon import EX_CONFIG, EX_TEMPFAIL, report
from relay.errors import ConfigError, RelayError

EX_FAILED = 1
EX_INTERRUPTED = 130  # as a shell shows it: 128 + SIGINT


def run(main: Callable[[], int]) -> int:
    """Call `main`; return its exit status, or that of the error it ended with."""
    try:
        status = main()
        sys.stdout.flush()  # here, where a closed pipe can be caught, not while the interpreter exits
    except ConfigError as error:
        report(error)
        return EX_CONFIG
    except RelayError as error:
        report(error)
        return EX_TEMPFAIL
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return EX_INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough; the interpreter flushes once more, into nothing
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_FAILED
    return status


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
