"""The methods of the models that a client may call, with the signatures of Odoo's own (its errors quote them)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dev.doubles.odoo import convert, search
from dev.doubles.odoo.errors import OdooError, not_allowed, user_error, value_error
from dev.doubles.odoo.languages import INSTALLED, in_language
from dev.doubles.odoo.load import Load
from dev.doubles.odoo.model import Model
from dev.doubles.odoo.store import Store
from dev.doubles.odoo.trouble import Conflict, Troubles

OF_THE_MODEL = {  # Odoo's @api.model: called without ids
    *("create", "load", "search", "search_read", "search_count", "fields_get", "check_access_rights"),
    *("check_object_reference", "context_get", "default_get", "name_create", "receive"),
}
READ = {"read", "search", "search_read", "search_count", "fields_get", "check_access_rights", "has_access"}
OWN = {"action_confirm", "action_cancel", "check_object_reference", "context_get", "receive"}


@dataclass
class Environment:
    """Who calls, on which database."""

    store: Store
    uid: int
    admin: bool
    context: Mapping[str, Any]
    troubles: Troubles


class BaseModel:
    """A recordset: a model, the ids and the environment. Public methods are callable from outside."""

    def __init__(self, env: Environment, model: Model, ids: Sequence[int]) -> None:
        self._env = env
        self._store = env.store
        self._model = model
        self._ids = list(ids)
        self._language = env.context.get("lang")

    def load(self, fields: Any, data: Any) -> Any:
        conflict = self._env.troubles.take("conflict", self._model.name, "load")

        def meet(_model: str) -> None:
            if conflict:
                raise Conflict

        may = self._may("write")
        # Times are those of the user's zone, unless the context names one.
        context = {**self._env.context}
        context["tz"] = context.get("tz") or self._store.tables["res.users"][self._env.uid]["tz"]
        return Load(self._store, self._model, context, may_write=may, conflict=meet).run(fields, data)

    def create(self, vals_list: Any) -> Any:
        self._demand("create")
        several = isinstance(vals_list, list)
        made = [self._create(values) for values in (vals_list if several else [vals_list])]
        return made if several else made[0]

    def write(self, vals: Any) -> bool:
        self._demand("modify")
        self._store.exists(self._model.name, self._ids, self._env.uid)
        for key in self._ids:
            held = self._store.tables[self._model.name][key]
            values = convert.plain(self._store, self._model, vals, held)
            convert.checked(self._model, values)
            self._store.write(self._model.name, key, in_language(self._model, values, held, self._language))
        return True

    def unlink(self) -> bool:
        self._demand("delete")
        if self._model.name == "ir.model.data":
            return self._store.unname_by_hand(self._ids)
        self._store.exists(self._model.name, self._ids, self._env.uid)
        if self._model.name == "res.partner.bank" and self._store.version != "17":
            return self.write({"active": False})  # Odoo's own: an account may be linked to entries
        for key in self._ids:
            self._store.unlink(self._model.name, key)
        return True

    def action_archive(self) -> None:
        self._store.exists(self._model.name, self._ids, self._env.uid)
        self.write({"active": False})
        self._templates(active=False)

    def action_unarchive(self) -> None:
        self._store.exists(self._model.name, self._ids, self._env.uid)
        self.write({"active": True})
        self._templates(active=True)

    def _templates(self, *, active: bool) -> None:
        """product.product takes its template along, unless that still has variants. `write` does not."""
        if self._model.name != "product.product":
            return
        variants = self._store.tables["product.product"]
        for template in {variants[key]["product_tmpl_id"] for key in self._ids}:
            hidden = self._env.context.get("active_test", True)  # without it the archived variants are found, too
            left = [one for one in variants.values() if one["product_tmpl_id"] == template]
            if any(one["active"] or not hidden for one in left) == active:
                self._store.write("product.template", template, {"active": active})

    def search(self, domain: Any, offset: Any = 0, limit: Any = None, order: Any = None) -> list[int]:
        self._demand("access")
        found = search.search(self._store, self._model, domain, self._env.context, order)
        return found[offset : None if limit is None else offset + limit]

    def search_count(self, domain: Any, limit: Any = None) -> int:
        return len(self.search(domain, limit=limit))

    def search_read(
        self, domain: Any = None, fields: Any = None, offset: Any = 0, limit: Any = None, order: Any = None
    ) -> list[dict[str, Any]]:
        found = self.search(domain or [], offset, limit, order)
        return search.read(self._store, self._model, found, fields, language=self._language)

    def read(self, fields: Any = None, load: Any = "_classic_read") -> list[dict[str, Any]]:
        self._demand("access")
        named = load == "_classic_read"
        return search.read(self._store, self._model, self._ids, fields, named=named, language=self._language)

    def fields_get(self, allfields: Any = None, attributes: Any = None) -> dict[str, dict[str, Any]]:
        return {
            name: search.describe(field, attributes)
            for name, field in self._model.fields.items()
            if not allfields or name in allfields
        }

    def check_access_rights(self, operation: Any, raise_exception: Any = True) -> bool:
        may = self._may(operation)
        if raise_exception and not may:
            self._demand("modify")
        return may

    def has_access(self, operation: Any) -> bool:
        return self._may(operation)

    def check_object_reference(self, module: Any, xml_id: Any, raise_on_access_error: Any = False) -> list[Any]:  # noqa: ARG002 - Odoo's signature
        found = self._store.external.get(f"{module}.{xml_id}")
        if not found:
            raise value_error(f"External ID not found in the system: {module}.{xml_id}")
        record = self._store.tables[found[0]][found[1]]
        hidden = not record.get("active", True) and self._env.context.get("active_test", True)
        return [found[0], False if hidden else found[1]]

    def default_get(self, fields: Any) -> dict[str, Any]:
        known = self._model.fields
        return {name: known[name].initial for name in fields if name in known and known[name].default is not False}

    def context_get(self) -> dict[str, Any]:
        user = self._store.tables["res.users"][self._env.uid]
        return {"lang": user["lang"], "tz": user["tz"], "uid": self._env.uid}

    def name_create(self, name: Any) -> list[Any]:
        return [self.create({"name": name}), name]

    def action_confirm(self) -> bool:
        """Drafts only; 19 wants a product in every line."""
        self._store.exists(self._model.name, self._ids, self._env.uid)
        orders = [self._store.tables["sale.order"][key] for key in self._ids]
        if any(one["state"] not in ("draft", "sent") for one in orders):
            names = ", ".join(str(one["name"]) for one in orders)
            told = {"17": f"The following orders are not in a state requiring confirmation: {names}"}
            raise user_error(told.get(self._store.version, "Some orders are not in a state requiring confirmation."))
        lines = self._store.tables["sale.order.line"].values()
        bare = any(one["order_id"] in self._ids and not one["product_id"] for one in lines)
        if bare and self._store.version != "17":
            raise user_error("Some order lines are missing a product, you need to correct them before going further.")
        return self.write({"state": "sale"})

    def action_cancel(self) -> Any:
        """17 asks back for all but drafts: it answers with a window for a person, and cancels nothing.

        14 does so for orders with a draft invoice, which the stand-in does not have.
        """
        orders = [self._store.tables["sale.order"][key] for key in self._ids]
        asks = self._store.series == "17" and not self._env.context.get("disable_cancel_warning")
        if not asks or all(one["state"] == "draft" for one in orders):
            return self.write({"state": "cancel"})
        if len(orders) > 1:
            raise value_error(f"Expected singleton: sale.order({', '.join(map(str, self._ids))})")
        window = {"name": "Cancel Quotation", "view_mode": "form", "res_model": "sale.order.cancel", "target": "new"}
        return {**window, "view_id": 1, "type": "ir.actions.act_window", "context": {"default_order_id": self._ids[0]}}

    def receive(self, event: Any) -> Any:
        """The method of one's own that odoo-call calls: it keeps the event, or asks a person."""
        if (event.get("new") or {}).get("name") == "ask":
            return {"type": "ir.actions.client", "tag": "display_notification", "params": {"message": "Sure?"}}
        self._create({"event": event["id"], "body": event})
        return True

    def _create(self, vals: Mapping[str, Any]) -> int:
        values = convert.plain(self._store, self._model, vals)
        if self._model.name == "ir.model.data":
            return self._store.name_by_hand(values)
        convert.checked(self._model, values)
        return self._store.create(self._model.name, in_language(self._model, values, {}, self._language))

    def _may(self, operation: str) -> bool:
        if self._env.troubles.take("access", self._model.name):
            return False
        if self._model.name in ("ir.model", "ir.model.data"):
            return self._env.admin
        return operation in {"read", "access"} or self._env.admin

    def _demand(self, verb: str) -> None:
        if not self._may(verb):
            raise not_allowed(verb, self._model.label, self._model.name)


def find(env: Environment, model: str, method: str, *, json2: bool) -> Any:
    """The method of a model. Raises OdooError as JSON-2 or JSON-RPC have it."""
    if model not in env.store.models:
        if json2:
            raise not_found(f"the model {model!r} does not exist")
        raise user_error(f"Object {model} doesn't exist")
    if method.startswith("_"):
        named = method if env.store.version == "17" else repr(f"{model}.{method}")
        text = f"Private methods (such as {named}) cannot be called remotely."
        raise OdooError("odoo.exceptions.AccessError", text, 403)
    definition = env.store.models[model]
    known = method in definition.methods or (method not in OWN and hasattr(BaseModel, method))
    if not known or (method == "has_access" and env.store.version == "17"):
        text = f"The method '{model}.{method}' does not exist"
        if env.store.version == "17":
            text = f"The method '{method}' does not exist on the model '{model}'"
        raise not_found(text) if json2 else OdooError("builtins.AttributeError", text)
    return getattr(BaseModel, method)


def call(
    env: Environment, model: str, method: str, ids: Sequence[int], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> Any:
    """Call it in a transaction. Raises: OdooError."""
    language = env.context.get("lang")
    if language and language not in INSTALLED and not (env.store.version == "17" and method == "load"):
        raise user_error(f"Invalid language code: {language}")
    records = BaseModel(env, env.store.models[model], ids)
    with env.store.transaction():
        if told := env.troubles.take("error", model, method):
            raise OdooError(told.name, told.message, 422 if told.name.startswith("odoo.exceptions.") else 500)
        if env.troubles.take("action", model, method):
            return {"type": "ir.actions.act_window", "res_model": "some.wizard", "target": "new"}
        if method in {"write", "create", "unlink"} and env.troubles.take("conflict", model, method):
            raise OdooError("psycopg2.errors.SerializationFailure", Conflict.message)
        try:
            return getattr(BaseModel, method)(records, *args, **_named(env, method, kwargs))
        except (
            TypeError,
            AttributeError,
            KeyError,
            ValueError,
        ) as error:  # as Odoo's own code
            raise OdooError(f"builtins.{type(error).__name__}", str(error)) from error


def _named(env: Environment, method: str, kwargs: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments by the names that they have here: 14 calls the domain of `search` `args`. Raises TypeError."""
    if env.store.series != "14" or method not in ("search", "search_count"):
        return kwargs
    if "domain" in kwargs:
        raise TypeError(f"BaseModel.{method}() got an unexpected keyword argument 'domain'")
    return {"domain" if name == "args" else name: value for name, value in kwargs.items()}


def bind(function: Any, kwargs: Mapping[str, Any]) -> None:
    """JSON-2 names its arguments. Raises OdooError (422) if they do not fit."""
    try:
        inspect.signature(function).bind(None, **kwargs)
    except TypeError as error:
        raise OdooError("werkzeug.exceptions.UnprocessableEntity", error.args[0], 422) from None


def not_found(text: str) -> OdooError:
    return OdooError("werkzeug.exceptions.NotFound", text, 404)
