"""What Odoo answers, asked over plain HTTP: of the stand-in, and with ODOO_URL (make test-odoo) of a real server."""

from __future__ import annotations

import pytest

from tests.odoo.handle import Odoo

VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)


@VERSIONS
def test_load_updates_the_record_that_has_the_external_id(odoo: Odoo) -> None:
    client, one = odoo.client(), f"{odoo.unique}1"
    first = client.load("res.partner", ["id", "name", "country_id/id"], [[one, "Linz", "base.at"]])
    again = client.load("res.partner", ["id", "name"], [[one, "Wels"]])
    assert first["ids"] == again["ids"]
    assert first["messages"] == again["messages"] == []
    found = odoo.record("res.partner", one)
    assert found
    assert (found["name"], found["country_id"]) == ("Wels", "base.at")
