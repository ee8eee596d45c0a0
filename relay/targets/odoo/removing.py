"""What becomes of records whose rows are gone."""

from collections.abc import Sequence

from relay.delivery import DONE, Outcome, Verdict
from relay.targets.bisection import Refused
from relay.targets.odoo.api import Api
from relay.targets.odoo.archive import archive
from relay.targets.odoo.convert import UTC
from relay.targets.odoo.mapping import Removal, TableMapping
from relay.targets.odoo.plan import Empty
from relay.targets.odoo.shared import Shared
from relay.targets.odoo.states import holds
from relay.targets.odoo.states import read as states_of


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

        return await self._shared.limits.send(external_ids, external_ids, send, batch_size=table.batch_size)

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
        try:
            for rule, records in (await self._by_rule(table, ids)).items():
                await self._do(table, table.delete[rule], records)
        except Refused as refused:
            if refused.name != "odoo.exceptions.MissingError" or len(ids) > 1:
                raise

    async def _by_rule(self, table: TableMapping, ids: list[int]) -> dict[int, list[int]]:
        """Which rule is for which records. What has been done to some of them, before others were refused, shows."""
        context = {**table.context, **UTC, "active_test": False}
        states = await states_of(self._api, table.model, ids, (rule.when for rule in table.delete), context)
        found: dict[int, list[int]] = {}
        for one in states:
            rule = next((at for at, rule in enumerate(table.delete) if holds(rule.when, states[one])), None)
            if rule is None:
                reason = f"delete: no rule in the mapping of {table.name} is for {table.model} {one}, as it is now"
                raise Refused(Outcome(Verdict.MESSAGE, reason), splits=True)
            found.setdefault(rule, []).append(one)
        return found

    async def _do(self, table: TableMapping, rule: Removal, ids: list[int]) -> None:
        """Raises Refused."""
        context = {**table.context, **rule.context, **UTC, "active_test": False}
        if rule.do == "archive":
            await archive(self._api, self._shared.records, table, ids, context)
        elif rule.do == "write":
            await self._api.call(table.model, "write", {"vals": rule.values}, ids=ids, context=context)
        elif rule.do != "ignore":
            await self._api.perform(table.model, rule.do, {}, ids=ids, context=context)
