"""The words at the end: the summary, what to try, the last line."""

from __future__ import annotations

import shlex
from pathlib import Path

from demo import referee
from demo.act import Result
from demo.show import Show
from demo.site import Site
from dev.process import tail
from dev.script import ROOT

LOG_LINES = 8
FINDINGS = "findings.txt"


def _here(path: Path) -> str:
    """A path as one types it in the clone."""
    return shlex.quote(str(path.relative_to(ROOT))) if path.is_relative_to(ROOT) else shlex.quote(str(path))


def summary(show: Show, result: Result) -> None:
    """What came out, for people."""
    verdict, times = result.verdict, result.latencies
    before = result.duplicates_before_crash
    again = f"{verdict.duplicates:,} events came a second time, {before:,} of them before the crash; all unaltered"
    marks = {
        f"{verdict.events:,} events committed, {verdict.delivered:,} arrived": not verdict.lost,
        "each row's events came in the order of their commits": not verdict.reordered,
        f"nothing came of {result.rolled_back:,} transactions that were rolled back": not verdict.invented,
        again if verdict.duplicates else "no event came twice": not verdict.altered,
        f"the endpoint's {result.rows:,} rows equal the table's, in every field": not verdict.different,
    }
    show.plain()
    for text, well in marks.items():
        show.plain(f"  {'ok ' if well else 'NOT'}  {text}")
    if times:
        p50, p99 = (referee.percentile(times, share) for share in (0.5, 0.99))
        times_said = f"half within {p50:.1f} ms, 99 % within {p99:.1f} ms, the slowest in {max(times):.1f} ms"
        show.plain(f"       commit to arrival: {times_said}")
    show.plain()


def last_line(result: Result) -> str:
    """The line that scripts read."""
    verdict = result.verdict
    p50, p99 = (referee.percentile(result.latencies, share) for share in (0.5, 0.99))
    return (
        f"demo ok: events={verdict.events} delivered={verdict.delivered} lost={len(verdict.lost)}"
        f" reordered={len(verdict.reordered)} duplicates={verdict.duplicates} p50_ms={p50:.1f} p99_ms={p99:.1f}"
    )


def problems(show: Show, site: Site, verdict: referee.Verdict) -> str:
    """Quote the findings, write all of them to a file, and return them in one line."""
    found = verdict.problems
    for kind, texts in found.items():
        show.plain(f"{kind}: {len(texts)}")
        for text in texts[: referee.SHOWN]:
            show.plain(f"    {text}")
    file = site.directory / FINDINGS
    file.write_text("".join(f"{kind}: {text}\n" for kind, texts in found.items() for text in texts))
    return ", ".join(f"{len(texts)} {kind}" for kind, texts in found.items())


def logs(show: Show, site: Site) -> None:
    """Where the logs of a failed run are, and how they end."""
    for log in site.logs():
        show.plain(tail(log, LOG_LINES))
    show.plain(f"--- all logs: {_here(site.directory)}/ (make down removes them)")


def what_to_try(show: Show, site: Site) -> None:
    """KEEP=1: everything runs on."""
    client, admin = (f"{_here(path)}" for path in site.clients())
    broker, run = site.rabbitmq, site.source.run
    url = f"http://127.0.0.1:{site.endpoint.port}"
    listen, receive = site.daemons
    python = ".venv/bin/python"
    show.plain(f"""\
It all runs on: {site.source.name}, RabbitMQ, both daemons and the endpoint. Try, from {shlex.quote(str(ROOT))}:

  see events arrive    tail -f {_here(site.endpoint.log_file)}
  read the logs        tail -f {_here(listen.log_file)} {_here(receive.log_file)}
  change a row         {client} {run} "update airports set name = 'My own' where icao = 'LSZH'"
  what has arrived     curl -s {url}/airports/LSZH
  an SQL prompt        {client}    (the application's role; {admin}: a superuser)
  what is watched      {admin} {run} "select * from relay.watched"
  stop the listener    kill {listen.pid}
    see the backlog    {admin} {run} "select seq, at, topic, op from relay.outbox order by seq"
    start it again     {python} listen.py --env-file {_here(listen.env_file)}
  stop the receiver    kill {receive.pid}
    start it again     {python} receiver.py --env-file {_here(receive.env_file)}
  RabbitMQ's pages     http://127.0.0.1:{broker.management_port}/  user admin, password {broker.password}
  stop it all          {python} -m demo stop
""")  # noqa: S608 - words for people
