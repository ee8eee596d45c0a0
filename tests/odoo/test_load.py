"""What `load` answers, asked of the stand-in, and with ODOO_URL (make test-odoo) of a real server."""

from __future__ import annotations

from typing import Any

import pytest

from dev.doubles.odoo.client import Refused
from dev.doubles.odoo.handle import Odoo

pytestmark = pytest.mark.parametrize("odoo", ["14", "17", "19"], indirect=True)
NO_IMAGE = "this is no base64!"


def errors(answer: dict[str, Any]) -> list[dict[str, Any]]:
    assert answer["ids"] is False
    return [one for one in answer["messages"] if one["type"] == "error"]


def blamed(answer: dict[str, Any]) -> list[int]:
    return [one["record"] for one in errors(answer)]


def test_it_updates_the_record_that_has_the_external_id(odoo: Odoo) -> None:
    client, one = odoo.client(), f"{odoo.unique}1"
    first = client.load("res.partner", ["id", "name", "country_id/id"], [[one, "Linz", "base.at"]])
    again = client.load("res.partner", ["id", "name"], [[one, "Wels"]])
    assert first["ids"] == again["ids"]
    assert first["messages"] == again["messages"] == []
    found = odoo.record("res.partner", one)
    assert found
    assert (found["name"], found["country_id"]) == ("Wels", "base.at")


def test_a_bad_row_keeps_the_whole_batch_out(odoo: Odoo) -> None:
    rows = [[f"{odoo.unique}{n}", f"name {n}", "many" if n == 2 else "1"] for n in range(4)]
    (error,) = errors(odoo.client().load("res.partner", ["id", "name", "color"], rows))
    assert (error["record"], error["field"], error["rows"]) == (2, "color", {"from": 2, "to": 2})
    assert error["message"] == "'many' does not seem to be an integer for field 'Color Index'"
    assert odoo.records("res.partner", odoo.unique) == {}


def test_only_the_first_ten_bad_rows_are_named(odoo: Odoo) -> None:
    answer = odoo.client().load("res.partner", ["id", "name"], [[f"{odoo.unique}{n}", ""] for n in range(30)])
    assert blamed(answer) == [*range(10)]
    assert answer["messages"][-1]["type"] == "warning"
    assert answer["messages"][-1]["message"].startswith("Found more than 10 errors")


def test_cells_that_cannot_be_converted_are_all_named(odoo: Odoo) -> None:
    rows = [[f"{odoo.unique}{n}", "name", "many"] for n in range(30)]
    assert blamed(odoo.client().load("res.partner", ["id", "name", "color"], rows)) == [*range(30)]


def test_a_good_row_that_links_to_a_bad_one_of_its_batch_is_blamed_too(odoo: Odoo) -> None:
    rows = [[f"{odoo.unique}1", "", ""], [f"{odoo.unique}2", "Child", f"{odoo.unique}1"]]
    assert blamed(odoo.client().load("res.partner", ["id", "name", "parent_id/id"], rows)) == [0, 1]


def test_an_error_of_odoos_own_code_is_told_of_the_first_row_before_the_right_one(odoo: Odoo) -> None:
    rows = [[f"{odoo.unique}{n}", "name", NO_IMAGE if n == 3 else ""] for n in range(5)]
    told = [3] if int(odoo.version) < 17 else [0, 3]
    assert blamed(odoo.client().load("res.partner", ["id", "name", "image_1920"], rows)) == told


def test_a_row_may_link_to_an_earlier_one_of_its_batch_and_not_to_a_later_one(odoo: Odoo) -> None:
    client, parent, child = odoo.client(), f"{odoo.unique}parent", f"{odoo.unique}child"
    fields = ["id", "name", "parent_id/id"]
    (error,) = errors(client.load("res.partner", fields, [[child, "Child", parent], [parent, "Parent", ""]]))
    assert (error["record"], error["field"]) == (0, "parent_id")
    assert error["message"] == f"No matching record found for external id '{parent}' in field 'Related Company'"
    assert client.load("res.partner", fields, [[parent, "Parent", ""], [child, "Child", parent]])["ids"]
    found = odoo.record("res.partner", child)
    assert found
    assert found["parent_id"] == parent


def test_a_link_must_lead_to_a_record_of_its_model(odoo: Odoo) -> None:
    rows = [[f"{odoo.unique}1", "name", "base.main_company"]]
    (error,) = errors(odoo.client().load("res.partner", ["id", "name", "country_id/id"], rows))
    assert error["message"].startswith("Invalid external ID base.main_company: expected model 'res.country'")


def test_a_list_of_links_replaces_the_one_before(odoo: Odoo) -> None:
    client, one = odoo.client(), f"{odoo.unique}1"
    tags = [f"{odoo.unique}tag{n}" for n in range(3)]
    assert client.load("res.partner.category", ["id", "name"], [[tag, tag] for tag in tags])["ids"]
    for wanted in (tags[:2], tags[1:], []):
        assert client.load("res.partner", ["id", "name", "category_id/id"], [[one, "name", ",".join(wanted)]])["ids"]
        found = odoo.record("res.partner", one)
        assert found
        assert found["category_id"] == tuple(wanted)
    assert errors(client.load("res.partner", ["id", "category_id/id"], [[one, f"{tags[0]},{odoo.unique}none"]]))


@pytest.mark.parametrize(
    ("field", "cell", "told"),
    [
        ("type", "zz", "Value 'zz' not found in selection field 'Address Type'"),
        ("partner_latitude", "north", "'north' does not seem to be a number for field 'Geo Latitude'"),
        ("color", "5.0", "'5.0' does not seem to be an integer for field 'Color Index'"),
        ("country_id", "Nowhere", "No matching record found for name 'Nowhere' in field 'Country'"),
    ],
)
def test_a_value_that_does_not_fit_its_field_is_told(odoo: Odoo, field: str, cell: str, told: str) -> None:
    (error,) = errors(odoo.client().load("res.partner", ["id", "name", field], [[f"{odoo.unique}1", "name", cell]]))
    assert (error["record"], error["field"], error["message"]) == (0, field, told)


def test_a_word_is_no_boolean_and_14_takes_it_for_true(odoo: Odoo) -> None:
    one, told = f"{odoo.unique}1", "Unknown value 'maybe' for boolean field 'Active'"
    answer = odoo.client().load("res.partner", ["id", "name", "active"], [[one, "name", "maybe"]])
    [message] = answer["messages"]
    assert (message["record"], message["field"]) == (0, "active")
    if odoo.version == "14":
        assert (message["type"], message["message"]) == ("warning", f"{told}, assuming 'yes'")
        found = odoo.record("res.partner", one)
        assert found
        assert found["active"] is True
    else:
        assert (message["type"], message["message"]) == ("error", told)
        assert answer["ids"] is False


@pytest.mark.parametrize("cell", ["2020-13-45", "1.2.2020"])
def test_a_date_has_one_form(odoo: Odoo, cell: str) -> None:
    rows = [[f"{odoo.unique}1", cell, "1.5", "base.USD"]]
    (error,) = errors(odoo.client().load("res.currency.rate", ["id", "name", "rate", "currency_id/id"], rows))
    assert error["message"] == f"'{cell}' does not seem to be a valid date for field 'Date'"
    assert error["moreinfo"] == "Use the format '2012-12-31'"


def test_a_float_without_digits_keeps_what_a_double_keeps(odoo: Odoo) -> None:
    client, one = odoo.client(), f"{odoo.unique}1"
    day = f"1{int(odoo.unique[1:9], 16) % 900 + 100}-01-02"
    rows = [[one, day, "1.123456789012345", "base.EUR"]]
    assert client.load("res.currency.rate", ["id", "name", "rate", "currency_id/id"], rows)["ids"]
    found = odoo.record("res.currency.rate", one)
    assert found
    assert (found["rate"], found["name"], found["currency_id"]) == (1.123456789012345, day, "base.EUR")


def test_17_rounds_a_price_and_19_keeps_it(odoo: Odoo) -> None:
    one = f"{odoo.unique}1"
    assert odoo.client().load("product.template", ["id", "name", "list_price"], [[one, "name", "12.345"]])["ids"]
    found = odoo.record("product.template", one)
    assert found
    assert found["list_price"] == {"17": 12.35, "19": 12.345}[odoo.like]


def test_times_are_those_of_the_contexts_zone_and_have_no_offset(odoo: Odoo) -> None:
    client, listed, item = odoo.client(), f"{odoo.unique}list", f"{odoo.unique}item"
    assert client.load("product.pricelist", ["id", "name"], [[listed, "List"]])["ids"]
    fields = ["id", "pricelist_id/id", "date_start"]
    for cell, zone, kept in [
        ("2020-06-01 12:00:00", "UTC", "2020-06-01 12:00:00"),
        ("2020-06-01 12:00:00", "Europe/Vienna", "2020-06-01 10:00:00"),
        ("2020-06-01", "UTC", "2020-06-01 00:00:00"),
    ]:
        assert client.load("product.pricelist.item", fields, [[item, listed, cell]], tz=zone)["ids"]
        found = odoo.record("product.pricelist.item", item)
        assert found
        assert found["date_start"] == kept
    for cell in ("2020-06-01T12:00:00", "2020-06-01 12:00:00+00:00", "2020-06-01 12:00:00.123"):
        (error,) = errors(client.load("product.pricelist.item", fields, [[item, listed, cell]]))
        assert error["message"] == f"'{cell}' does not seem to be a valid datetime for field 'Start Date'"


def test_a_required_field_that_is_missing(odoo: Odoo) -> None:
    rows = [[f"{odoo.unique}1", "name", f"{odoo.unique}9"]]
    (error,) = errors(odoo.client().load("res.country.state", ["id", "name", "code"], rows))
    assert (error["record"], error["field"]) == (0, "country_id")
    assert error["message"].startswith("Missing required value for the field 'Country' (country_id)")


def test_what_must_be_unique(odoo: Odoo) -> None:
    rows = [[f"{odoo.unique}1", "name", "TX", "base.us"]]
    (error,) = errors(odoo.client().load("res.country.state", ["id", "name", "code", "country_id/id"], rows))
    if odoo.like == "19":
        assert error["message"] == "The code of the state must be unique by country!"
        return
    both = (("code", "State Code"), ("country_id", "Country"))
    comma = " and " if odoo.version == "18" else ", "
    names, labels = ([comma.join(pair) for pair in zip(*order, strict=True)] for order in (both, both[::-1]))
    told = "The values for the fields '{}' already exist (they are probably '{}' in the current model)."
    assert error["message"] in [told.format(*names), told.format(*labels)]


def test_the_same_external_id_twice_in_a_batch_is_one_record(odoo: Odoo) -> None:
    one = f"{odoo.unique}1"
    first, second = odoo.client().load("res.partner", ["id", "name"], [[one, "first"], [one, "second"]])["ids"]
    assert first == second
    found = odoo.record("res.partner", one)
    assert found
    assert found["name"] == "second"


def test_an_external_id_of_another_model(odoo: Odoo) -> None:
    client, one = odoo.client(), f"{odoo.unique}1"
    (tag,) = client.load("res.partner.category", ["id", "name"], [[one, one]])["ids"]
    answer = client.load("res.partner", ["id", "name"], [[one, one]])
    if odoo.version == "14":  # it writes over the contact that has the tag's number, or creates one
        assert answer["messages"] == []
        there = client.call("res.partner.category", "read", [tag], fields=["name"])
        assert [one["name"] for one in there] == [one]
        assert odoo.record("res.partner.category", one) is None
        found = odoo.record("res.partner", one)
        assert found
        assert found["name"] == one
        return
    (error,) = errors(answer)
    assert error["message"].startswith(
        f"For external id __import__.{one} when trying to create/update a record of model res.partner"
    )


def test_an_external_id_has_no_space(odoo: Odoo) -> None:
    (error,) = errors(odoo.client().load("res.partner", ["id", "name"], [[f"{odoo.unique} 1", "name"]]))
    assert 'violates check constraint "ir_model_data_name_nospaces"' in error["message"]


def test_an_empty_cell_empties_the_field(odoo: Odoo) -> None:
    client, one = odoo.client(), f"{odoo.unique}1"
    fields = ["id", "name", "street", "country_id/id", "color"]
    assert client.load("res.partner", fields, [[one, "name", "Street", "base.at", "5"]])["ids"]
    assert client.load("res.partner", fields, [[one, "name", "", "", ""]])["ids"]
    found = odoo.record("res.partner", one)
    assert found
    assert (found["street"], found["country_id"], found["color"]) == (False, False, 0)


def test_an_unknown_field_fails_the_call(odoo: Odoo) -> None:
    with pytest.raises(Refused) as refused:
        odoo.client().load("res.partner", ["id", "nofield"], [[f"{odoo.unique}1", "x"]])
    before_18, since = ("builtins.KeyError", "nofield"), ("builtins.ValueError", "Invalid field name 'nofield'")
    assert (refused.value.name, refused.value.message) == (since if int(odoo.version) > 17 else before_18)


def test_a_cell_that_is_no_text_fails_the_call(odoo: Odoo) -> None:
    with pytest.raises(Refused) as refused:
        odoo.client().load("res.partner", ["id", "name", "active"], [[f"{odoo.unique}1", "x", True]])
    assert refused.value.name == "builtins.AttributeError"
    assert refused.value.message == "'bool' object has no attribute 'lower'"


def test_an_archived_record_is_found_again(odoo: Odoo) -> None:
    client, one = odoo.client(), f"{odoo.unique}1"
    first = client.load("res.partner", ["id", "name", "active"], [[one, "name", "0"]])
    assert client.call("res.partner", "search", domain=[["id", "in", first["ids"]]]) == []
    again = client.load("res.partner", ["id", "name", "active"], [[one, "name", "1"]])
    assert first["ids"] == again["ids"] == client.call("res.partner", "search", domain=[["id", "in", first["ids"]]])


def test_an_unlinked_record_takes_its_external_id_along(odoo: Odoo) -> None:
    client, one = odoo.client(), f"{odoo.unique}1"
    first = client.load("res.partner", ["id", "name"], [[one, "name"]])["ids"]
    assert client.call("res.partner", "unlink", first) is True
    assert odoo.records("res.partner", odoo.unique) == {}
    assert client.load("res.partner", ["id", "name"], [[one, "name"]])["ids"] != first


def test_in_the_mode_of_an_update_what_is_marked_noupdate_is_left_alone(odoo: Odoo) -> None:
    client, old, new = odoo.client(), f"{odoo.unique}old", f"{odoo.unique}new"
    first = client.load("res.partner", ["id", "name"], [[old, "first"]], noupdate=True)
    both = client.load("res.partner", ["id", "name"], [[old, "x"], [new, "x"]], noupdate=True, mode="update")
    assert both["ids"][0] == first["ids"][0]
    assert {one: found["name"] for one, found in odoo.records("res.partner", odoo.unique).items()} == {
        old: "first",
        new: "x",
    }


def test_rows_without_an_external_id_are_new_records_each_time(odoo: Odoo) -> None:
    client = odoo.client()
    first, again = (client.load("res.partner", ["name"], [["name"]])["ids"] for _ in range(2))
    assert first != again
