"""`receiver.py check` for the Odoo targets: each finding names the setting, or the line of the mapping, to change."""

import contextlib
import datetime
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from relay.delivery import Verdict
from relay.findings import Finding, Level, failed
from relay.targets.bisection import Refused
from relay.targets.client import certificate
from relay.targets.odoo import models
from relay.targets.odoo.api import Api
from relay.targets.odoo.check_beside import beside
from relay.targets.odoo.check_fields import can_be_written, unknown, unlike, wrong_with
from relay.targets.odoo.convert import NUMBERS
from relay.targets.odoo.external_ids import Fields, Records
from relay.targets.odoo.failures import parse
from relay.targets.odoo.http import Wire
from relay.targets.odoo.mapping import FieldMapping, MappingFile, TableMapping
from relay.targets.odoo.settings import OdooLogin
from relay.targets.settings import OverHttp

KEY_DAYS = 7  # a key that lives shorter is worth a failed check
HAS_ACCESS_SINCE = 18  # major version; before, check_access_rights
# Required fields that `create` fills, though neither fields_get nor default_get tells; of lines, if they have the field
# that stands first. (Those of orders on 14; later versions compute them, or have them no more.)
FILLED_ON_CREATION = {
    "sale.order": ("", ("partner_invoice_id", "partner_shipping_id", "pricelist_id")),
    "sale.order.line": ("product_id", ("name",)),
    "purchase.order.line": ("product_id", ("name",)),
    "hr.employee": ("", ("resource_id",)),
    "mrp.workcenter": ("", ("resource_id",)),
    "res.company": ("", ("partner_id",)),
}


def base_of(url: str) -> str:
    """The URL of the server that a webhook's URL belongs to."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}{parts.path.partition('/web/hook/')[0]}"


async def server(config: OdooLogin, api: Api) -> AsyncIterator[Finding]:
    """Is it there, which is it, does it know us? Nothing follows the first thing that makes the rest impossible."""
    try:
        version = await api.ask_version()
    except Refused as refused:
        remedy = "is ODOO_URL right, and Odoo running? Behind dbfilter set ODOO_HOST"
        yield failed(f"Odoo at {api.wire.host}", detail=refused.outcome.reason, remedy=remedy)
        return
    spoken = "JSON-2" if version.json2 else "JSON-RPC"
    yield Finding(f"Odoo at {api.wire.host}", detail=f"version {version.version}, spoken to by {spoken}")
    yield await health(api.wire)
    for one in certificate(config, config.odoo_url):
        yield one
    try:
        await api.call("res.users", "context_get", {})
    except Refused as refused:
        keys = "ODOO_API_KEY" if version.json2 else "ODOO_USER, ODOO_API_KEY or ODOO_PASSWORD, ODOO_DATABASE"
        remedy = f"look at {keys}" if refused.outcome.login else "look at ODOO_DATABASE and at Odoo's log"
        yield failed("login", detail=refused.outcome.reason, remedy=remedy)
        return
    who = config.odoo_user or "the key's user"
    yield Finding("login", detail=f"{who} in database {config.odoo_database or '(the only one)'}")
    if config.odoo_api_key:
        yield await _key_life(api)
        if not version.json2 and await _tries_passwords(api):
            detail = "off: Odoo tries the key as a password first, 0.3 s of a processor each time its caches are empty"
            yield Finding("two-factor authentication", detail=f"{detail}; if it is on for this user, keys alone count")
    yield time_limit(config)


async def health(wire: Wire) -> Finding:
    """Odoo's own word on its database; 14 does not tell, and 16 answers without a look at it."""
    try:
        read = await wire.send("/web/health?db_server_status=1", None, {})
    except Refused as refused:
        return failed("health", detail=refused.outcome.reason, remedy="is the URL right, and Odoo running?")
    if read.status == 404:
        return Finding("health", detail="not told by this version")
    body = parse(read.body)
    ok = read.status == 200 and isinstance(body, dict)
    detail = f"HTTP {read.status}"
    if ok:
        looked = "db_server_status" in body
        detail = "the database server answers" if looked else "Odoo answers; this version does not look at its database"
    return Finding("health", Level.of(ok=ok), detail=detail, remedy="" if ok else "is PostgreSQL running behind Odoo?")


def time_limit(config: OverHttp) -> Finding:
    """Odoo goes on working after we have gone: whoever waits less sends a row that is being written already."""
    wait, limit = config.http_read_timeout, config.http_time_limit
    detail = f"HTTP_READ_TIMEOUT={wait:g}, and HTTP_TIME_LIMIT={limit:g} (Odoo's limit_time_real: 120 by default)"
    remedy = "" if wait > limit else "raise HTTP_READ_TIMEOUT above HTTP_TIME_LIMIT"
    return Finding("read timeout", Level.of(ok=wait > limit), detail=detail, remedy=remedy)


async def _key_life(api: Api) -> Finding:
    try:
        found = await api.call(
            "res.users.apikeys", "search_read", {"domain": [], "fields": ["name", "expiration_date"]}
        )
    except Refused:
        return Finding("API key", detail="this Odoo does not tell how long it lives")
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    ends = [one.get("expiration_date") for one in found if isinstance(one, dict)] if isinstance(found, list) else []
    try:
        days = [(end - now).days for end in map(datetime.datetime.fromisoformat, filter(None, ends)) if end >= now]
    except (TypeError, ValueError):
        return Finding("API key", detail="this Odoo does not tell how long it lives in a form that is known")
    if not days:
        return Finding("API key", detail="none of the user's keys runs out")
    which = "it" if len(found) == 1 else "the user's key that ends first"
    ok = min(days) >= KEY_DAYS
    remedy = "" if ok else "make a new key in Odoo (Preferences, Security) and set ODOO_API_KEY"
    return Finding("API key", Level.of(ok=ok), detail=f"{which} lives {min(days)} days", remedy=remedy)


async def _tries_passwords(api: Api) -> bool:
    """Does Odoo take the user's password, too? False, if it does not tell."""
    arguments = {"domain": [["id", "=", (await api.server()).uid]], "fields": ["totp_enabled"]}
    with contextlib.suppress(Refused):
        found = await api.call("res.users", "search_read", arguments)
        users = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        return any(one.get("totp_enabled") is False for one in users)
    return False


async def model(api: Api, name: str, where: str) -> Finding:
    """Does the model exist?"""
    try:
        await api.call(name, "fields_get", {"allfields": None, "attributes": ["type"]})
    except Refused as refused:
        near = await models.did_you_mean(api, name) if refused.outcome.verdict is Verdict.MESSAGE else ""
        return failed(f"model {name}", refused.outcome.reason, f"{near} Change {where}" if near else f"change {where}")
    return Finding(f"model {name}")


async def table(api: Api, records: Records, mapping: MappingFile, mapped: TableMapping) -> AsyncIterator[Finding]:
    """Does the mapping of a table fit its model?"""
    name, where = f"{mapped.name} -> {mapped.model}", f"{mapping.path} line {mapped.line}"
    try:
        fields = await records.fields_of(api, mapped.model)
        denied = [operation for operation in _operations(mapped) if not await may(api, mapped.model, operation)]
        reads = not mapped.truncate or await may(api, "ir.model.data", "read")
        marks = not any(one.after for one in mapped.actions) or await may(api, "ir.model.data", "create")
    except Refused as refused:
        if refused.outcome.verdict is Verdict.ENDPOINT:
            yield failed(name, detail=refused.outcome.reason, remedy="look at Odoo, and try again")
        else:
            near = await models.did_you_mean(api, mapped.model) if refused.outcome.verdict is Verdict.MESSAGE else ""
            yield failed(
                name, refused.outcome.reason, f"{near} It is in {where}" if near else f"change model in {where}"
            )
        return
    detail = "" if not denied else f"the user may not {', '.join(denied)}"
    yield Finding(
        name, Level.of(ok=not denied), detail=detail, remedy="give the user the right in Odoo" if denied else ""
    )
    if mapped.deletes_by("archive") and "active" not in fields:
        remedy = f"choose another delete in {where}"
        yield failed(f"{name}: delete", detail="the model has no field active to archive by", remedy=remedy)
    for finding in (*_deletes(mapped, fields, name, where), *_acts(mapped, fields, name, where)):
        yield finding
    if not marks:
        detail = "the user may not create ir.model.data, which actions with after need"
        yield failed(f"{name}: actions", detail=detail, remedy='give it the right "Access Rights"')
    if not reads:
        detail = "the user may not read ir.model.data, which a TRUNCATE needs"
        remedy = f'give it the right "Access Rights", or write truncate = "ignore" in {where}'
        yield failed(f"{name}: truncate", detail=detail, remedy=remedy)
    for field in mapped.all_fields:
        wrong = wrong_with(mapping, mapped, field, fields)
        detail, remedy = wrong or (str(fields[field.name].get("type", "")), "")
        line = f" in {mapping.path} line {field.line}" if wrong else ""
        yield Finding(
            f"{name}: {_shown(field)}",
            Level.of(ok=wrong is None),
            detail=detail,
            remedy=remedy + line,
        )
    async for finding in beside(api, records, mapped, fields, name, mapping.path):
        yield finding
    async for finding in _required(api, records, mapped, fields, name, where):
        yield finding


def _shown(field: FieldMapping) -> str:
    path = field.name if field.by else field.path
    return f"{path} ({field.lang})" if field.lang else path


def _deletes(mapped: TableMapping, fields: Fields, name: str, where: str) -> Iterator[Finding]:
    """What the rules of `delete` name, that the model does not have or does not take."""
    for rule in mapped.delete:
        for one in (*rule.when.items(), *rule.values.items()):
            yield from _unlike_record(*one, mapped, fields, f"{name}: delete", where)
        for field in [one for one in rule.values if one in fields and not can_be_written(one, fields[one])]:
            yield failed(f"{name}: delete", f"{field} can't be written (Odoo computes it)", f"change set in {where}")


def _acts(mapped: TableMapping, fields: Fields, name: str, where: str) -> Iterator[Finding]:
    """The same of `actions`. Whether a model has a method, Odoo does not tell."""
    for action in mapped.actions:
        wrong = [
            finding
            for one in action.unless.items()
            for finding in _unlike_record(*one, mapped, fields, f"{name}: {action.method}", where)
        ]
        yield from wrong
        if not wrong:
            yield Finding(f"{name}: {action.method}", detail=f"called unless {', '.join(action.unless)} says it was")


def _unlike_record(
    field: str, value: Any, mapped: TableMapping, fields: Fields, name: str, where: str
) -> Iterator[Finding]:
    """Can a record have this value? Of several, one that another version of Odoo has is only told."""
    several = value if isinstance(value, list) else [value]
    constants = [str(one) for one in several if not isinstance(one, dict)]
    known = fields.get(field)
    if known is None:
        what, remedy = unknown(mapped.model, field, fields)
        yield failed(name, detail=f"{field}: {what}", remedy=f"{remedy} in {where}")
        return
    wrong = [found for one in constants if (found := unlike(known, [one], mapped))]
    level = Level.WARNING if len(wrong) < len(constants) else Level.FAILED
    for what, remedy in wrong:
        yield Finding(name, level, f"{field} {what}", f"{remedy} in {where}")


def _operations(mapped: TableMapping) -> tuple[str, ...]:
    return ("create", "write", "unlink") if mapped.deletes_by("unlink") else ("create", "write")


async def may(api: Api, name: str, operation: str) -> bool:
    """Has the user the right to do this with the model? Raises Refused."""
    if (await api.server()).major >= HAS_ACCESS_SINCE:
        return bool(await api.call(name, "has_access", {"operation": operation}, ids=[]))
    arguments = {"operation": operation, "raise_exception": False}
    return bool(await api.call(name, "check_access_rights", arguments))


async def required(api: Api, records: Records, model: str, fields: Fields, given: Collection[str]) -> list[str]:
    """Required fields that neither a mapping nor, by what it says of them, Odoo fills: it may have defaults."""
    before, on_creation = FILLED_ON_CREATION.get(model, ("", ()))
    filled = {name for name in fields if fields[name].get("depends") or fields[name].get("related")}
    filled |= set(on_creation) if not before or before in given else set()
    # A record that this one extends (product.template of product.product) is created with it.
    filled |= await records.extends(api, fields)
    # Records behind a list are no column, whatever the form requires: product.template.product_variant_ids.
    filled |= {one for one in fields if fields[one].get("type") in ("one2many", "many2many")}
    return [one for one in fields if fields[one].get("required") and one not in {*given, "id"} and one not in filled]


async def defaults(api: Api, name: str, fields: Sequence[str], context: Mapping[str, Any]) -> set[str]:
    """Which of these fields Odoo fills in a new record; none, if it does not tell."""
    if not fields:
        return set()
    of_the_model, of_records = None, list[int]()
    for ids in (of_the_model, of_records):  # the second for Odoo 18's product.template
        with contextlib.suppress(Refused):
            found = await api.call(name, "default_get", {"fields": list(fields)}, ids=ids, context=context)
            return set(found) if isinstance(found, dict) else set()
    return set()


def are_unsure(fields: Fields, names: Sequence[str]) -> list[str]:
    """A number that is computed out of nothing looks like one that is not computed: sale.order.line.customer_lead."""
    return [one for one in names if fields[one].get("type") in ("boolean", *NUMBERS)]


async def _required(
    api: Api, records: Records, mapped: TableMapping, fields: Fields, name: str, where: str
) -> AsyncIterator[Finding]:
    """Required fields that nothing fills."""
    open_ = await required(api, records, mapped.model, fields, {field.name for field in mapped.all_fields})
    filled = await defaults(api, mapped.model, open_, mapped.context)
    left = [one for one in open_ if one not in filled]
    unsure = are_unsure(fields, left)
    if unsure:
        detail = f"required, and not in the mapping: {', '.join(unsure)} (fine, if Odoo computes it)"
        yield Finding(f"{name}: required numbers", detail=detail)
    lacking = [one for one in left if one not in unsure]
    if lacking:
        detail = f"required, without a default, and not in the mapping: {', '.join(lacking)}"
        yield failed(f"{name}: required fields", detail=detail, remedy=f"add them in {where}")
