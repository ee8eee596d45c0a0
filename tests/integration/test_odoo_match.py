"""TARGET=odoo-load with `match`: an Odoo that was filled by hand is adopted, and none of its records doubled."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dev import forkserver
from dev.doubles.odoo.handle import Odoo
from dev.script import ROOT, Script
from dev.vhost import Vhost
from relay.delivery import DONE, Delivery, Event, Outcome, Verdict
from relay.targets.odoo.load import OdooLoadTarget
from tests.links import findings
from tests.odoo_rows import deliver, row, settings, target

Make = Callable[..., Script]
VERSIONS = pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
MAPPING = """
[table."public.people"]
model = "res.partner"
id = "%(unique)speople_{id}"
match = ["ref"]
[table."public.people".fields]
name = "{name}"
ref = "%(unique)s{ref}"

[table."public.shops"]
model = "res.partner"
id = "%(unique)sshops_{id}"
match = ["ref"]
[table."public.shops".fields]
name = "{name}"
ref = "%(unique)s{ref}"
"""
BY_PARENT = """
[table."public.people"]
model = "res.partner"
id = "%(unique)speople_{id}"
match = ["ref", "name", "parent_id"]
[table."public.people".fields]
name = "{name}"
ref = "{ref}"
email = "{email}"
"parent_id/id" = "%(unique)speople_{parent}"
"""


def person(key: int, ref: object = None, table: str = "people", op: str = "insert") -> Event:
    return row(table, key, op, name=f"Row {key}", ref=key if ref is None else ref)


def child(key: int, name: str, parent: int | None, ref: str | None) -> Event:
    return row("people", key, name=name, email=f"{key}@example.com", parent=parent, ref=ref)


def by_hand(odoo: Odoo, *rows: dict[str, Any]) -> list[int]:
    found = odoo.client().call("res.partner", "create", vals_list=[{"name": "By hand", **one} for one in rows])
    return list(found)


def ours(odoo: Odoo) -> dict[int, str]:
    """The names of all records of this test, however they were made; archived ones in brackets."""
    arguments = {"domain": [["ref", "=like", f"{odoo.unique}%"]], "fields": ["name", "active"], "order": "id"}
    found = odoo.client().call("res.partner", "search_read", **arguments, context={"active_test": False})
    return {one["id"]: one["name"] if one["active"] else f"({one['name']})" for one in found}


@VERSIONS
def test_records_that_are_there_are_adopted_and_none_is_doubled(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, MAPPING)
    there = by_hand(odoo, *({"ref": f"{odoo.unique}{key}", "active": key != 4} for key in range(0, 40, 2)))
    events = [person(key, op="update" if key == 4 else "insert") for key in range(40)]
    for _ in range(2):
        assert set(deliver(made, *events)) == {DONE}
        found = ours(odoo)
        assert len(found) == 40
        assert [found[key] for key in there] == [f"Row {key}" if key != 4 else "(Row 4)" for key in range(0, 40, 2)]
    assert len(odoo.records("res.partner", odoo.unique)) == 40
    assert deliver(made, person(4)) == [DONE]
    assert ours(odoo)[there[2]] == "Row 4", "a new row brings the record back that it adopts, or has"


@VERSIONS
def test_several_records_that_fit_are_refused_with_their_number_and_the_others_go_through(
    odoo: Odoo, tmp_path: Path
) -> None:
    made = target(tmp_path, odoo, MAPPING)
    twins = by_hand(odoo, {"ref": f"{odoo.unique}1"}, {"ref": f"{odoo.unique}1", "active": False})
    outcomes = deliver(made, *(person(key) for key in range(5)))
    assert [one.verdict for one in outcomes] == [Verdict.MESSAGE if key == 1 else Verdict.DONE for key in range(5)]
    assert outcomes[1].reason == f"match: 2 records of res.partner have its ref (ids {twins[0]}, {twins[1]})"
    odoo.client().call("res.partner", "unlink", twins[1:])
    assert deliver(made, person(1)) == [DONE]
    assert len(ours(odoo)) == 5


@VERSIONS
def test_a_record_that_another_row_is_already_is_refused_by_both_names(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, MAPPING)
    [there] = by_hand(odoo, {"ref": f"{odoo.unique}1"})
    assert deliver(made, person(1)) == [DONE]
    for event in (person(2, ref=1), person(1, table="shops")):
        [outcome] = deliver(made, event)
        assert outcome.verdict is Verdict.MESSAGE
        own = f"{odoo.unique}{event.table.removeprefix('public.')}_{2 if event.table == 'public.people' else 1}"
        both = f"{own} and {odoo.unique}people_1 both fit record {there} of res.partner"
        assert both in outcome.reason
    assert len(ours(odoo)) == 1


@VERSIONS
def test_equal_rows_of_one_batch_go_one_after_the_other(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, MAPPING)
    events = [person(1), person(2, ref=1), person(3)]
    assert [one.verdict for one in deliver(made, *events)] == [Verdict.DONE, Verdict.CONFLICT, Verdict.DONE]
    [outcome] = deliver(made, events[1])
    assert "people_1 both fit" in outcome.reason


def test_equal_rows_of_two_workers_go_one_after_the_other(odoo: Odoo, tmp_path: Path) -> None:
    odoo.pace(0.05, 0.0)
    made = target(tmp_path, odoo, MAPPING)

    async def both() -> list[Outcome]:
        links = [made.open(), made.open()]
        events = [person(1), person(1, table="shops")]
        found = await asyncio.gather(
            *(link.deliver([Delivery(event, 1)]) for link, event in zip(links, events, strict=True))
        )
        for link in links:
            link.close()
        return [one for [one] in found]

    by_hand(odoo, {"ref": f"{odoo.unique}1"})
    assert {one.verdict for one in asyncio.run(both())} == {Verdict.DONE, Verdict.CONFLICT}
    assert len(odoo.records("res.partner", odoo.unique)) == 1


@VERSIONS
def test_an_external_id_that_was_deleted_by_hand_is_found_again(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, MAPPING)
    deliver(made, person(1))
    client, domain = odoo.client(), [["name", "=", f"{odoo.unique}people_1"]]
    client.call("ir.model.data", "unlink", client.call("ir.model.data", "search", domain=domain))
    assert deliver(made, person(1, op="update")) == [DONE]
    assert list(ours(odoo).values()) == ["Row 1"]
    assert len(odoo.records("res.partner", odoo.unique)) == 1


@VERSIONS
def test_what_is_empty_finds_nothing_and_beside_other_fields_means_empty(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, BY_PARENT)
    mine = odoo.unique
    boss, other = by_hand(odoo, {"name": f"{mine}Boss"}, {"ref": f"{mine}x", "name": f"{mine}Boss"})
    [under] = by_hand(odoo, {"name": f"{mine}Child", "parent_id": boss})
    # The child's parent is not there yet; then it is, and the child is found below it.
    events = [child(2, f"{mine}Child", 1, None), child(1, f"{mine}Boss", None, None)]
    assert [one.verdict for one in deliver(made, *events)] == [Verdict.CONFLICT, Verdict.DONE]
    assert deliver(made, events[0]) == [DONE]
    found = odoo.client().call("res.partner", "read", [boss, other, under], fields=["email"])
    assert [one["email"] for one in found] == ["1@example.com", False, "2@example.com"]


def test_a_row_without_a_value_is_created(odoo: Odoo, tmp_path: Path) -> None:
    text = MAPPING.replace('ref = "%(unique)s{ref}"', 'ref = "{ref}"')
    by_hand(odoo, {"ref": ""}, {"ref": False})
    made = target(tmp_path, odoo, text)
    assert set(deliver(made, person(1, ref=""), person(2, ref=""))) == {DONE}
    assert len(odoo.records("res.partner", odoo.unique)) == 2


def test_what_it_costs_in_requests(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, MAPPING)
    by_hand(odoo, *({"ref": f"{odoo.unique}{key}"} for key in range(50)))
    events = [person(key) for key in range(100)]

    def asked(made: OdooLoadTarget) -> list[tuple[str, str]]:
        odoo.forget_requests()
        assert set(deliver(made, *events)) == {DONE}
        return [(one["model"], one["method"]) for one in odoo.requests() if one["model"]]

    deliver(made, person(1000))
    known = ("ir.model.data", "search_read")
    write = ("res.partner", "load")
    assert asked(made) == [known, ("res.partner", "search_read"), known, ("ir.model.data", "create"), write]
    assert asked(made) == [known, write]


def test_a_user_without_the_right_to_external_ids_is_told_so(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, MAPPING)
    by_hand(odoo, {"ref": f"{odoo.unique}1"})
    odoo.break_("access", model="ir.model.data")
    [outcome] = deliver(made, person(1))
    assert outcome.verdict is Verdict.UNCLEAR
    assert 'give it the right "Access Rights"' in outcome.reason
    assert len(ours(odoo)) == 1
    odoo.mend()
    assert deliver(made, person(1)) == [DONE]
    assert len(ours(odoo)) == 1


def test_a_field_that_finds_nothing_reliably_is_refused(odoo: Odoo, tmp_path: Path) -> None:
    text = MAPPING.replace('match = ["ref"]', 'match = ["partner_latitude"]').replace(
        'ref = "%(unique)s{ref}"', 'partner_latitude = "{ref}"'
    )
    [outcome] = deliver(target(tmp_path, odoo, text), person(1))
    assert outcome.verdict is Verdict.MESSAGE
    assert "nothing is found by partner_latitude of res.partner, a float" in outcome.reason


def checked(made: OdooLoadTarget, table: str, *rows: object) -> list[str]:
    async def collect() -> list[str]:
        lines = [one if isinstance(one, str) else json.dumps(one) for one in rows]
        return [f"{one.level.word}: {one.detail} -> {one.remedy}" async for one in made.check_match(table, lines)]

    return asyncio.run(collect())


@VERSIONS
def test_check_counts_which_rows_would_match_and_changes_nothing(odoo: Odoo, tmp_path: Path) -> None:
    made = target(tmp_path, odoo, MAPPING)
    by_hand(odoo, *({"ref": f"{odoo.unique}{key}"} for key in (2, 3, 4, 4, 5)))
    deliver(made, person(1), person(5))
    before = ours(odoo)
    rows: list[object] = [{"id": key, "name": "x", "ref": key} for key in range(1, 8)]
    rows += [{"id": 8, "name": "x", "ref": 5}, {"id": 9, "name": "x", "ref": 2}, {"id": 10}, "nonsense", ""]
    counted, refused = checked(made, "public.people", *rows)
    assert counted.startswith("ok: 11 rows: 2 have their record already, 2 would adopt one, 2 would create one")
    assert "5 rows would be refused: " in refused
    assert "row 10: name, line 7: the row has no column name" in refused
    assert "row 11: it is no JSON object" in refused
    assert ours(odoo) == before
    for table, said in (("public.none", "the tables are: public.people"), ("public.people", "write match =")):
        text = MAPPING.replace('match = ["ref"]', "")
        assert said in " ".join(checked(target(tmp_path, odoo, text), table))


@VERSIONS
def test_check_looks_at_match_and_at_the_right_to_adopt(odoo: Odoo, tmp_path: Path) -> None:
    text = MAPPING.replace('match = ["ref"]', 'match = ["ref", "color"]', 1).replace(
        'name = "{name}"', 'name = "{name}"\ncolor = 1\npartner_latitude = 1', 1
    )

    def told(text: str) -> list[str]:
        found = findings(target(tmp_path, odoo, text))
        return [f"{one.level.word}: {one.detail}" for one in found if one.name.endswith("match")]

    assert told(text) == ["ok: by ref, color", "ok: by ref"]
    wrong = told(text.replace('"color"]', '"partner_latitude"]'))
    assert wrong[0] == "FAILED: nothing is found by partner_latitude: it is a float"
    if not odoo.real:
        odoo.break_("access", model="ir.model.data")
        assert told(text)[0] == "FAILED: the user may not read and create ir.model.data"


def test_the_command_reads_rows_from_its_input(vhost: Vhost, script: Make, odoo: Odoo, tmp_path: Path) -> None:
    by_hand(odoo, {"ref": f"{odoo.unique}1"})
    receiver = script("receiver.py", settings(vhost, odoo, tmp_path, MAPPING))

    def check(**changes: object) -> subprocess.CompletedProcess[str]:
        receiver.configure(settings(vhost, odoo, tmp_path, MAPPING, **changes))
        command = [sys.executable, str(ROOT / "receiver.py"), "--env-file", str(receiver.env_file)]
        rows = '{"id": 1, "name": "x", "ref": 1}\n{"id": 2, "name": "x", "ref": 2}\n'
        return forkserver.run([*command, "check", "--match", "public.people"], given=rows, timeout=60)

    told = check()
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.strip() == "ok      public.people: match: 2 rows: 1 would adopt one, 1 would create one"
    other = check(TARGET="http", HTTP_URL="http://127.0.0.1:9/")
    assert other.returncode == 78
    assert "check --match is for TARGET=odoo-load, not for http" in other.stderr
