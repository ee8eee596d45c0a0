"""What STATUS_ADDR shows of a daemon: `/` a page, `/metrics`, `/healthz`. It also keeps the last hours for the page."""

import asyncio
import secrets
import time
from collections.abc import Iterable
from http import HTTPStatus
from typing import Protocol

from prometheus_client.core import Metric

from relay.findings import Level
from relay.log import Log, printable
from relay.status.history import Flow, History, Sample
from relay.status.metrics import KIND, Metrics
from relay.status.page import page
from relay.status.report import Report
from relay.status.server import Answer, Server

SAMPLE_SECONDS = 60.0  # between two points of the charts
LOOK_SECONDS = 1.0  # between two looks whether something has changed


class Shown(Protocol):
    """A half of the relay, as it is shown. All quick: it is asked on the daemon's loop."""

    def report(self) -> Report:
        """What a person sees."""
        ...

    def flow(self) -> Flow:
        """For the charts."""
        ...

    def metrics(self) -> Iterable[Metric]:
        """For Prometheus."""
        ...


class Board:
    """Serves, and takes samples, until it is closed.

    Args:
        shown: what is shown.
        host, port, token: of STATUS_ADDR and STATUS_TOKEN.
    """

    def __init__(self, shown: Shown, host: str, port: int, token: str, log: Log) -> None:
        self._shown = shown
        self._history = History()
        self._metrics = Metrics(shown.metrics)
        routes = {"/": self._page, "/metrics": self._scrape, "/healthz": self._health}
        self._server = Server(host, port, token, routes, log)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin. From the loop."""
        self._server.start()
        self._task = asyncio.get_running_loop().create_task(self._watch())

    @property
    def port(self) -> int:
        """Where it listens; 0 = not yet."""
        return self._server.port

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
        await self._server.close()

    async def _watch(self) -> None:
        before, sampled = self._shown.flow(), time.monotonic()
        while True:
            report, now = self._shown.report(), time.time()
            worst = next((fact for fact in report.facts if fact.level is report.level), None)
            bad = "" if worst is None or report.level is Level.OK else f": {worst.name}: {worst.text.partition(',')[0]}"
            self._history.changed(now, report.level, report.state + bad)
            if time.monotonic() - sampled >= SAMPLE_SECONDS:
                flow = self._shown.flow()
                self._history.samples.append(
                    Sample(now, flow.come - before.come, flow.gone - before.gone, flow.waiting, flow.age)
                )
                before, sampled = flow, time.monotonic()
            await asyncio.sleep(LOOK_SECONDS)

    def _page(self) -> Answer:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'; "
            "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        body = page(self._shown.report(), self._history, time.time(), nonce)
        return Answer(body, "text/html; charset=utf-8", headers={"Content-Security-Policy": policy})

    def _scrape(self) -> Answer:
        return Answer(self._metrics.text(), KIND)

    def _health(self) -> Answer:
        """200, or 503 with the reasons; a standby is healthy."""
        report = self._shown.report()
        bad = [f"{fact.name}: {fact.text}" for fact in report.facts if fact.level is Level.FAILED]
        if not bad:
            return Answer(f"{report.state}\n")
        return Answer("".join(f"{printable(line)}\n" for line in bad), status=HTTPStatus.SERVICE_UNAVAILABLE)
