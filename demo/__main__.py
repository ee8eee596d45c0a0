"""python -m demo [stop]: airports from a database through RabbitMQ to an HTTP endpoint and into Odoo, with crashes.

KEEP=1 leaves everything running; PG=system takes the installed PostgreSQL, PG=/.../bin any other.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence

from demo import site, sources, tell
from demo.act import Act, Size
from demo.failed import Failed
from demo.records import Records
from demo.show import Show
from demo.site import Site
from dev.process import ServerError

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 all is well, 1 it is not."""
    options = _parser().parse_args(arguments)
    if options.command == "stop":
        return _stop()
    size = Size(options.airports, options.changes, quiet_seconds=options.quiet_seconds)
    keep = os.environ.get("KEEP", "") not in {"", "0"}
    for number in _SIGNALS[1:]:
        if signal.getsignal(number) is signal.SIG_DFL:  # else: nohup, which must stay
            signal.signal(number, signal.default_int_handler)
    return Run(size, options.source, keep=keep).run()


class Run:
    """One run: the site is made, played on, and left as it has to be left."""

    def __init__(self, size: Size, source: str, *, keep: bool) -> None:
        self._size = size
        self._keep = keep
        self._show = Show()
        site.sweep()
        self._site = Site.make(os.environ.get("PG") or "embedded", source)
        self._leave = self._site.remove

    def run(self) -> int:
        """Play, tell, clean up; the last line comes last."""
        line = "demo FAILED: interrupted"
        try:
            line = self._perform()
        except KeyboardInterrupt:
            self._leave = self._site.remove
            self._show.plain()
        except BrokenPipeError:
            self._leave = self._site.remove
            # Whoever read our output has gone: nothing more is said, nor by the interpreter at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        finally:
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it behind
            self._leave()
        self._show.plain(line)
        return 0 if line.startswith("demo ok") else 1

    def _perform(self) -> str:
        """Everything between set-up and the last line, which is returned."""
        try:
            self._set_up()
            result = Act(self._site, self._show, self._size, stop_daemons=not self._keep).play()
            tell.summary(self._show, result)
            if result.verdict.problems:
                return self._failed(Failed(tell.problems(self._show, self._site, result.verdict)))
            records = Records(self._site, self._show, keep=self._keep).play()
        except (Failed, ServerError, *sources.ERRORS, AssertionError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            return self._failed(error)
        if self._keep:
            self._leave = self._site.release
            tell.what_to_try(self._show, self._site)
        return f"{tell.last_line(result)} records={records}"

    def _set_up(self) -> None:
        self._show.plain(f"starting a {self._site.source.name}, a RabbitMQ and an HTTP endpoint of the demo's own")
        self._site.up()
        ground, seconds = self._site, self._show.seconds
        database = f"{ground.source.name} {ground.source.server.port}"
        ports = f"{database}, RabbitMQ {ground.rabbitmq.port}, endpoint {ground.endpoint.port}"
        self._show.plain(f"they run, after {seconds:.1f} s, on 127.0.0.1: {ports}\n")
        self._show.begin()

    def _failed(self, error: Exception) -> str:
        first, *more = str(error).splitlines() or [repr(error)]
        for line in more:
            self._show.plain(line)
        tell.logs(self._show, self._site)
        self._leave = self._site.release if self._keep else self._site.keep_logs
        return f"demo FAILED: {first}"


def _stop() -> int:
    """End and remove every demo of this clone that nobody attends to."""
    stopped = 0
    for kept in site.sites():
        kept.remove()
        stopped += 1
    print(f"stopped and removed: {stopped}" if stopped else "no demo was kept")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("command", nargs="?", choices=("run", "stop"), default="run", help="stop: end what KEEP=1 left")
    size = Size()
    parser.add_argument("--source", choices=sources.KINDS, default=sources.KINDS[0], help="default: %(default)s")
    parser.add_argument("--airports", type=int, metavar="N", help="load only so many of the 28,000")
    parser.add_argument(
        "--changes", type=int, metavar="N", default=size.transactions, help="transactions (default: %(default)s)"
    )
    parser.add_argument(
        "--quiet-seconds", type=float, metavar="S", default=size.quiet_seconds, help="default: %(default)s"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
