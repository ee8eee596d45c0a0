"""What both command lines share. However they end, a user who caused it sees one line and never a traceback."""

import argparse
import contextlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn, TypeVar

import relay
from relay.daemon import EX_CONFIG, EX_SOFTWARE, EX_TEMPFAIL, Defect, report
from relay.errors import ConfigError, NotFound, RelayError, one_line, place
from relay.log import printable, setup, to_file

T = TypeVar("T")
Subcommand = Callable[[str, str], argparse.ArgumentParser]

NO_FILE = ("no settings file was read", "give --env-file FILE, or make config.env beside the script")
EX_FAILED = 1
LEAVE_SECONDS = 3.0  # for threads of a Python handler's, which it has left running
EX_INTERRUPTED = 130  # as a shell shows it: 128 + SIGINT
NUMBER_MAX = 1_000_000_000  # of an option: seconds that can be waited, rows that PostgreSQL can count


def run(main: Callable[[], int]) -> int:
    """Call `main`; return its exit status, or that of the error it ended with."""
    _open_closed()
    sys.excepthook = lambda _kind, error, trace: _report_defect(error, trace)
    threading.excepthook = lambda args: _report_defect(args.exc_value, args.exc_traceback)
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # of the script's first lines
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        status = main()
        sys.stdout.flush()  # here, where a closed pipe can be caught, not while the interpreter exits
    except ConfigError as error:
        report(error)
        return EX_CONFIG
    except RelayError as error:
        report(error)
        return EX_FAILED if isinstance(error, NotFound) else EX_TEMPFAIL
    except Defect as defect:
        cause = defect.__cause__
        _report_defect(cause, cause.__traceback__ if cause else None)
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


def _open_closed() -> None:
    """What whoever started us has closed (`>&-`) takes what is written, unread: the exit status still counts."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - for good


def leave(status: int) -> NoReturn:
    """End the process, with this status: threads that others have left running in it are not awaited for long."""
    if threading.active_count() > 1:  # an executor's are awaited although they may be daemons
        threading.Thread(target=_cut_off, args=(status,), daemon=True).start()
    sys.exit(status)


def _cut_off(status: int) -> None:
    time.sleep(LEAVE_SECONDS)  # if all goes well, the process ends before
    os._exit(status)


def parser(description: str) -> tuple[argparse.ArgumentParser, Subcommand]:
    """What both command lines have in common.

    Args:
        description: one sentence.

    Returns:
        The parser, and what adds a command to it: called with the command's name and what it does.
    """
    made = argparse.ArgumentParser(description=description, epilog="Without a command it runs until it is stopped.")
    made.add_argument("--version", action="version", version=f"relay {relay.__version__}")
    _add_env_file(made, None)
    kinds = made.add_subparsers(dest="command", metavar="COMMAND", title="commands")

    def subcommand(name: str, does: str) -> argparse.ArgumentParser:
        one = kinds.add_parser(name, help=does, description=f"{does[0].upper()}{does[1:]}.")
        _add_env_file(one, argparse.SUPPRESS)  # before the command or after it; where it is not, the other one stays
        return one

    return made, subcommand


def _add_env_file(made: argparse.ArgumentParser, default: str | None) -> None:
    detail = "settings; default: config.env beside the script, if it is there (of the package: /etc/relay/NAME.env)"
    made.add_argument("--env-file", type=Path, metavar="FILE", default=default, help=detail)


def add_json(made: argparse.ArgumentParser) -> None:
    """Let a command print its answer for programs."""
    made.add_argument("--json", action="store_true", help="as JSON, for programs")


def load(read: Callable[[], T], env_file: object, *, runs: bool) -> T:
    """Read the settings. Those of a daemon (`runs`) that can't be used are told in the LOG_FILE that they name, too.

    Args:
        read: does it.
        env_file: what it reads beside the environment; None = nothing, which may be why a setting is missing.
        runs: the daemon, not a command.

    Raises:
        ConfigError: everything that is wrong with them.
    """
    try:
        return read()
    except ConfigError as error:
        if runs and error.log_file:
            with contextlib.suppress(ConfigError):
                setup(file=error.log_file)
        if env_file is None and any(what.endswith(" is not set") for what, _remedy in error.problems):
            raise ConfigError(NO_FILE, *error.problems, log_file=error.log_file) from None
        raise


def _report_defect(error: BaseException | None, trace: TracebackType | None) -> None:
    """A defect of ours, as Python tells it, but for the exception's own words: they may quote a secret."""
    lines = traceback.format_tb(trace)
    detail = f"{type(error).__name__}: {one_line(error)}"
    sys.stderr.write(f"Traceback (most recent call last):\n{''.join(lines)}{detail}\n")
    if error is not None:
        program = Path(sys.argv[0]).name.removesuffix(".py")
        to_file(program, [f"defect, please report it: {detail} ({place(error)})"])


def print_line(line: str) -> None:
    """Print one line for a person, whatever is in it."""
    encoding = sys.stdout.encoding or "utf-8"  # a terminal of Latin-1 has no word for most
    sys.stdout.write(printable(line).encode(encoding, "backslashreplace").decode(encoding) + "\n")


def print_now(line: str) -> None:
    """The same, of something that takes its time."""
    print_line(line)
    sys.stdout.flush()


def agreed(question: str, answers: tuple[str, ...]) -> bool:
    """Ask a person; an input that is closed (cron, Ctrl-D, `<&-`) is a no."""
    try:
        return sys.stdin is not None and input(question).strip().lower() in answers
    except EOFError:
        sys.stderr.write("\n")
        return False


def positive(text: str) -> int:
    """Parse a number for argparse, from 1 on."""
    if not text.isdecimal() or len(text) > len(str(NUMBER_MAX)) or not 1 <= int(text) <= NUMBER_MAX:
        raise argparse.ArgumentTypeError(f"write a number from 1 to {NUMBER_MAX:,}")
    return int(text)


def plural(count: int, name: str) -> str:
    """1 event, 2 events."""
    return f"{count} {name}" + ("" if count == 1 else "s")


def duration(seconds: float) -> str:
    """Seconds for people: 5 s, 3 min, 2 h, 4 d."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def moment(seconds: float) -> str:
    """Seconds of the epoch for people. Raises ValueError: no calendar has it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds))
    except (OverflowError, OSError):
        raise ValueError("no time") from None


def add_watch(made: argparse.ArgumentParser) -> None:
    """Let a command show its answer again and again."""
    made.add_argument(
        "--watch",
        type=positive,
        nargs="?",
        const=2,
        metavar="SECONDS",
        help="show it again every 2 seconds, or so many",
    )


def watched(show: Callable[[], int], every: int | None) -> int:
    """Call `show` once; or, with `every`, again and again until Ctrl-C, on a screen of its own where there is one."""
    while every is not None:
        if sys.stdout.isatty():
            sys.stdout.write("\x1b[H\x1b[2J")
        try:
            show()
        except RelayError as error:
            report(error)
        sys.stdout.flush()
        time.sleep(every)
    return show()
