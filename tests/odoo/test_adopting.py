"""What `match` needs of Odoo, asked of the stand-in, and with ODOO_URL (make test-odoo) of a real server."""

from __future__ import annotations

import pytest

from dev.doubles.odoo.client import Refused
from dev.doubles.odoo.handle import Odoo

pytestmark = pytest.mark.parametrize("odoo", ["14", "17", "19"], indirect=True)


def named(odoo: Odoo, name: str, record: int) -> dict[str, object]:
    return {
        "module": "__import__",
        "name": odoo.unique + name,
        "model": "res.partner",
        "res_id": record,
        "noupdate": True,
    }


def test_a_record_gets_an_external_id_and_load_updates_it(odoo: Odoo) -> None:
    client = odoo.client()
    [made] = client.call("res.partner", "create", vals_list=[{"name": "By hand"}])
    client.call("ir.model.data", "create", vals_list=[named(odoo, "a", made)])
    assert client.load("res.partner", ["id", "name"], [[f"{odoo.unique}a", "By load"]])["ids"] == [made]
    domain = [["model", "=", "res.partner"], ["res_id", "in", [made]]]
    [row] = client.call("ir.model.data", "search_read", domain=domain, fields=["module", "name", "res_id"])
    assert (row["module"], row["name"], row["res_id"]) == ("__import__", f"{odoo.unique}a", made)


def test_a_record_may_have_several_external_ids_and_an_external_id_one_record(odoo: Odoo) -> None:
    client = odoo.client()
    first, second = client.call("res.partner", "create", vals_list=[{"name": "One"}, {"name": "Two"}])
    client.call("ir.model.data", "create", vals_list=[named(odoo, "a", first), named(odoo, "b", first)])
    with pytest.raises(Refused) as refused:
        client.call("ir.model.data", "create", vals_list=[named(odoo, "a", second)])
    assert refused.value.name == "odoo.exceptions.ValidationError"


def test_a_search_finds_values_and_the_lack_of_one_and_archived_records(odoo: Odoo) -> None:
    client = odoo.client()
    mine = [["ref", "=", odoo.unique]]
    rows = [{"name": "One", "email": "one@x"}, {"name": "Two"}, {"name": "Three", "email": "three@x", "active": False}]
    client.call("res.partner", "create", vals_list=[{**row, "ref": odoo.unique} for row in rows])
    wanted = [*mine, ["email", "in", ["one@x", "three@x", "none@x", False]]]
    hidden = {"active_test": False}
    found = client.call(
        "res.partner", "search_read", domain=wanted, fields=["name", "email"], order="id", context=hidden
    )
    assert [(one["name"], one["email"]) for one in found] == [("One", "one@x"), ("Two", False), ("Three", "three@x")]
    found = client.call("res.partner", "search_read", domain=wanted, fields=["name"], order="id")
    assert [one["name"] for one in found] == ["One", "Two"]


def test_a_search_by_several_fields_and_links(odoo: Odoo) -> None:
    client = odoo.client()
    [parent] = client.call("res.partner", "create", vals_list=[{"name": "Parent", "ref": odoo.unique}])
    rows = [{"name": "Child", "parent_id": parent}, {"name": "Child"}]
    child, orphan = client.call("res.partner", "create", vals_list=[{**row, "ref": odoo.unique} for row in rows])
    wanted = [["ref", "=", odoo.unique], ["name", "in", ["Child", "x"]], ["parent_id", "in", [parent, False]]]
    found = client.call("res.partner", "search_read", domain=wanted, fields=["parent_id", "name"], order="id")
    assert [(one["id"], one["parent_id"] and one["parent_id"][0]) for one in found] == [
        (child, parent),
        (orphan, False),
    ]


def test_which_fields_can_be_searched_is_told(odoo: Odoo) -> None:
    told = odoo.client().call("res.partner", "fields_get", attributes=["searchable", "type"])
    assert told["email"] == {"searchable": True, "type": "char"} | (
        {"name": "email"} if "name" in told["email"] else {}
    )
