"""What records are like, where something depends on it: conditions of the mapping on Odoo's side."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from relay.targets.odoo.api import Api
from relay.targets.odoo.failures import not_odoos

Record = Mapping[str, Any]


async def read(
    api: Api, model: str, ids: Sequence[int], conditions: Iterable[Mapping[str, Any]], context: Mapping[str, Any]
) -> dict[int, Record]:
    """The records, with the fields that the conditions name; those that are not there are left out. Raises Refused."""
    names = list(dict.fromkeys(name for condition in conditions for name in condition))
    if not names:
        return {one: {} for one in ids}
    rows = await api.call(model, "read", {"fields": names}, ids=list(ids), context=context)
    if not isinstance(rows, list):
        raise not_odoos("read")
    return {row["id"]: row for row in rows}


def holds(condition: Mapping[str, Any], record: Record) -> bool:
    """Has the record these values? Several values of a field: any of them."""
    return all(_is(record.get(name), wanted) for name, wanted in condition.items())


def _is(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, list):
        return any(_is(value, one) for one in wanted)
    if isinstance(wanted, dict):
        # Odoo has False for what is empty.
        return (value is None or value is False or value in ("", [])) is bool(wanted.get("null"))
    if isinstance(value, list):  # a link: its number and its name
        return wanted in value
    if isinstance(wanted, bool) or isinstance(value, bool):
        return value is wanted
    return bool(value == wanted)
