"""Archiving records, and bringing them back."""

from collections.abc import Mapping
from typing import Any

from relay.delivery import Outcome, Verdict
from relay.targets.bisection import Refused
from relay.targets.odoo.api import Api
from relay.targets.odoo.external_ids import Records
from relay.targets.odoo.mapping import TableMapping

NO_METHOD = ("builtins.AttributeError", "werkzeug.exceptions.NotFound")  # over JSON-RPC, over JSON-2


def revives(table: TableMapping) -> bool:
    """Must a row that comes (again) bring its record back from the archive?"""
    mapped = any(field.path == "active" for field in table.all_fields)
    return table.deletes_by("archive") and not mapped


async def archive(api: Api, records: Records, table: TableMapping, ids: list[int], context: Mapping[str, Any]) -> None:
    """Raises Refused."""
    if "active" not in await records.fields_of(api, table.model):
        reason = f"{table.model} has no field active: choose another delete for {table.name} in the mapping"
        raise Refused(Outcome(Verdict.MESSAGE, reason))
    await set_active(api, table.model, ids, context, active=False)


async def set_active(api: Api, model: str, ids: list[int], context: Mapping[str, Any], *, active: bool) -> None:
    """As Odoo's own button does: it takes along what belongs to a record (a product's template). Raises Refused."""
    method = "action_unarchive" if active else "action_archive"
    try:
        # With active_test off a template would still see the variants that are archived, and stay.
        await api.perform(model, method, {}, ids=ids, context={**context, "active_test": True})
    except Refused as refused:
        if refused.name not in NO_METHOD and not refused.unfinished:
            raise
        await api.call(model, "write", {"vals": {"active": active}}, ids=ids, context=context)
