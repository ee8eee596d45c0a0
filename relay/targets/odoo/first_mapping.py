"""`receiver.py mapping`: writes a first mapping of a table, of its columns and of what Odoo says of the model."""

import sys

from relay.config import Receive
from relay.daemon import EX_OK
from relay.delivery import Verdict
from relay.errors import ConfigError, RelayError, Unavailable
from relay.targets.bisection import Refused
from relay.targets.client import check_tls_files
from relay.targets.odoo import check, columns, models
from relay.targets.odoo.api import Api, Login
from relay.targets.odoo.draft import Subject, draft, filled
from relay.targets.odoo.external_ids import ATTRIBUTES, Records
from relay.targets.odoo.failures import not_odoos
from relay.targets.odoo.mapping import MODEL
from relay.targets.odoo.settings import OdooLogin

Settings = OdooLogin
"""What it reads: all of TARGET=odoo-load but what is about the mapping file, which is not there yet."""


async def write(config: Receive, table: str, model: str, given: str) -> int:
    """Write it to standard output.

    Args:
        config: of the class Settings.
        table: its name, with its schema.
        model: its technical name.
        given: the columns, as `columns.parse` wants them.

    Returns:
        The exit status.

    Raises:
        ConfigError: what is wrong with the arguments, the login, the rights or the model.
        Unavailable: Odoo does not answer.
    """
    assert isinstance(config, OdooLogin)  # noqa: S101
    name = columns.table_name(table)
    if "." not in name.strip(".") or not name.isprintable():
        raise ConfigError((f"{table!r} names no table with its schema", "write public.customers"))
    if not MODEL.fullmatch(model):
        raise ConfigError((f"{model} is no model", "write its technical name: res.partner"))
    found = columns.parse(given)
    check_tls_files(config)
    api = Api(config, Login(config))
    try:
        subject = await _subject(api, name, model, found)
        open_ = await check.required(api, Records(), model, subject.fields, filled(subject))
        left = [one for one in open_ if one not in subject.defaults]
        unsure = check.are_unsure(subject.fields, left)
        text = draft(subject, [one for one in left if one not in unsure])
    except Refused as refused:
        raise _error(refused, f"{model} of Odoo at {api.wire.host}") from None
    finally:
        api.close()
    sys.stdout.buffer.write(text.encode())  # in UTF-8, as a mapping is, whatever the terminal speaks
    return EX_OK


async def _subject(api: Api, table: str, model: str, found: list[columns.Column]) -> Subject:
    """Raises ConfigError, Refused."""
    server = await api.server()
    try:
        fields = await api.call(model, "fields_get", {"allfields": None, "attributes": [*ATTRIBUTES, "string"]})
    except Refused as refused:
        if refused.outcome.verdict is not Verdict.MESSAGE:
            raise
        remedy = await models.did_you_mean(api, model) or "write the technical name of a model that is there"
        what = f"Odoo {server.version} at {api.wire.host} does not know {model}: {refused.outcome.reason}"
        raise ConfigError((what, remedy)) from None
    if not isinstance(fields, dict) or not fields or not all(isinstance(one, dict) for one in fields.values()):
        raise not_odoos("fields_get")
    denied = [one for one in ("create", "write") if not await check.may(api, model, one)]
    if denied:
        what = f"the user may not {' and '.join(denied)} {model}, and is not told what can be written there"
        raise ConfigError((what, "give it the right in Odoo, or use another user's key"))
    wanted = [name for name, known in fields.items() if known.get("required") or name == "active"]
    filled_by_odoo = await check.defaults(api, model, wanted, {})
    return Subject(table, model, found, fields, frozenset(filled_by_odoo), f"{model} in Odoo {server.version}")


def _error(refused: Refused, where: str) -> RelayError:
    """What it means that Odoo refuses a question."""
    outcome = refused.outcome
    if outcome.login:
        return ConfigError((f"{where}: {outcome.reason}", "look at ODOO_USER, ODOO_API_KEY and ODOO_DATABASE"))
    if refused.name == "odoo.exceptions.AccessError":
        return ConfigError((f"{where}: {outcome.reason}", "give the user the right in Odoo, or use another user's key"))
    return Unavailable(f"{where}: {outcome.reason}", "is ODOO_URL right, and Odoo running? receiver.py check")
