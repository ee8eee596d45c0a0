"""`receiver.py check` on a mapping: each name of a field, model or language is looked at, and the nearest is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dev.doubles.odoo.handle import Odoo
from relay.delivery import DONE
from relay.findings import Finding, Level
from relay.targets.odoo import mapping_file
from relay.targets.odoo.api import Api
from relay.targets.odoo.check import health
from relay.targets.odoo.check_fields import RENAMED, unknown, wrong_with
from tests.links import findings
from tests.odoo_rows import deliver, row, target

VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
PEOPLE = """
[table."public.people"]
model = "%(model)s"
id = "%%(unique)speople_{id}"
delete = "ignore"
truncate = "ignore"
%(table)s
[table."public.people".fields]
name = "{name}"
%(fields)s
"""
STATE = 'state_id = { by = { code = "{a}", %s = "{b}" } }'


def mapping(table: str = "", fields: str = "", model: str = "res.partner") -> str:
    return PEOPLE % {"model": model, "table": table, "fields": fields}


def wrong(odoo: Odoo, directory: Path, text: str) -> list[str]:
    """What is not in order."""
    return [told(one) for one in findings(target(directory, odoo, text)) if one.level is not Level.OK]


def told(finding: Finding) -> str:
    return f"{finding.level.word} {finding.name}: {finding.detail} -> {finding.remedy}"


@VERSIONS
@pytest.mark.parametrize(
    ("table", "fields", "what", "remedy"),
    [
        ("", 'emial = "{a}"', "emial: res.partner has no such field", "did you mean email"),
        ("", '"parnt_id/id" = "x_{a}"', "parnt_id/id: res.partner has no such field", "did you mean parent_id"),
        ('delete = [{ when = { activ = true }, do = "unlink" }]', "", "activ: res.partner has no such field", "active"),
        ("delete = { set = { colour = 1 } }", "", "colour: res.partner has no such field", "did you mean color?"),
        ('delete = { set = { create_date = "2031-12-30" } }', "", "create_date can't be written", "change set in"),
        ('actions = [{ method = "x", unless_record = { citi = "a" } }]', "", "citi: res.partner has no such", "city"),
        ("", 'country_id = { from = "{a}", by = "cod" }', "by cod: res.country has no such field", "mean code?"),
        ("", 'state_id = { by = { cde = "{a}" } }', "by cde: res.country.state has no such field", "code"),
        ("", STATE % '"country_id.cod"', "by country_id.cod: res.country has no such field", "mean code"),
        ("", STATE % '"country.code"', "country.code: res.country.state has no such field", "country_id"),
        ("", STATE % '"name.code"', "name is no link, and has no code", "change by"),
        ("", 'color = { from = "x_{a}", model = "res.partnr" }', "res.partnr", "did you mean res.partner"),
        ('context = { lang = "de_AT" }', "", "languages: de_AT is not installed; there are: ", "install de_AT in Odoo"),
        ("", 'color = "1.5"', "is of type integer, and a value of the mapping is no whole", "change it in"),
        ("", 'color = "4294967296"', "a value of the mapping is no whole number from", "change it in"),
        ("", 'type = { from = "{a}", values = { a = "nothing" } }', "knows no value nothing", "write one of contact"),
        ("", 'create_date = "{a}"', "can't be written (Odoo computes it)", "remove create_date"),
    ],
)
def test_each_name_and_value_of_a_mapping_is_looked_at(
    odoo: Odoo, tmp_path: Path, table: str, fields: str, what: str, remedy: str
) -> None:
    text = mapping(table, fields)
    if table.startswith("delete"):
        text = text.replace('delete = "ignore"\n', "")
    said = wrong(odoo, tmp_path, text)
    if odoo.real and "de_AT" in what and not said:
        pytest.skip("this server has de_AT")
    assert len(said) == 1, said
    assert what in said[0]
    assert remedy in said[0]
    assert "mapping.toml line " in said[0] or "install" in said[0]


@VERSIONS
def test_a_model_that_is_none_is_told_with_the_nearest(odoo: Odoo, tmp_path: Path) -> None:
    for model, near in (("res.partnr", "did you mean res.partner"), ("contact", "did you mean res.partner")):
        [said] = wrong(odoo, tmp_path, mapping(model=model))
        assert near in said
        assert "It is in " in said
    [said] = wrong(odoo, tmp_path, mapping(model="xyzzy"))
    assert "-> change model in " in said


@pytest.mark.parametrize("odoo", ["14", "17", "19"], indirect=True)
def test_a_required_field_is_asked_of_odoo_whether_it_has_a_default(odoo: Odoo, tmp_path: Path) -> None:
    bank = mapping(fields='acc_number = "{a}"', model="res.partner.bank").replace('name = "{name}"\n', "")
    [said] = wrong(odoo, tmp_path, bank)
    assert "required, without a default, and not in the mapping: partner_id -> add them in " in said
    odoo.needs("sale.order")
    order = mapping(fields='"partner_id/id" = "x_{a}"', model="sale.order").replace('name = "{name}"\n', "")
    assert wrong(odoo, tmp_path, order) == [], "name has a default, and 14 fills others as it creates the order"
    line = mapping(fields='"order_id/id" = "x_{a}"', model="sale.order.line").replace('name = "{name}"\n', "")
    said = [one for one in wrong(odoo, tmp_path, line) if "not in the mapping: name" in one]
    assert len(said) == (1 if odoo.version in ("14", "15") else 0)
    assert wrong(odoo, tmp_path, f'{line}\n"product_id/id" = "y_{{a}}"\n') == []


@pytest.mark.parametrize("odoo", ["14", "17", "19"], indirect=True)
def test_a_required_link_is_demanded_unless_the_record_is_made_with_it(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("purchase.order", "account.payment.method.line", "product.product")
    for model, link in (("purchase.order", "partner_id"), ("account.payment.method.line", "payment_method_id")):
        text = mapping(model=model)
        [said] = wrong(odoo, tmp_path, text)
        assert f"required, without a default, and not in the mapping: {link} -> add them in " in said
        assert wrong(odoo, tmp_path, f'{text}"{link}/id" = "x_{{a}}"\n') == []
    assert wrong(odoo, tmp_path, mapping(model="product.product")) == []
    if odoo.real:
        odoo.needs("hr.employee")
        assert wrong(odoo, tmp_path, mapping(model="hr.employee")) == [], "create makes its resource"


@VERSIONS
def test_whether_a_key_is_tried_as_a_password_first_is_told(odoo: Odoo, tmp_path: Path) -> None:
    if odoo.real:
        pytest.skip("nobody turns on the second factor over the API")
    made = target(tmp_path, odoo, mapping())
    said = [told(one) for one in findings(made) if one.name == "two-factor authentication"]
    assert [one.startswith("ok ") for one in said] == ([True] if odoo.like == "17" else []), said
    users = odoo.client().call("res.users", "search_read", domain=[["login", "=", odoo.login]], fields=["login"])
    odoo.client().call("res.users", "write", [one["id"] for one in users], vals={"totp_enabled": True})
    assert "two-factor authentication" not in [one.name for one in findings(made)]


@VERSIONS
def test_archive_needs_the_field_active(odoo: Odoo, tmp_path: Path) -> None:
    text = mapping(model="res.country.state", fields='code = "{c}"\n"country_id/id" = "base.{d}"')
    for delete in ('delete = "archive"', 'delete = [{ when = { code = "a" }, do = "unlink" }, { do = "archive" }]'):
        [said] = wrong(odoo, tmp_path, text.replace('delete = "ignore"', delete))
        assert "the model has no field active to archive by -> choose another delete in " in said
    assert wrong(odoo, tmp_path, text) == []


@pytest.mark.parametrize("body", ["7", "null", "[7]", '[{"code": 7}]', '["x"]', '{"x": 1}'])
def test_odd_answers_about_languages_and_models_are_no_traceback(odoo: Odoo, tmp_path: Path, body: str) -> None:
    if odoo.real:
        pytest.skip("answers nothing odd")
    whole = f'{{"jsonrpc": "2.0", "id": 1, "result": {body}}}' if odoo.like == "17" else body
    fields = 'country_id = { from = "{a}", by = "code" }\ncity = { en_US = "{a}", de_DE = "{b}" }'
    for model, name in (("res.lang", "res.partner"), ("ir.model", "res.partnr"), ("res.country", "res.partner")):
        made = target(tmp_path, odoo, mapping('context = { lang = "en_US" }', fields, name))
        odoo.break_("status", model=model, status=200, body=whole)
        assert asyncio.run(collected(made))
        odoo.mend()


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ('{"status": "pass", "db_server_status": true}', "the database server answers"),
        ('{"status": "pass"}', "Odoo answers; this version does not look at its database"),  # 16
    ],
)
def test_health_is_told_of_the_database_only_where_odoo_has_looked(
    odoo: Odoo, tmp_path: Path, body: str, detail: str
) -> None:
    made = target(tmp_path, odoo)
    odoo.break_("status", status=200, body=body)
    found = asyncio.run(health(Api(made.config, made.login).wire))
    assert (found.level, found.detail) == (Level.OK, detail)


async def collected(made: Any) -> list[str]:
    return [told(one) async for one in made.check()]


@pytest.mark.parametrize(("models", "one", "other"), RENAMED)
def test_what_has_another_name_in_another_version_is_told_with_it(models: str, one: str, other: str) -> None:
    known = {"type": "char", "store": True}
    for model in models.split():
        for name in one.split():
            what, remedy = unknown(model, name, {other: known})
            assert (what, remedy) == (f"{model} has no such field: in this version it is {other}", f"write {other}")
            assert unknown(model, other, {name: known})[1] == f"write {name}"
            assert "in this version" not in unknown("x.other", name, {other: known})[0]


def test_what_odoo_computes_of_its_new_name_is_told_with_that(tmp_path: Path) -> None:
    file = tmp_path / "mapping.toml"
    file.write_text(mapping(model="product.template", fields='type = "consu"') % {"unique": ""})
    found = mapping_file.load(str(file))
    table = found.tables["public.people"]
    computed: Mapping[str, Any] = {"type": "selection", "readonly": True, "depends": ["detailed_type"], "store": True}
    fields = {"name": {"type": "char"}, "type": computed, "detailed_type": {"type": "selection", "store": True}}
    said = wrong_with(found, table, table.fields[1], fields)
    assert said == (
        "the field can't be written (Odoo computes it): in this version it is detailed_type",
        "write detailed_type",
    )


@VERSIONS
def test_a_mapping_that_check_likes_works(odoo: Odoo, tmp_path: Path) -> None:
    text = mapping(fields='color = "{color}"')
    assert wrong(odoo, tmp_path, text) == []
    assert deliver(target(tmp_path, odoo, text), row("people", 1, name="x", color=3)) == [DONE]
