"""What a test holds of an Odoo: the stand-in in a process of its own, or the real server that the environment names."""

from __future__ import annotations

import importlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from dev.doubles.odoo.client import Client, Refused
from dev.doubles.odoo.model import JSON2_SINCE, like, models

VIEW = {"Standin-View": "1"}
OF_ODOO = {"base", "product", "sale", "account", "mail"}
Value = Any


class Odoo:
    """An Odoo that is reached; `real` says which kind. `unique` begins the external ids of one test.

    `like` is the version of the stand-in that it resembles: "17" before JSON-2, "19" since.
    """

    real = False

    def __init__(self, url: str, database: str, login: str, secrets_: Mapping[str, str], version: str) -> None:
        self.url = url
        self.database = database
        self.login = login
        self.password = secrets_["password"]
        self.api_key = secrets_["api_key"]
        self.version = version
        self.unique = _unique()
        self.like = like(version)
        self._models = models(self.like)

    def needs(self, *models: str) -> None:
        """Skip the test on a real server that lacks one of these models (of a module that is not installed)."""

    def client(self, **changes: Any) -> Client:
        """Speaks to it as the user of the test; `changes` are fields of Client."""
        whole = {"url": self.url, "database": self.database, "login": self.login, "secret": self.api_key}
        return Client(**{**whole, "json2": int(self.version) >= JSON2_SINCE, **changes})

    def records(self, model: str, prefix: str | None = None) -> dict[str, dict[str, Value]]:
        """The records with an external id of their own, archived ones too, by that id (without `__import__.`).

        A link is shown as an external id, many of them as a sorted tuple, a link to what has none as its number.

        Args:
            model: its name.
            prefix: only external ids whose name begins so (default: `unique` on a real server, else all).
        """
        prefix = self.unique if prefix is None and self.real else prefix or ""
        view = self.client(headers=VIEW)
        known = self._external(view, model, prefix)
        ours = {key: name for key, name in known.items() if name.partition(".")[0] not in OF_ODOO}
        fields = [name for name in self._shared_fields(view, model) if name not in {"id", "create_date", "write_date"}]
        shown = view.call(model, "read", sorted(ours), fields=fields, load=None)
        names = {one: self._external(view, one) for one in self._relations(model)}
        return {ours[record.pop("id")]: self._linked(model, record, names) for record in shown}

    def count(self, model: str, prefix: str) -> int:
        """How many there are of a model whose external id's name begins so."""
        domain = [["model", "=", model], ["name", "=like", prefix.replace("_", r"\_") + "%"]]
        return int(self.client(headers=VIEW).call("ir.model.data", "search_count", domain=domain))

    def record(self, model: str, xmlid: str) -> dict[str, Value] | None:
        """One of `records`, or None."""
        module, dot, name = xmlid.rpartition(".")
        return self.records(model, name).get(xmlid if dot and module != "__import__" else name)

    def _shared_fields(self, view: Client, model: str) -> Iterable[str]:
        there = view.call(model, "fields_get", attributes=["type"])
        return [name for name in self._models[model].fields if name in there]

    def _relations(self, model: str) -> set[str]:
        return {field.relation for field in self._models[model].fields.values() if field.relation}

    def _linked(self, model: str, record: dict[str, Value], names: Mapping[str, Mapping[int, str]]) -> dict[str, Value]:
        fields = self._models[model].fields
        for name, value in record.items():
            if fields[name].type in {"many2many", "one2many"}:
                record[name] = tuple(sorted(names[fields[name].relation or ""].get(key, str(key)) for key in value))
            elif fields[name].relation and value:
                record[name] = names[fields[name].relation or ""].get(value, value)
        return record

    def _external(self, view: Client, model: str, prefix: str = "") -> dict[int, str]:
        asked = ["complete_name", "res_id"]
        domain = [["model", "=", model], ["name", "=like", prefix.replace("_", r"\_") + "%"]]
        found = view.call("ir.model.data", "search_read", domain=domain, fields=asked)
        return {one["res_id"]: one["complete_name"].removeprefix("__import__.") for one in found}


def _unique() -> str:
    return f"t{secrets.token_hex(4)}_"


class Standin(Odoo):
    """The stand-in.

    Args:
        version: "14", "17" or "19".
        databases: the first is the one of the test.
        call, row, workers, close, key_days: see `server.py`.
    """

    def __init__(self, version: str, databases: str = "odoo", **options: object) -> None:
        command = [sys.executable, "-m", "dev.doubles.odoo.server", version, "--databases", databases]
        for name, value in options.items():
            command += [f"--{name.replace('_', '-')}"] if value is True else [f"--{name.replace('_', '-')}", str(value)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )
        told = self._answer()
        keys = {"password": "admin", "api_key": told["keys"]["admin"]}
        super().__init__(f"http://127.0.0.1:{told['port']}", told["databases"][0], "admin", keys, version)
        self.port: int = told["port"]
        self.plain_key: str = told["keys"]["plain"]
        """The API key of a user "plain" who may read and not write."""

    def break_(self, kind: str, **options: object) -> None:
        """Break something; `trouble.Trouble` tells what there is."""
        self._tell("break", kind=kind, **options)

    def mend(self, kind: str | None = None) -> None:
        """Mend it (all, without a kind)."""
        self._tell("mend", kind=kind)

    def requests(self, **wanted: object) -> list[dict[str, Any]]:
        """The requests seen so far: path, model, method, rows, firsts (first columns), status, started, took; e.g.
        requests(method="load").
        """
        return [one for one in self._tell("requests") if all(one[name] == value for name, value in wanted.items())]

    def forget_requests(self) -> None:
        self._tell("forget")

    def stop(self) -> None:
        """Refuse connections from now on; open ones are reset. The records stay."""
        self._tell("stop")

    def start(self) -> None:
        self._tell("start")

    def pace(self, call: float, row: float) -> None:
        """Seconds that each call and each row takes from now on."""
        self._tell("pace", call=call, row=row)

    def hook(self) -> str:
        """The path of a new webhook that creates a contact from the payload's `name`."""
        return f"/web/hook/{self._tell('hook', database=self.database)}"

    def add_field(self, model: str, name: str, kind: str) -> None:
        """Give a model a field more."""
        self._tell("add_field", model=model, name=name, kind=kind)

    def zone(self, zone: str) -> None:
        """Set the time zone of the user "admin"."""
        self._tell("zone", database=self.database, login="admin", zone=zone)

    def reset(self) -> None:
        """As after the start: nothing is broken, no record is there, the keys are new; the port is the same."""
        told = self._tell("reset")
        self.api_key, self.plain_key = told["keys"]["admin"], told["keys"]["plain"]
        self.unique = _unique()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def _tell(self, command: str, **options: object) -> Any:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"command": command, **options}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line, "the stand-in Odoo has ended; its output says why"
        return json.loads(line)


class Real(Odoo):
    """The server that ODOO_URL, ODOO_DB, ODOO_LOGIN (admin) and ODOO_API_KEY name."""

    real = True

    def __init__(self) -> None:
        env = os.environ
        key = env["ODOO_API_KEY"]
        secrets_ = {"api_key": key, "password": env.get("ODOO_PASSWORD", key)}
        asked = Client(env["ODOO_URL"].rstrip("/"), env["ODOO_DB"], env.get("ODOO_LOGIN", "admin"), key, json2=False)
        version = str(asked.version()["server_version_info"][0])
        super().__init__(asked.url, asked.database, asked.login, secrets_, version)

    def needs(self, *models: str) -> None:
        for model in models:
            try:
                self.client().call(model, "fields_get", attributes=["type"])
            except Refused:
                importlib.import_module("pytest").skip(f"the server has no model {model}")

    def hook(self) -> str:
        """The path of a new webhook, as the stand-in's."""
        client = self.client(json2=False)
        try:
            (model,) = client.call("ir.model", "search", domain=[["model", "=", "res.partner"]])
            rule = {"name": self.unique, "model_id": model, "trigger": "on_webhook"}
            rule |= {"record_getter": "model.search([], limit=1)"}
            (made,) = client.call("base.automation", "create", vals_list=[rule])
        except Refused as refused:
            importlib.import_module("pytest").skip(f"no webhook can be made: {refused}")
        code = "env['res.partner'].create({'name': payload.get('name')})\nif payload.get('fail'): raise UserError('no')"
        action = {"name": self.unique, "model_id": model, "state": "code", "code": code, "usage": "base_automation"}
        client.call("ir.actions.server", "create", vals_list=[{**action, "base_automation_id": made}])
        return f"/web/hook/{client.call('base.automation', 'read', [made], fields=['webhook_uuid'])[0]['webhook_uuid']}"

    def __getattr__(self, name: str) -> Any:
        """What only the stand-in can do."""
        if name in {
            "break_",
            "mend",
            "requests",
            "forget_requests",
            "stop",
            "start",
            "pace",
            "hook",
            "zone",
            "add_field",
            "plain_key",
        }:
            importlib.import_module("pytest").skip(f"a real server is not told to {name.rstrip('_').replace('_', ' ')}")
        raise AttributeError(name)
