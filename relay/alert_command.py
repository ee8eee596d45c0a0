"""ALERT_COMMAND: run once for each trouble that begins, and once when it is over. Nothing waits for it."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any

from relay.alerts import ENDPOINT, SERVER, Alert, Alerts, Pending
from relay.config import Common
from relay.daemon import AT_WORK, STARTING, WAITING, Daemon, check_end
from relay.errors import one_line
from relay.findings import Finding, warning
from relay.log import VALUE_MAX, Log, printable

LOOK_SECONDS = 1.0  # between two looks at what there is
KEEP_SECONDS = 60.0  # without a trouble until it is over
KILL_SECONDS = 1.0  # for the end of what was killed

TRY_BY_HAND = "run it by hand, as the daemon's user: docs/alerts.md"


@contextlib.asynccontextmanager
async def alerting(
    settings: Common, daemon: Daemon, name: str, troubles: Callable[[], Mapping[str, str]], log: Log
) -> AsyncIterator[None]:
    """Tell of troubles meanwhile, if ALERT_COMMAND says how.

    Args:
        daemon: knows whether the servers are there.
        name: which daemon it is, for RELAY_NAME: "listener of erp".
        troubles: what else there is, as `Alerts.look` takes it; asked while the daemon is at work. Quick.
        log: whose daemon it is; gets a line for each alert, and for each run that failed.
    """
    if not settings.alert_command:
        yield
        return
    for finding in findings(settings):
        log.warning("ALERT_COMMAND can't be run", reason=finding.detail, remedy=finding.remedy)
    watch = _begin(_Watch(settings, daemon, name, troubles, log).run())
    try:
        yield
    finally:
        await _end(watch)


def findings(settings: Common) -> Iterator[Finding]:
    """What is wrong with ALERT_COMMAND, for `check`: it is looked for, and not run."""
    if settings.alert_command and shutil.which(settings.alert_command[0]) is None:
        detail = f"there is no program {settings.alert_command[0]} that this user may run"
        yield warning("ALERT_COMMAND", detail, "name one with its path; chmod 755")


class _Watch:
    """One daemon's alerts."""

    def __init__(
        self, settings: Common, daemon: Daemon, name: str, troubles: Callable[[], Mapping[str, str]], log: Log
    ) -> None:
        self._settings = settings
        self._daemon = daemon
        self._name = name
        self._troubles = troubles
        self._log = log
        self._alerts = Alerts({SERVER: settings.alert_after, ENDPOINT: settings.alert_after}, KEEP_SECONDS)
        self._pending = Pending()

    async def run(self) -> None:
        """Until it is cancelled; then what is under way is killed."""
        running: asyncio.Task[None] | None = None
        try:
            while True:
                for alert in self._alerts.look(time.monotonic(), self._found()):
                    self._report(alert)
                    self._pending.add(alert)
                if (running is None or running.done()) and (waiting := self._pending.take()):
                    running = _begin(self._tell(waiting))
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            if running is not None:
                await _end(running)

    def _found(self) -> Mapping[str, str]:
        """What can be told of now: of a standby nothing, its servers apart."""
        state, _, why = self._daemon.state.partition(": ")
        if state == STARTING:
            return {}
        if state == WAITING:
            return {SERVER: why}
        return {SERVER: "", **(self._troubles() if state == AT_WORK else {})}

    def _report(self, alert: Alert) -> None:
        if alert.raised:
            self._log.info("alert raised", cause=alert.cause, reason=alert.reason)
        else:
            times = alert.times if alert.times > 1 else None
            self._log.info("alert ended", cause=alert.cause, after_s=alert.seen - alert.since, times=times)

    async def _tell(self, alert: Alert) -> None:
        command, limit = self._settings.alert_command, self._settings.alert_timeout
        failure = await run(command, environment(alert, self._name), limit)
        if failure:
            self._log.error(
                "ALERT_COMMAND failed: nobody was told",
                cause=alert.cause,
                state=_state(alert),
                reason=failure,
                command=command[0],
                remedy=TRY_BY_HAND,
            )


def environment(alert: Alert, name: str) -> dict[str, str]:
    """All that the command gets to see of the daemon's process: neither a setting nor a secret of its own."""
    passed = {"PATH": os.environ.get("PATH", os.defpath), "LANG": os.environ.get("LANG", "C.UTF-8")}
    since = time.time() - (time.monotonic() - alert.since)
    return passed | {
        "RELAY_STATE": _state(alert),
        "RELAY_CAUSE": alert.cause,
        "RELAY_REASON": printable(alert.reason)[:VALUE_MAX],
        "RELAY_SINCE": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since)),
        "RELAY_SECONDS": f"{alert.seen - alert.since:.0f}",
        "RELAY_TIMES": str(alert.times),
        "RELAY_HOST": socket.gethostname(),
        "RELAY_NAME": printable(name)[:VALUE_MAX],
    }


async def run(command: Sequence[str], environ: Mapping[str, str], limit: float) -> str:
    """Run a command without a shell, in a session of its own; what it writes goes nowhere.

    With its end comes that of its process group: what it leaves behind would have no limit.

    Args:
        limit: seconds; then it is killed.

    Returns:
        Why it failed; nothing = it has not.
    """
    nothing = asyncio.subprocess.DEVNULL
    try:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=nothing, stdout=nothing, stderr=nothing, env=environ, start_new_session=True
        )
    except OSError as error:
        return one_line(error)
    try:
        async with asyncio.timeout(limit):
            status = await process.wait()
    except TimeoutError:
        return f"it had not ended after {limit:g} s, and was killed"
    finally:
        await _kill_group(process)
    if status < 0:
        return f"it was ended by signal {-status}"
    return f"exit status {status}" if status else ""


async def _kill_group(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(KILL_SECONDS):
            await process.wait()


def _state(alert: Alert) -> str:
    return "raised" if alert.raised else "ended"


def _begin(flow: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    task = asyncio.get_running_loop().create_task(flow)
    task.add_done_callback(check_end)
    return task


async def _end(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait([task])
