"""The settings that the Odoo targets share, and the kinds of value they can have (as in relay/values.py)."""

import dataclasses
import re
from typing import ClassVar
from urllib.parse import urlsplit

from relay import urls, values
from relay.config import Endpoint
from relay.envfile import Problem
from relay.setting import setting
from relay.targets.settings import OverHttp, header_text


def host_name(value: str) -> str:
    """The value of a Host header; empty = the URL's own."""
    if not re.fullmatch(r"([A-Za-z0-9_.-]+(:[0-9]{1,5})?)?", value):
        raise values.Invalid("no host name", "write name or name:port")
    return value


def odoo_model(value: str) -> str:
    """The technical name of a model; empty = none."""
    if not re.fullmatch(r"([a-z0-9_]+(\.[a-z0-9_]+)*)?", value):
        raise values.Invalid("no model's name", "write its technical name, e.g. sale.order")
    return value


def odoo_method(value: str) -> str:
    """The name of a public method; empty = none."""
    if not re.fullmatch(r"([a-zA-Z][A-Za-z0-9_]*)?", value):
        raise values.Invalid("no public method's name", "write a name that does not begin with _")
    return value


def odoo_webhook(value: str) -> str:
    """The URL of an automation rule's webhook; empty = none. Who knows it can run the rule: a secret."""
    if value and not re.fullmatch(r"/web/hook/[A-Za-z0-9-]+", urlsplit(urls.http_url(value)).path[-300:]):
        raise values.Invalid("no webhook of Odoo", "copy it from the automation rule: https://host/web/hook/<uuid>")
    return value


@dataclasses.dataclass(frozen=True, kw_only=True)
class OdooServer(OverHttp):
    """Which database of a server."""

    odoo_database: str = setting(values.text, "")
    odoo_host: str = setting(host_name, "")


@dataclasses.dataclass(frozen=True, kw_only=True)
class OdooLogin(OdooServer):
    """A server whose models are called, and who we are there."""

    needed: ClassVar[tuple[str, ...]] = ("ODOO_URL",)

    odoo_url: str = setting(urls.http_url, "")
    odoo_api: str = setting(values.one_of("auto", "json2", "jsonrpc"), "auto")
    odoo_api_key: str = setting(header_text, "", secret=True)
    odoo_user: str = setting(values.text, "")
    odoo_password: str = setting(values.text, "", secret=True)

    def contradictions(self) -> list[Problem]:
        """See config.Common."""
        found, target = super().contradictions(), f"TARGET={self.target}"
        missing = [key for key in self.needed if not getattr(self, key.lower())]
        found += [(f"{target} needs {key}", f"set {key}; config.example.env shows how") for key in missing]
        if not self.odoo_api_key and not self.odoo_password:
            what = f"{target} needs ODOO_API_KEY or ODOO_PASSWORD"
            found.append((what, "make a key in Odoo: Preferences, Account Security"))
        if self.odoo_api_key and self.odoo_password:
            found.append(("both ODOO_API_KEY and ODOO_PASSWORD are set", "keep the key"))
        if self.odoo_api == "json2" and not self.odoo_api_key:
            found.append(("ODOO_API=json2 needs ODOO_API_KEY", "make a key in Odoo, or write ODOO_API=jsonrpc"))
        by_rpc = "ODOO_API=jsonrpc" if self.odoo_api == "jsonrpc" else "ODOO_PASSWORD" if self.odoo_password else ""
        by_name = {"ODOO_DATABASE": self.odoo_database, "ODOO_USER": self.odoo_user}
        unset = [key for key, value in by_name.items() if by_rpc and not value]
        return found + [(f"{by_rpc} needs {key}", f"set {key}") for key in unset]

    def endpoint(self) -> Endpoint:
        """See config.Receive."""
        sent = {"ODOO_API_KEY": self.odoo_api_key, "ODOO_PASSWORD": self.odoo_password}
        return Endpoint(
            "ODOO_URL", self.odoo_url, tuple(key for key, value in sent.items() if value), self.http_proxy_url
        )
