"""Values of fields: defaults for NULL, fields left out, links by value, links that are added, files of records."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from dev.doubles.odoo.handle import Odoo
from relay.delivery import DONE, Event, Verdict
from tests.links import findings
from tests.odoo_rows import deliver, row, target

VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
PEOPLE = """
[table."public.people"]
model = "res.partner"
id = "%(unique)speople_{id}"
[table."public.people".fields]
name = "{name|strip|title}"
city = { from = "{city}", default = "Nowhere" }
type = { from = "{type}", omit = "null" }
color = { from = "{color}", omit = "null" }
phone = "{phone|replace(' ', '')|replace('/', '-')}"
"country_id/id" = { from = "base.{country|lower|map}", values = { gb = "uk" }, default = "base.at" }
state_id = { by = { code = "{state}", "country_id.code" = "{country}" } }
"""
BANKS = (
    PEOPLE
    + """
[table."public.banks"]
model = "res.partner.bank"
id = "%(unique)sbank_{id}"
delete = "unlink"
[table."public.banks".fields]
acc_number = "%(unique)s{number}"
"partner_id/id" = "%(unique)speople_1"
currency_id = { from = "{currency|upper}", by = "name" }
"""
)
TAGGED = """
[table."public.tags"]
model = "res.partner.category"
id = "%(unique)stag_{id}"
delete = "unlink"
[table."public.tags".fields]
name = "%(unique)s{id}"

[table."public.people"]
model = "res.partner"
id = "%(unique)speople_{id}"
[table."public.people".fields]
name = "Someone"
"category_id/id" = { from = "%(unique)stag_{tags}", many = "MANY" }
"""
BY_NAME = """
[table."public.people"]
model = "res.partner"
id = "%(unique)speople_{id}"
[table."public.people".fields]
name = "Someone"
category_id = { from = "{tags}", by = "name", values = { a = "KEPTa", b = "KEPTb" } }
"""
FILES = """
[table."public.people"]
model = "res.partner"
id = "%(unique)speople_{id}"
[table."public.people".fields]
name = "{name}"

[table."public.files"]
model = "ir.attachment"
id = "%(unique)sfile_{id}"
delete = "unlink"
[table."public.files".fields]
name = "{name}"
datas = "{content}"
res_model = "res.partner"
res_id = { from = "%(unique)speople_{person}", model = "res.partner" }
"""


def person(key: int, op: str = "insert", **changes: Any) -> Event:
    whole = {"city": None, "type": None, "color": None, "phone": None, "country": None, "state": None}
    return row("people", key, op, **{"name": f"n{key}", **whole, **changes})


def people(odoo: Odoo) -> dict[str, dict[str, Any]]:
    return {key.rpartition("_")[2]: one for key, one in odoo.records("res.partner", odoo.unique).items()}


@VERSIONS
def test_null_gets_a_default_or_leaves_the_field_alone(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, PEOPLE)
    first = person(1, name="  o'neil JEAN-paul ", phone="01 / 23", country="GB", type="invoice", color=3, city="X")
    assert set(deliver(made, person(2), first, person(3, color=4))) == {DONE}
    found = people(odoo)
    assert [found["1"][name] for name in ("name", "phone", "country_id", "type", "color", "city")] == [
        "O'neil Jean-Paul", "01-23", "base.uk", "invoice", 3, "X",
    ]  # fmt: skip
    assert [found["2"][name] for name in ("country_id", "type", "color", "city")] == [
        "base.at",
        "contact",
        0,
        "Nowhere",
    ]
    assert (found["3"]["type"], found["3"]["color"]) == ("contact", 4)
    assert deliver(made, person(1, "update", city=None)) == [DONE]
    found = people(odoo)
    assert [found["1"][name] for name in ("country_id", "type", "color", "city")] == [
        "base.at",
        "invoice",
        3,
        "Nowhere",
    ]


def test_each_set_of_fields_that_rows_leave_out_is_a_request(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, PEOPLE)
    deliver(made, person(99))
    odoo.forget_requests()
    deliver(made, *(person(key, color=key if key % 2 else None) for key in range(100)))
    assert [one["rows"] for one in odoo.requests(method="load")] == [50, 50]


@VERSIONS
def test_a_link_by_several_values_finds_the_state_of_the_country(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, PEOPLE)
    there = person(1, country="US", state="TX")
    outcomes = deliver(made, there, person(2, country="AT", state="TX"), person(3, country="US"), person(4))
    assert [one.verdict for one in outcomes] == [Verdict.DONE, Verdict.MESSAGE, Verdict.DONE, Verdict.DONE]
    missed = "state_id: no record of res.country.state has code = TX and country_id.code = AT"
    assert outcomes[1].reason == f"{missed} (archived ones are not looked at)"
    found = people(odoo)
    assert found["1"]["state_id"] == "base.state_us_44"
    assert found["3"]["state_id"] is False


@VERSIONS
def test_a_link_by_value_is_looked_up_once(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("res.partner.bank")
    made = target(tmp_path, odoo, BANKS)
    deliver(made, person(1))
    [outcome] = deliver(made, row("banks", 0, number="0", currency="nome"))
    assert outcome.verdict is Verdict.MESSAGE
    assert "currency_id: no record of res.currency has name = NOME" in outcome.reason
    odoo.client().call("res.currency", "write", [euro(odoo)], vals={"active": True})
    rows = [row("banks", key, number=f"{key}", currency="eur" if key % 2 else "usd") for key in range(1, 21)]
    assert set(deliver(made, *rows)) == {DONE}
    found = odoo.records("res.partner.bank", odoo.unique)
    assert {one["currency_id"] for one in found.values()} == {"base.EUR", "base.USD"}
    if not odoo.real:
        odoo.forget_requests()
        assert set(deliver(made, *rows)) == {DONE}
        assert [one["method"] for one in odoo.requests()] == ["load"]
        odoo.client().call("res.currency", "write", [euro(odoo)], vals={"name": "EURO"})
        assert set(deliver(made, *rows)) == {DONE}, "believed for a while"


def euro(odoo: Odoo) -> int:
    module = {"domain": [["module", "=", "base"], ["name", "=", "EUR"]], "fields": ["res_id"]}
    return int(odoo.client().call("ir.model.data", "search_read", **module)[0]["res_id"])


@VERSIONS
def test_records_that_were_looked_up_and_are_gone_are_looked_up_again(odoo: Odoo, tmp_path: Path) -> None:
    text = BY_NAME.replace("KEPT", odoo.unique)
    made, client = target(tmp_path, odoo, text), odoo.client()
    first, second = client.call(
        "res.partner.category", "create", vals_list=[{"name": f"{odoo.unique}{n}"} for n in "ab"]
    )
    assert deliver(made, row("people", 1, tags=["a", "b"])) == [DONE]
    [found] = people(odoo).values()
    assert {int(one) for one in found["category_id"]} == {first, second}
    client.call("res.partner.category", "unlink", [first])
    again = row("people", 2, tags=["a"])
    assert deliver(made, again)[0].verdict is Verdict.MESSAGE
    assert "no record of res.partner.category has name = " in deliver(made, again)[0].reason
    twins = client.call("res.partner.category", "create", vals_list=[{"name": f"{odoo.unique}a"}])
    assert deliver(made, again) == [DONE]
    assert people(odoo)["2"]["category_id"] == (str(twins[0]),)


@VERSIONS
@pytest.mark.parametrize("many", ["add", "merge"])
def test_links_are_added_to_those_that_people_have_made(odoo: Odoo, tmp_path: Path, many: str) -> None:
    made = target(tmp_path, odoo, TAGGED.replace("MANY", many))
    assert set(deliver(made, *(row("tags", key) for key in range(1, 6)))) == {DONE}

    def tags() -> list[str]:
        [found] = people(odoo).values()
        return [one.rpartition("_")[2] for one in found["category_id"]]

    assert deliver(made, row("people", 1, tags=[1, 2])) == [DONE]
    data = {"domain": [["name", "=", f"{odoo.unique}tag_5"]], "fields": ["res_id"]}
    [byhand] = odoo.client().call("ir.model.data", "search_read", **data)
    data["domain"][0][2] = f"{odoo.unique}people_1"  # type: ignore[index]
    [record] = odoo.client().call("ir.model.data", "search_read", **data)
    odoo.client().call("res.partner", "write", [record["res_id"]], vals={"category_id": [[4, byhand["res_id"], 0]]})
    change = row("people", 1, "update", old={"id": 1, "tags": [1, 2]}, tags=[2, 3])
    for _ in range(2):
        assert deliver(made, change) == [DONE]
        assert tags() == (["1", "2", "3", "5"] if many == "add" else ["2", "3", "5"])
    assert deliver(made, row("people", 1, "update", tags=[4])) == [DONE], "without its old row nothing is taken away"
    assert tags()[-2:] == ["4", "5"]


@VERSIONS
def test_a_file_belongs_to_the_record_of_another_row_and_waits_for_it(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, FILES)
    first = row("files", 1, name="a.txt", content="\\x6869", person=1)
    files = [first, row("files", 2, name="b", content=None, person=2)]
    assert {one.verdict for one in deliver(made, *files)} == {Verdict.CONFLICT}
    outcomes = deliver(made, row("people", 1, name="One"))
    assert [event.id for event in outcomes[0].wakes] == [files[0].id]
    assert [one.verdict for one in deliver(made, *files)] == [Verdict.DONE, Verdict.CONFLICT]
    [found] = odoo.records("ir.attachment", odoo.unique).values()
    assert base64.b64decode(found["datas"]) == b"hi"
    data = {"domain": [["name", "=", f"{odoo.unique}people_1"]], "fields": ["res_id"]}
    assert found["res_id"] == odoo.client().call("ir.model.data", "search_read", **data)[0]["res_id"]


@VERSIONS
def test_check_takes_labels_and_names_settings_that_do_not_fit(odoo: Odoo, tmp_path: Path) -> None:
    def told(field: str) -> str:
        text = '[table."public.t"]\nmodel = "res.partner"\nid = "t_{id}"\n[table."public.t".fields]\nname = "x"\n'
        wrong = [one for one in findings(target(tmp_path, odoo, text + field)) if not one.ok]
        return "; ".join(f"{one.name.rpartition(' ')[2]}: {one.detail} -> {one.remedy}" for one in wrong)

    assert told('type = { from = "{a}", values = { a = "Contact", b = "other" } }') == ""
    assert "knows no value Nothing" in told('type = { from = "{a}", values = { a = "Nothing" } }')
    assert "city: is of type char and links to nothing -> remove by" in told('city = { from = "{a}", by = "name" }')
    assert "which holds one thing -> remove many" in told('city = { from = "{a}", many = "add" }')
    assert "Odoo knows the model itself" in told('country_id = { from = "base.{a}", model = "res.country" }')
    assert told('country_id = { from = "{a}", by = "code" }') == ""
    assert told('"country_id/id" = "base.at"') == ""
    assert "by cod: res.country has no such field -> did you mean code?" in told(
        'country_id = { from = "{a}", by = "cod" }'
    )
    assert told('state_id = { by = { code = "{a}", "country_id.code" = "{b}" } }') == ""


@VERSIONS
def test_check_knows_what_an_unknown_field_is_called(odoo: Odoo, tmp_path: Path) -> None:
    odoo.needs("sale.order.line")
    other, here = ("product_uom_id", "product_uom") if odoo.like == "17" else ("product_uom", "product_uom_id")

    def told(model: str, field: str) -> list[str]:
        text = f'[table."public.t"]\nmodel = "{model}"\nid = "t_{{id}}"\n[table."public.t".fields]\n{field} = "1"\n'
        found = findings(target(tmp_path, odoo, text))
        return [f"{one.detail} -> {one.remedy}" for one in found if not one.ok and one.name.endswith(field)]

    [said] = told("res.partner", "emial")
    assert said.startswith("res.partner has no such field -> did you mean email")
    assert said.endswith("mapping.toml line 5")
    [said] = told("sale.order.line", other)
    assert said.startswith(f"sale.order.line has no such field: in this version it is {here} -> write {here} in ")
    [said] = told("res.partner", "xyzzy")
    assert "-> change or remove xyzzy in " in said


def test_a_row_without_a_column_is_refused_by_the_field_that_wants_it(odoo: Odoo, tmp_path: Path) -> None:
    text = '[table."public.t"]\nmodel = "res.partner"\nid = "t_{id}"\n[table."public.t".fields]\nname = "x"\n'
    for field, said in (
        ('city = "{town}"', "city, line 6: the row has no column town"),
        ('city = "{citty}"', "city, line 6: the row has no column citty (did you mean city?)"),
        ('country_id = { from = "{land}", by = "code" }', "country_id/.id, line 6: the row has no column land"),
        ('"country_id/id" = "base.{land}"', "country_id/id, line 6: the row has no column land"),
        ('type = { from = "{sort}", omit = "null" }', "type, line 6: the row has no column sort"),
        ('"category_id/id" = { from = "{tag}", many = "merge" }', "category_id/id, line 6: the row has no column tag"),
        ('name = { en_US = "x", de_DE = "{de}" }\n[context]\nlang = "en_US"', "name, line 5: the row has no column de"),
        ('[table."public.t".create]\ncity = "{town}"', "city, line 7: the row has no column town"),
    ):
        whole = text.replace('name = "x"\n', "") if field.startswith("name") else text
        [outcome] = deliver(target(tmp_path, odoo, whole + field), row("t", 1, city="Wien"))
        assert (outcome.verdict, outcome.reason) == (Verdict.MESSAGE, f"mapping: {said}")
    for table, said in (
        ('when = { kind = "a" }', "when: the row has no column kind"),
        ('unless = { kind = "a" }', "unless: the row has no column kind"),
        (
            'actions = [{ method = "x", when = { kind = "a" }, unless_record = { city = "b" } }]',
            "the row has no column kind",
        ),
    ):
        whole = text.replace('id = "t', f'{table}\nid = "t')
        [outcome] = deliver(target(tmp_path, odoo, whole), row("t", 1, city="Wien"))
        assert outcome.verdict is Verdict.MESSAGE
        assert said in outcome.reason
