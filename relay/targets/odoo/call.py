"""TARGET=odoo-call: a method of a model, with the event as its argument `event`.

    @api.model
    def relay_event(self, event):
        ...

An exception in it rolls back all that it has done, so that trying again is safe; after a crash an event can come twice.
If it answers with an action (a window for a person), nobody sees it: that counts as a refusal.
"""

import dataclasses
from collections.abc import AsyncIterator, Callable, Sequence
from typing import ClassVar

from relay.delivery import DONE, Delivery, Event, Outcome, Verdict, always
from relay.findings import Finding
from relay.setting import setting
from relay.targets.bisection import Refused
from relay.targets.client import check_tls_files
from relay.targets.odoo import check, settings
from relay.targets.odoo.api import Api, Login
from relay.targets.template import Context, Missing


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings(settings.OdooLogin):
    """What TARGET=odoo-call reads."""

    needed: ClassVar[tuple[str, ...]] = ("ODOO_URL", "ODOO_MODEL", "ODOO_METHOD")

    odoo_model: str = setting(settings.odoo_model, "")
    odoo_method: str = setting(settings.odoo_method, "")


class OdooCallTarget:
    """ODOO_MODEL.ODOO_METHOD(event)."""

    batch_size = 1

    def __init__(self, config: Settings) -> None:
        check_tls_files(config)
        self._config = config
        self._login = Login(config)

    def group(self, _event: Event) -> str:
        """One event a request: the group does not matter."""
        return ""

    def open(self, may_begin: Callable[[], bool] = always) -> "OdooCallLink":
        """A link with a connection of its own."""
        return OdooCallLink(self._config, self._login, may_begin)

    def describe(self, _event: Event) -> list[str]:
        """See Target."""
        return []

    async def check(self) -> AsyncIterator[Finding]:
        """See Target."""
        api = Api(self._config, self._login)
        async for finding in check.server(self._config, api):
            yield finding
        yield await check.model(api, self._config.odoo_model, "ODOO_MODEL")
        api.close()


class OdooCallLink:
    """One worker's connection."""

    def __init__(self, config: Settings, login: Login, may_begin: Callable[[], bool]) -> None:
        self._config = config
        self._api = Api(config, login, may_begin)

    async def deliver(self, batch: Sequence[Delivery]) -> Sequence[Outcome]:
        """See Link."""
        return [await self._deliver(delivery.event) for delivery in batch]

    async def probe(self) -> Outcome | None:
        """See Link."""
        return await self._api.probe()

    def close(self) -> None:
        """See Link."""
        self._api.close()

    async def _deliver(self, event: Event) -> Outcome:
        try:
            arguments = {"event": Context(event).value("event", None)}
            await self._api.perform(self._config.odoo_model, self._config.odoo_method, arguments)
        except Missing as error:
            return Outcome(Verdict.MESSAGE, str(error))
        except Refused as refused:
            return refused.outcome
        return DONE
