"""Marks beside records whose action waits for rows of other tables: external ids of a module of their own."""

import dataclasses
from collections.abc import Mapping, Sequence

from relay.targets.bisection import Refused
from relay.targets.odoo.api import Api
from relay.targets.odoo.failures import not_odoos, of_rights
from relay.targets.odoo.mapping import Action

MODULE = "__relay_waits__"
DIGITS_MAX = 18  # of a number of rows

Wanted = tuple[int, ...]  # how many rows of each table


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """One: its own number in ir.model.data, and what it says."""

    number: int
    method: str
    wanted: Wanted


class Marks:
    """Reads and writes them."""

    def __init__(self, api: Api) -> None:
        self._api = api

    async def find(self, model: str, records: Sequence[int]) -> dict[int, list[Mark]]:
        """By record. Raises Refused."""
        domain = [["model", "=", model], ["res_id", "in", list(records)], ["module", "=", MODULE]]
        rows = await self._call("search_read", {"domain": domain, "fields": ["name", "res_id"]})
        if not isinstance(rows, list):
            raise not_odoos("search_read")
        found: dict[int, list[Mark]] = {}
        for row in rows:
            method, _, rest = str(row["name"]).partition("~")
            wanted = rest.partition("~")[0].split("_")
            if all(map(is_count, wanted)):
                found.setdefault(row["res_id"], []).append(Mark(row["id"], method, tuple(int(one) for one in wanted)))
        return found

    async def put(self, model: str, action: Action, new: Mapping[int, tuple[str, Wanted]], old: Sequence[Mark]) -> None:
        """Remove marks, and make those of these records (their external id, and what they wait for). Raises Refused."""
        if old:
            await self._call("unlink", {}, [one.number for one in old])
        if new:
            rows = [
                {
                    "module": MODULE,
                    "name": f"{action.method}~{'_'.join(str(one) for one in wanted)}~{own}",
                    "model": model,
                    "res_id": record,
                    "noupdate": True,
                }
                for record, (own, wanted) in new.items()
            ]
            await self._call("create", {"vals_list": rows})

    async def _call(self, method: str, arguments: Mapping[str, object], ids: list[int] | None = None) -> object:
        try:
            return await self._api.call("ir.model.data", method, arguments, ids=ids)
        except Refused as refused:
            raise of_rights(refused, "actions with after") from None


def is_count(text: str) -> bool:
    """Is it a number of rows? (Python calls ² a digit, and reads no number of 5,000.)"""
    return text.isdecimal() and len(text) <= DIGITS_MAX
