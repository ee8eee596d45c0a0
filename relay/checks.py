"""What both `check` commands look at: their options, clocks, LOG_FILE, how fast something fills and empties."""

import argparse
import dataclasses
import errno
import math
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from relay.cli import duration
from relay.errors import one_line
from relay.findings import Finding, failed, warning
from relay.urls import Address

SKEW_MAX = 5.0  # seconds between two clocks that nobody minds
ENDS_SOON = 14 * 86_400.0  # seconds that a certificate still lives: worth a line; of one that lives shorter, a third


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """From which on `check` calls something too much: first a warning, then failed. None = never.

    Args:
        age: seconds that the oldest event waits.
        waiting: events.
        parked: keys that wait for a person.
        transaction: seconds that a transaction is open.
    """

    age: tuple[float | None, float | None] = (300.0, None)
    waiting: tuple[float | None, float | None] = (None, None)
    parked: tuple[float | None, float | None] = (0.0, None)
    transaction: tuple[float | None, float | None] = (600.0, None)


def add_options(parser: argparse.ArgumentParser, *, parked: bool) -> None:
    """The options of `check`."""
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--json", action="store_const", const="json", dest="style", help="as JSON, for programs")
    style.add_argument(
        "--nagios", action="store_const", const="nagios", dest="style",
        help="one line and exit status 0, 1, 2 or 3, for Nagios, Icinga, Checkmk and the like",
    )  # fmt: skip
    parser.set_defaults(style="text")
    limits = Limits()
    names = [("age", "SECONDS", "the oldest event waits for longer", limits.age)]
    names.append(("waiting", "N", "more events wait", limits.waiting))
    if parked:
        names.append(("parked", "N", "more keys wait for a person", limits.parked))
    else:
        names.append(("transaction", "SECONDS", "a transaction is open for longer", limits.transaction))
    for name, unit, what, (warn, fail) in names:
        for level, default in (("warn", warn), ("fail", fail)):
            shown = "" if default is None else f" (default {default:g})"
            parser.add_argument(
                f"--{level}-{name}", type=limit, default=default, metavar=unit, help=f"{level}, if {what}{shown}"
            )


def limit(text: str) -> float:
    """Parse a number for argparse, from 0 on."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError("write a number, 0 or more")
    return value


def limits(options: argparse.Namespace) -> Limits:
    """What the command line says."""

    def pair(name: str) -> tuple[float | None, float | None]:
        return getattr(options, f"warn_{name}", None), getattr(options, f"fail_{name}", None)

    return Limits(*(pair(one.name) for one in dataclasses.fields(Limits)))


def of_clock(server: str, theirs: float, before: float, after: float) -> Finding:
    """Compare clocks: what people read in logs, and what expires, goes by them.

    Args:
        theirs: what the server says, in seconds of the epoch.
        before, after: what this host said before the question, and after the answer.
    """
    ahead = max(0.0, theirs - after) - max(0.0, before - theirs)
    if abs(ahead) < SKEW_MAX:
        return Finding(f"clock of {server}", detail="as this host's")
    said = f"{abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this host's"
    return warning(f"clock of {server}", said, "timedatectl on both hosts: is NTP at work?")


def of_certificate(
    server: str,
    address: tuple[str, int],
    context: ssl.SSLContext,
    seconds: float,
    before: Callable[[socket.socket], object] = lambda _sock: None,
) -> Iterator[Finding]:
    """When does a server's certificate run out? Nothing, where it can't be had: that is told elsewhere.

    Args:
        address: host and port.
        context: checks certificates; by one that does not, nothing is learnt.
        seconds: for each word of it.
        before: what is said before TLS begins.
    """
    try:
        with socket.create_connection(address, seconds) as plain:
            before(plain)
            with context.wrap_socket(plain, server_hostname=address[0]) as secure:
                found = secure.getpeercert() or {}
        begins, ends = (ssl.cert_time_to_seconds(str(found[name])) for name in ("notBefore", "notAfter"))
        day = time.strftime("%Y-%m-%d", time.gmtime(ends))
    except (OSError, ValueError, LookupError, OverflowError):
        return
    left = ends - time.time()
    if left > min(ENDS_SOON, (ends - begins) / 3):
        yield Finding(f"certificate of {server}", detail=f"good until {day}")
    else:
        yield warning(f"certificate of {server}", f"it runs out in {duration(max(0.0, left))}, on {day}", "renew it")


def log_file(path: str) -> Iterator[Finding]:
    """Can LOG_FILE be written? It is neither made nor touched."""
    if not path:
        return
    file = Path(path)
    directory = file.parent
    if file.is_dir():
        yield failed("LOG_FILE", f"{path} is a directory", "name a file in it")
    elif file.is_fifo():
        yield failed("LOG_FILE", f"{path} is a pipe: who writes into it waits for who reads", "name a file")
    elif not directory.is_dir():
        yield failed("LOG_FILE", f"there is no directory {directory}", "make it, or name another file")
    elif os.statvfs(directory).f_flag & os.ST_RDONLY:
        yield failed("LOG_FILE", f"{directory} is on a read-only file system", "name a file on another one")
    elif not os.access(file if file.exists() else directory, os.W_OK):
        yield failed("LOG_FILE", f"this user may not write {path}", f"run check as the daemon's user; or chown {path}")
    elif not os.statvfs(directory).f_bavail:
        yield warning("LOG_FILE", f"the disk of {directory} is full: lines go to standard error", "make room there")


def status_addr(where: Address | None) -> Iterator[Finding]:
    """Can STATUS_ADDR be listened on? It is taken and left at once; the daemon at work has it already."""
    if where is None:
        return
    family = socket.AF_INET6 if ":" in where.host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as asyncio does
            probe.bind((where.host, where.port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            yield Finding("STATUS_ADDR", detail=f"{where} is in use: by the daemon, if it is at work")
        else:
            remedy = "write an address of this host, 127.0.0.1:9464 for example, and a port above 1023"
            yield failed("STATUS_ADDR", f"{where} can't be used: {one_line(error)}", remedy)


def size(octets: float) -> str:
    """Bytes for people: 12 MiB."""
    for unit, one in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if octets >= one:
            return f"{octets / one:.0f} {unit}"
    return f"{octets:.0f} bytes"


def flow(come: float, go: float, waiting: float) -> str:
    """How what waits fills and empties, in words.

    Args:
        come, go: events a second.
        waiting: events.
    """
    if go <= 0 and come <= 0:
        return "none comes and none goes"
    said = f"{come:.0f} a second come, {max(0.0, go):.0f} go"
    if go > come:
        return f"{said}: gone in about {duration(waiting / (go - come))}"
    return f"{said}: it grows" if come > go else said
