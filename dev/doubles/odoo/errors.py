"""Odoo's exceptions, by the names that its answers carry."""

from __future__ import annotations


class OdooError(Exception):
    """An error as Odoo serialises it.

    Args:
        name: the Python class, with its module.
        message: its text.
        status: what JSON-2 answers with; JSON-RPC always answers 200.
    """

    def __init__(self, name: str, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.status = status

    @property
    def is_user_error(self) -> bool:
        """Whether Odoo's own class descends from UserError."""
        return self.name.startswith("odoo.exceptions.")


class ConstraintError(OdooError):
    """PostgreSQL refused a row. `load` tells it in other words than create and write do."""

    def __init__(self, told_by_create: str, told_by_load: str, field: str | None = None) -> None:
        super().__init__("odoo.exceptions.ValidationError", told_by_create, 422)
        self.told_by_load = told_by_load
        self.field = field


class DatabaseDown(Exception):
    """PostgreSQL behind Odoo does not answer, or has no such database."""


def access_denied() -> OdooError:
    return OdooError("odoo.exceptions.AccessDenied", "Access Denied", 403)


def missing(model: str, ids: list[int], uid: int) -> OdooError:
    records = ", ".join(str(one) for one in ids) + ("," if len(ids) == 1 else "")
    text = f"Record does not exist or has been deleted.\n(Record: {model}({records}), User: {uid})"
    return OdooError("odoo.exceptions.MissingError", text, 404)


def not_allowed(verb: str, label: str, model: str) -> OdooError:
    text = (
        f"You are not allowed to {verb} '{label}' ({model}) records.\n\n"
        "This operation is allowed for the following groups:\n\t- Role / Administrator\n\n"
        "Contact your administrator to request access if necessary."
    )
    return OdooError("odoo.exceptions.AccessError", text, 403)


def value_error(message: str) -> OdooError:
    return OdooError("builtins.ValueError", message)


def user_error(message: str) -> OdooError:
    return OdooError("odoo.exceptions.UserError", message, 422)


def validation_error(message: str) -> OdooError:
    return OdooError("odoo.exceptions.ValidationError", message, 422)
