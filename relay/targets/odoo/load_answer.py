"""`load`: its request, and what its answer says about each row.

It answers 200 with `ids: false` when any row fails, and then nothing of the request is kept.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from relay.delivery import Outcome, Verdict
from relay.targets.bisection import Refused, RowsRefused
from relay.targets.odoo.api import Api
from relay.targets.odoo.failures import is_conflict, not_odoos, short
from relay.targets.odoo.missing_links import Link
from relay.targets.odoo.plan import Name, qualified

# (position, links that lead nowhere, when the request began): the outcome of a row that waits for other records
Waits = Callable[[int, Sequence[Link], float], Outcome]


async def load(
    api: Api,
    model: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    context: Mapping[str, Any],
    waits: Waits,
) -> list[int]:
    """Load rows; the first column is `id`. Return the records. Raises Refused."""
    began = time.monotonic()
    answer = await api.call(
        model, "load", {"fields": list(columns), "data": [list(row) for row in rows]}, context=context
    )
    if not isinstance(answer, dict):
        raise not_odoos("load")
    ids = answer.get("ids")
    if isinstance(ids, list) and len(ids) == len(rows):
        return ids
    raise _refusal(answer.get("messages"), columns, rows, lambda at, links: waits(at, links, began))


def _refusal(
    messages: object,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    waits: Callable[[int, Sequence[Link]], Outcome],
) -> Refused:
    found = messages if isinstance(messages, list) else []
    errors = [one for one in found if isinstance(one, dict) and one.get("type") == "error"]
    for error in errors:
        if is_conflict(str(error.get("message"))):
            return Refused(Outcome(Verdict.CONFLICT, short(str(error["message"]))))
    if not errors:
        return RowsRefused(Outcome(Verdict.UNCLEAR, "load: nothing was loaded, and no reason given"), {}, None)
    lost: dict[int, list[Link]] = {}
    places = {qualified(row[0]): at for at, row in enumerate(rows)}
    for error in errors:
        at = error.get("record")
        if isinstance(at, int) and 0 <= at < len(rows) and (link := _missing_link(error, at, columns, rows, places)):
            lost.setdefault(at, []).append(link)
    settled = {at: waits(at, links) for at, links in lost.items()}
    first = errors[0]
    suspect = first.get("record")
    outcome = Outcome(Verdict.MESSAGE, _said(first))
    return RowsRefused(outcome, settled, suspect if isinstance(suspect, int) and 0 <= suspect < len(rows) else None)


def _missing_link(
    error: Mapping[str, Any], at: int, columns: Sequence[str], rows: Sequence[Sequence[str]], places: Mapping[Name, int]
) -> Link | None:
    """The link that this message is about, if its record is certainly not there.

    Odoo's words are in the user's language; but it repeats the external id. A record of the same request that came
    before is no certain case: it may be missing because another row failed.
    """
    path = f"{error.get('field')}/id"
    text = str(error.get("message"))
    if path not in columns or text.startswith("Invalid external ID"):  # that is a record of another model
        return None
    # The longest first: customers_1 is in what is said of customers_12, too.
    for link in sorted(rows[at][columns.index(path)].split(","), key=len, reverse=True):
        if link and link in text and places.get(qualified(link), len(rows)) >= at:
            return path, link
    return None


def _said(error: Mapping[str, Any]) -> str:
    field = error.get("field")
    return (f"{field}: " if isinstance(field, str) and field else "") + short(str(error.get("message")))
