"""`receiver.py mapping` and `check --columns`: what they write, and what they say to mistakes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dev import forkserver
from dev.doubles.odoo.handle import Odoo, Standin
from relay import targets
from relay.delivery import DONE
from relay.errors import RelayError
from relay.findings import Level
from relay.targets.odoo import mapping_file
from relay.targets.odoo.load import OdooLoadTarget
from tests.links import findings
from tests.odoo_rows import credentials, deliver, row, target

ROOT = Path(__file__).parents[2]
VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
CUSTOMERS = """
    id bigint primary key, name text not null, email varchar(80), telephone text, parent_id bigint references customers,
    tag_ids int[], country char(2), is_company boolean not null, latitude numeric(10, 7), active boolean,
    "Odd {name}" text, created_at timestamptz not null
"""
ROW = {
    "name": "Ann", "email": "ann@example.com", "telephone": "123", "parent_id": None, "tag_ids": [], "country": "GB",
    "is_company": False, "latitude": 1.5, "active": None, "Odd {name}": None, "created_at": "2031-12-30T00:00:00Z",
}  # fmt: skip


def command(
    odoo: Odoo, *arguments: str, given: str | bytes = "", changes: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """The command, with no mapping file there yet."""
    settings = {"RABBITMQ_URL": "amqp://nobody@localhost/", "QUEUE": "odoo", "TARGET": "odoo-load", **credentials(odoo)}
    environment = {**os.environ, **settings, **(changes or {})}
    words = [sys.executable, str(ROOT / "receiver.py"), *arguments]
    pipe = subprocess.PIPE
    with forkserver.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env=environment) as process:
        out, err = process.communicate(given.encode() if isinstance(given, str) else given, timeout=60)
    assert b"Traceback" not in err
    return subprocess.CompletedProcess(words, process.returncode, out.decode(), err.decode())


@VERSIONS
def test_what_it_writes_is_a_mapping_that_check_has_nothing_against_and_that_works(odoo: Odoo, tmp_path: Path) -> None:
    told = command(odoo, "mapping", "public.customers", "res.partner", "--columns", "-", given=CUSTOMERS)
    assert (told.returncode, told.stderr) == (0, "")
    text = told.stdout.replace('id = "', f'id = "{odoo.unique}')
    made = target(tmp_path, odoo, text)
    assert [f"{one.name}: {one.detail}" for one in findings(made) if not one.ok] == []
    assert deliver(made, row("customers", 1, **ROW)) == [DONE]
    record = odoo.record("res.partner", f"{odoo.unique}customers_1")
    assert record is not None
    wanted = {"name": "Ann", "email": "ann@example.com", "phone": "123", "active": True, "country_id": "base.uk"}
    assert {name: record[name] for name in wanted} == wanted


@VERSIONS
@pytest.mark.parametrize(
    ("model", "columns", "wanted"),
    [
        ("sale.order.line", "order_id int references orders, no int, qty numeric(9,2), primary key (order_id, no)",
         ['id = "t_{order_id}_{no}"', '"order_id/id" = "orders_{order_id}"', 'delete = "unlink"  # ?']),
        ("product.template", "sku text primary key, title text, price numeric(12,4)",
         ['id = "t_{sku}"', 'name = "{title}"', 'default_code = "{sku}"', '#match = ["default_code"]']),
        ("res.partner.bank", "iban text primary key", ['#"partner_id/id" = "res.partner_..."  # ? Odoo requires it']),
        ("ir.attachment", "id int primary key, name text, datas bytea", ['datas = "{datas}"']),
    ],
)  # fmt: skip
def test_other_models(odoo: Odoo, tmp_path: Path, model: str, columns: str, wanted: list[str]) -> None:
    odoo.needs(model)
    told = command(odoo, "mapping", "public.t", model, "--columns", columns)
    assert (told.returncode, told.stderr) == (0, "")
    for begin in wanted:
        assert any(one.startswith(begin) for one in told.stdout.splitlines()), told.stdout
    wrong = [one for one in findings(target(tmp_path, odoo, told.stdout)) if not one.ok]
    assert [one.name for one in wrong if "required fields" not in one.name] == []
    if not odoo.real and model == "product.template":
        price = next(one for one in told.stdout.splitlines() if one.startswith("list_price"))
        assert ("4 decimals: Odoo keeps, or shows, 2" in price) == (odoo.like == "17")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("public.t", "res.partnr", "--columns", "a"), "does not know res.partnr: "),
        (("public.t", "res.partnr", "--columns", "a"), "did you mean res.partner or "),
        (("public.t", "contact", "--columns", "a"), "did you mean res.partner"),
        (("public.t", "xyzzy", "--columns", "a"), "write the technical name of a model that is there"),
        (("public.t", "Res Partner", "--columns", "a"), "Res Partner is no model -> write its technical name"),
        (("t", "res.partner", "--columns", "a"), "'t' names no table with its schema"),
        (('public.a"b', "res.partner", "--columns", "a"), "names no table with its schema"),
        (("public.t", "res.partner", "--columns", "a, a"), "names a twice -> write --columns 'id int"),
        (("public.t", "res.partner", "--columns", "-"), "names no column"),
        (("public.t", "res.partner", "--columns", '"{a}"'), "its key has a name that a mapping can't hold"),
        (("public.t", "res.partner"), "the following arguments are required: --columns"),
    ],
)
def test_each_mistake_is_one_clear_error(odoo: Odoo, arguments: tuple[str, ...], what: str) -> None:
    told = command(odoo, "mapping", *arguments)
    assert told.returncode == (2 if "following" in what else 78)
    assert what in told.stderr
    assert told.stdout == ""


def test_what_hinders_is_told_by_its_cause(odoo: Odoo, tmp_path: Path) -> None:
    arguments = ("mapping", "public.t", "res.partner", "--columns", "id, name")
    other = command(odoo, *arguments, changes={"TARGET": "http", "HTTP_URL": "http://127.0.0.1:9/"})
    assert other.returncode == 78
    assert "receiver.py mapping is for TARGET=odoo-load, not for http" in other.stderr
    away = command(odoo, *arguments, changes={"ODOO_URL": "http://127.0.0.1:9"})
    assert away.returncode == 75
    assert "is ODOO_URL right, and Odoo running?" in away.stderr
    wrong = command(odoo, *arguments, changes={"ODOO_API_KEY": "wrong"})
    assert wrong.returncode == 78
    assert "look at ODOO_USER, ODOO_API_KEY and ODOO_DATABASE" in wrong.stderr
    assert "wrong" not in wrong.stderr.replace("wrong with", "")
    latin = command(odoo, *arguments[:4], "-", given="größe".encode("latin-1"))
    assert latin.returncode == 78
    assert "standard input is no UTF-8 text" in latin.stderr


@VERSIONS
def test_without_rights_it_says_which_are_missing(odoo: Odoo) -> None:
    if not isinstance(odoo, Standin):
        pytest.skip("a user without rights is the stand-in's")
    plain = {"ODOO_API_KEY": odoo.plain_key, "ODOO_USER": "plain"}
    told = command(odoo, "mapping", "public.t", "res.partner", "--columns", "id, name", changes=plain)
    assert told.returncode == 78
    assert "the user may not create and write res.partner" in told.stderr
    told = command(odoo, "mapping", "public.t", "res.partnr", "--columns", "id, name", changes=plain)
    assert "did you mean res.partner" in told.stderr, "also where the names of models are not told"


MAPPING = """
[table."public.people"]
model = "res.partner"
id = "%(unique)speople_{id}"
when = { kind = "customer" }
[table."public.people".fields]
name = "{name}"
color = "{color}"
"country_id/id" = "base.{country|lower}"
partner_latitude = "{latitude}"
state_id = { by = { code = "{state}", "country_id.code" = "{country}" } }
"""
GOOD = "id int primary key, name text, color int, country text, latitude numeric(9,5), state text, kind text"


def compared(made: OdooLoadTarget, columns: str, table: str = "public.people") -> list[str]:
    async def collect() -> list[str]:
        found = [one async for one in made.check_columns(table, columns)]
        return [f"{one.name}: {one.detail} -> {one.remedy}" for one in found if one.level is not Level.OK]

    return asyncio.run(collect())


@pytest.mark.parametrize("odoo", ["14", "17", "19"], indirect=True)
def test_check_compares_a_mapping_with_the_tables_columns(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, MAPPING)
    assert compared(made, GOOD) == []
    for good, bad, what, remedy in (
        ("name text", "nmae text", "public.people: name: the table has no column name", "did you mean nmae? It is in "),
        ("kind text", "sort text", "public.people: when: the table has no column kind", "It is in "),
        (
            "country text",
            "countri text",
            "public.people: country_id/id: the table has no column country",
            "countri? It",
        ),
        ("state text", "stat text", "public.people: state_id/.id: the table has no column state", "did you mean stat"),
        (
            "id int primary key",
            "id int, no int primary key",
            "id: column id is not in the key (no)",
            "or give relay.watch",
        ),
        (
            "color int",
            "color numeric(4,2)",
            "color: column color is numeric(4,2): numbers with decimals",
            "float; it is",
        ),
        ("color int", "color date", "color: column color is date, which no integer field takes", "map another column"),
        ("numeric(9,5)", "numeric(12,9)", "latitude: column latitude is numeric(12,9), with 9 decimals", "raise the"),
    ):
        said = compared(made, GOOD.replace(good, bad))
        assert any(what in one and remedy in one for one in said), (bad, said)
    assert "did you mean public.people?" in compared(made, GOOD, "public.peple")[0]


def test_check_columns_is_a_command(odoo: Odoo, tmp_path: Path) -> None:
    changes = {"ODOO_MAPPING": str(tmp_path / "mapping.toml")}
    target(tmp_path, odoo, MAPPING)
    told = command(odoo, "check", "--columns", "public.people", "-", given=GOOD + ", shoe int", changes=changes)
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.strip() == "ok      public.people: columns: 8 columns; the mapping does not use shoe"
    told = command(odoo, "check", "--columns", "public.people", "id int, nmae text", changes=changes)
    assert told.returncode == 78
    assert "FAILED  public.people: name: the table has no column name -> did you mean nmae?" in told.stdout
    told = command(odoo, "check", "--columns", "public.people", "a int,,(", changes=changes)
    assert told.returncode == 78
    assert "a bracket without its other half" in told.stderr + told.stdout


@pytest.mark.parametrize(
    "body",
    [
        *(
            "7",
            "null",
            "[]",
            "{}",
            '{"name": 7}',
            '{"name": {}}',
            '{"name": {"type": ["char"]}}',
            '{"": {"type": "char"}}',
        ),
        '{"name": {"type": "char", "string": 7, "required": "x", "depends": 7, "store": [], "related": {}}}',
        '{"name": {"type": "selection", "selection": 7}, "email": {"type": "selection", "selection": [7, [], [7]]}}',
        '{"name": {"type": "float", "digits": ["x", "y"]}, "email": {"type": "float", "digits": 7}}',
        '{"name": {"type": "many2one", "relation": 7}, "email": {"type": "many2many", "relation": ["x"]}}',
        '{"name": {"type": "char", "string": "\\u0000\\n# x\\u2028"}, "a\\nb": {"type": "char", "required": true}}',
        '{"x_y": {"type": "char", "string": "' + "z" * 100_000 + '", "required": true}}',
        '{"email": {"type": "selection", "selection": [["a\\nb = 1", "A"], ["' + "z" * 9000 + '", "B"]]}}',
    ],
)
def test_odd_answers_of_odoo_are_no_traceback_and_no_other_line(
    odoo: Odoo, tmp_path: Path, body: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    if odoo.real:
        pytest.skip("answers nothing odd")
    whole = f'{{"jsonrpc": "2.0", "id": 1, "result": {body}}}' if odoo.like == "17" else body
    odoo.break_("status", method="fields_get", status=200, body=whole)
    settings = {"RABBITMQ_URL": "amqp://nobody@localhost/", "QUEUE": "odoo", "TARGET": "odoo-load", **credentials(odoo)}
    config, write = targets.mapper(None, settings)
    columns = "id int primary key, name numeric(9,5), email text, parent_id int, active boolean"
    with contextlib.suppress(RelayError):
        asyncio.run(write(config, "public.t", "res.partner", columns))
    if not (text := capsysbinary.readouterr().out.decode()):
        return
    assert all(re.match(r'$|#|\[table|"?[\w/]+"? = ', line) for line in text.split("\n")), text
    assert max(map(len, text.split("\n"))) < 1000
    file = tmp_path / "mapping.toml"
    file.write_text(text)
    assert list(mapping_file.load(str(file)).tables) == ["public.t"]
