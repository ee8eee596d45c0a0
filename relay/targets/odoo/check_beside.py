"""`receiver.py check` on what a table's mapping needs of other models: those that it links to, and the languages."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

from relay.delivery import Verdict
from relay.findings import Finding, failed
from relay.targets.bisection import Refused
from relay.targets.odoo import models
from relay.targets.odoo.api import Api
from relay.targets.odoo.check_fields import unknown
from relay.targets.odoo.external_ids import Fields, Records
from relay.targets.odoo.mapping import FieldMapping, TableMapping

_RIGHTS = "look at the user's rights"


async def beside(
    api: Api, records: Records, mapped: TableMapping, fields: Fields, name: str, path: str
) -> AsyncIterator[Finding]:
    """What is looked at in other models.

    Args:
        fields: of the table's own model.
        name: how its findings are called.
        path: of the mapping file.
    """
    for field in mapped.all_fields:
        where = f"in {path} line {field.line}"
        found = _by(api, records, field, fields, where) if field.by else _model(api, records, field, where)
        async for what, remedy in found:
            yield failed(f"{name}: {field.name}", what, remedy)
    async for finding in _languages(api, mapped, name):
        yield finding


async def _by(
    api: Api, records: Records, field: FieldMapping, fields: Fields, where: str
) -> AsyncIterator[tuple[str, str]]:
    """The fields by which a record is found."""
    relation = str(fields.get(field.name, {}).get("relation") or "")
    for by in [by for by, _ in field.by if relation]:
        try:
            wrong = await _wrong_path(api, records, relation, by)
        except Refused as refused:
            yield refused.outcome.reason, _RIGHTS
            return
        if wrong:
            yield f"by {by}: {wrong[0]}", f"{wrong[1]} {where}"


async def _wrong_path(api: Api, records: Records, relation: str, path: str) -> tuple[str, str] | None:
    """The first name that is none; the later ones stand behind links: country_id.code. Raises Refused."""
    before = ""
    for name in path.split("."):
        if not relation:
            return f"{before} is no link, and has no {name}", "change by"
        there = await records.fields_of(api, relation)
        if name not in there:
            return unknown(relation, name, there)
        before, relation = name, str(there[name].get("relation") or "")
    return None


async def _model(api: Api, records: Records, field: FieldMapping, where: str) -> AsyncIterator[tuple[str, str]]:
    """The model of a record whose number the field holds."""
    if not field.model:
        return
    try:
        await records.fields_of(api, field.model)
    except Refused as refused:
        remedy = _RIGHTS
        if refused.outcome.verdict is Verdict.MESSAGE:
            remedy = f"{await models.did_you_mean(api, field.model) or 'change model'} It is {where}"
        yield refused.outcome.reason, remedy


async def _languages(api: Api, mapped: TableMapping, name: str) -> AsyncIterator[Finding]:
    """Those of the mapping that are not installed. To 17 `load` takes texts of any, and shows them nowhere."""
    own = mapped.context.get("lang")
    wanted = [*([str(own)] if own else []), *mapped.languages]
    installed = await _installed(api) if wanted else []
    for language in [one for one in wanted if installed and one not in installed]:
        detail = f"{language} is not installed; there are: {', '.join(installed)}"
        yield failed(f"{name}: languages", detail=detail, remedy=f"install {language} in Odoo (Settings, Languages)")


async def _installed(api: Api) -> Sequence[str]:
    """The codes of the languages; none, if Odoo does not tell."""
    try:
        rows: Any = await api.call("res.lang", "search_read", {"domain": [["active", "=", True]], "fields": ["code"]})
    except Refused:
        return []
    return sorted(str(row.get("code")) for row in rows if isinstance(row, dict)) if isinstance(rows, list) else []
