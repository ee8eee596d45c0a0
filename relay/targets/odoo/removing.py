"""What becomes of records whose rows are gone."""

from collections.abc import Sequence

from relay.delivery import DONE, Outcome, Verdict
from relay.targets.odoo.api import Api
from relay.targets.odoo.archive import archive
from relay.targets.odoo.convert import UTC
from relay.targets.odoo.failures import Refused
from relay.targets.odoo.mapping import TableMapping
from relay.targets.odoo.plan import Empty
from relay.targets.odoo.shared import Shared


class Removing:
    """One worker's."""

    def __init__(self, shared: Shared, api: Api) -> None:
        self._shared = shared
        self._api = api

    async def remove(self, table: TableMapping, external_ids: Sequence[str]) -> list[Outcome]:
        """The records of these rows. Return an outcome for each, in order."""

        async def send(part: Sequence[str]) -> None:
            # What is not there is done.
            found = await self._shared.records.find(self._api, table.model, part)
            await self._remove_records(table, list(found.values()))

        return await self._shared.limits.send(external_ids, external_ids, send)

    async def empty(self, planned: Empty) -> Outcome:
        """A TRUNCATE. It can be repeated: what was removed is not there, or removed again."""
        table = planned.table
        try:
            async for ids in self._shared.records.pages(self._api, table.model, table.id):
                names = [(table.model, one) for one in ids]
                found = await self._shared.limits.send(ids, names, lambda part: self._remove_records(table, list(part)))
                failed = next((outcome for outcome in found if outcome.verdict is not Verdict.DONE), None)
                if failed is not None:
                    return failed
        except Refused as refused:
            return refused.outcome
        return DONE

    async def _remove_records(self, table: TableMapping, ids: list[int]) -> None:
        if not ids:
            return
        context = {**table.context, **UTC, "active_test": False}
        try:
            if table.delete == "archive":
                await archive(self._api, self._shared.records, table, ids, context)
            else:
                await self._api.perform(table.model, table.delete, {}, ids=ids, context=context)
        except Refused as refused:
            if refused.name != "odoo.exceptions.MissingError" or len(ids) > 1:
                raise
