"""TARGET=odoo-webhook: the event as it is to an automation rule's webhook, `/web/hook/<uuid>` (Odoo 17 and newer).

A 500 of it has committed what the rule had written before its error (measured): a second try may do that twice. So
the event is parked at once, unless ODOO_WEBHOOK_IDEMPOTENT says that a second time does no harm.
"""

import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import urlsplit

from relay import values
from relay.config import Endpoint
from relay.delivery import DONE, Delivery, Event, Outcome, Verdict, always
from relay.envfile import Problem
from relay.findings import Finding
from relay.log import Log
from relay.setting import setting
from relay.targets.bisection import Refused
from relay.targets.client import check_tls_files
from relay.targets.odoo import check, settings
from relay.targets.odoo.failures import fault_of, parse, refusal
from relay.targets.odoo.http import Wire

_COMMITTED = "HTTP 500: the rule failed, and what it had written before is committed"

_log = Log("receiver")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(settings.OdooServer):
    """What TARGET=odoo-webhook reads."""

    odoo_webhook: str = setting(settings.odoo_webhook, "", secret=True)
    odoo_webhook_idempotent: bool = setting(values.on_off, "off")

    def contradictions(self) -> list[Problem]:
        """See config.Common."""
        found = super().contradictions()
        if not self.odoo_webhook:
            found.append(("TARGET=odoo-webhook needs ODOO_WEBHOOK", "copy the URL of the automation rule from Odoo"))
        if self.order == "global" and not self.odoo_webhook_idempotent:
            what = "TARGET=odoo-webhook parks an event after a 500 at once, and ORDER=global never parks"
            found.append((what, "write ORDER=key, or ODOO_WEBHOOK_IDEMPOTENT=on if the action may run twice"))
        return found

    def endpoint(self) -> Endpoint:
        """See config.Receive. Who knows its path can run the rule: a secret."""
        return Endpoint("ODOO_WEBHOOK", self.odoo_webhook, ("ODOO_WEBHOOK",), self.http_proxy_url)


class OdooWebhookTarget:
    """POST the event to ODOO_WEBHOOK."""

    batch_size = 1

    def __init__(self, config: Settings) -> None:
        check_tls_files(config)
        self._config = config
        if not config.odoo_webhook_idempotent:
            _log.warning(
                "a webhook of Odoo that answers 500 has committed what its rule wrote before the error: such an event"
                " is parked at once -> if the rule may run twice for an event, set ODOO_WEBHOOK_IDEMPOTENT=on"
            )

    def group(self, _event: Event) -> str:
        """One event a request: the group does not matter."""
        return ""

    def open(self, may_begin: Callable[[], bool] = always) -> "OdooWebhookLink":
        """A link with a connection of its own."""
        return OdooWebhookLink(self._config, may_begin)

    def describe(self, _event: Event) -> list[str]:
        """See Target."""
        return []

    async def check(self) -> AsyncIterator[Finding]:
        """See Target. The webhook itself is not called: that would run the rule."""
        wire = Wire(self._config, check.base_of(self._config.odoo_webhook))
        yield await check.health(wire)
        yield check.time_limit(self._config)
        wire.close()


class OdooWebhookLink:
    """One worker's connection."""

    def __init__(self, config: Settings, may_begin: Callable[[], bool]) -> None:
        self._idempotent = config.odoo_webhook_idempotent
        parts = urlsplit(config.odoo_webhook)
        self._wire = Wire(config, check.base_of(config.odoo_webhook), may_begin)
        self._path = parts.path[parts.path.index("/web/hook/") :]

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """See Link."""
        return [await self._deliver(delivery.event) for delivery in batch]

    async def probe(self) -> Outcome | None:
        """The database's health, where Odoo tells it; the rule must not run for a probe."""
        try:
            read = await self._wire.send("/web/health?db_server_status=1", None, {})
        except Refused as refused:
            return refused.outcome
        return DONE if read.status == 200 else Outcome(Verdict.ENDPOINT, f"HTTP {read.status} of /web/health")

    def close(self) -> None:
        """See Link."""
        self._wire.close()

    async def _deliver(self, event: Event) -> Outcome:
        readable = event.id.isascii() and event.id.isprintable()
        try:
            own = {"Relay-Event": event.id} if readable else {}
            read = await self._wire.send(self._path, event.body, own | self._wire.database)
        except Refused as refused:
            return refused.outcome
        body = parse(read.body)
        if read.status == 200 and isinstance(body, dict) and body.get("status") == "ok":
            return DONE
        if read.status == 500 and isinstance(body, dict):
            verdict = Verdict.UNCLEAR if self._idempotent else Verdict.MESSAGE
            return Outcome(verdict, _COMMITTED, final=not self._idempotent)
        outcome = refusal(read, fault_of(body)).outcome
        if read.status == 404:
            # In HTML: the database is down or unknown. In JSON: no rule has this webhook, which a person must mend.
            # Either way for every event.
            return dataclasses.replace(outcome, verdict=Verdict.ENDPOINT, login=isinstance(body, dict))
        return outcome
