"""What each setting of the mapping costs in requests: docs/odoo.md says it, and here it is counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dev.doubles.odoo.handle import Odoo
from relay.delivery import DONE, Event, Outcome, Verdict
from relay.targets.odoo.load import OdooLoadTarget
from tests.odoo_rows import deliver, row, target

PAGE = (Path(__file__).parents[2] / "docs" / "odoo.md").read_text()
TABLE = """
[table."public.t"]
model = "res.partner"
id = "%(unique)st_{id}"
truncate = "ignore"
"""
FIELDS = '[table."public.t".fields]\nname = "{name}"\n'
OWN = FIELDS.replace('"{name}"', '"%(unique)s{name}"')  # a real server has seen other tests
BANKS = """
[table."public.banks"]
model = "res.partner.bank"
id = "%(unique)sbank_{id}"
delete = "unlink"
[table."public.banks".fields]
acc_number = "%(unique)s{id}"
"partner_id/id" = "%(unique)st_{t}"
"""
ORDERS = """
[table."public.t"]
model = "res.partner"
id = "%(unique)st_{id}"
truncate = "ignore"
[table."public.t".fields]
name = "{name}"

[table."public.orders"]
model = "sale.order"
id = "%(unique)sorder_{id}"
delete = "ignore"
[table."public.orders".fields]
"partner_id/id" = "%(unique)st_1"
[[table."public.orders".actions]]
when = { state = "confirmed" }
method = "action_confirm"
unless_record = { state = "sale" }
"""
LINES = """
after = { "public.lines" = "lines" }
[table."public.lines"]
model = "sale.order.line"
id = "%(unique)sline_{id}"
delete = "unlink"
[table."public.lines".fields]
"order_id/id" = "%(unique)sorder_{order}"
"product_id/id" = "%(unique)sproduct_1"
[table."public.products"]
model = "product.product"
id = "%(unique)sproduct_{id}"
[table."public.products".fields]
name = "x"
"""


class Odd:
    """One Odoo, and the mapping that a case has."""

    def __init__(self, odoo: Odoo, directory: Path) -> None:
        self.odoo, self._directory = odoo, directory
        self.made: OdooLoadTarget | None = None

    def begin(self, text: str, *events: Event, **settings: str) -> None:
        """Take a mapping, and deliver what is to be there before; the fields of its models are asked for with it."""
        self.made = target(self._directory, self.odoo, text, **settings)
        for event in events:
            assert deliver(self.made, event) == [DONE]

    def cost(self, *events: Event) -> int:
        """Requests of a batch."""
        outcomes = self.deliver(*events)
        assert set(outcomes) == {DONE}, outcomes
        return self.asked()

    def asked(self) -> int:
        """Requests of the last batch."""
        asked = [f"{one['model']} {one['method']}" for one in self.odoo.requests() if one["model"]]
        return len([one for one in asked if not one.endswith(("fields_get", "authenticate"))])

    def deliver(self, *events: Event) -> Sequence[Outcome]:
        assert self.made is not None
        self.odoo.forget_requests()
        return deliver(self.made, *events)


def t(key: int, op: str = "insert", old: Mapping[str, Any] | None = None, **columns: Any) -> Event:
    return row("t", key, op, old, **{"name": f"t{key}", **columns})


def order(key: int, state: str = "draft", lines: int = 1) -> Event:
    return row("orders", key, state=state, lines=lines)


def line(key: int, of: int) -> Event:
    return row("lines", key, order=of)


def create(one: Odd) -> list[int]:
    one.begin(TABLE + FIELDS + '[table."public.t".create]\ncity = "x"\n', t(0))
    return [one.cost(t(1), t(2)) - 1]


def delete_when(one: Odd) -> list[int]:
    rules = '[{ when = { color = 1 }, do = "unlink" }, { when = { color = 2 }, do = "archive" }, { do = "ignore" }]'
    one.begin(TABLE + FIELDS, *(t(key) for key in range(9)))
    plain = one.cost(t(7, "delete"), t(8, "delete"))
    one.begin(
        TABLE + f"delete = {rules}\n" + FIELDS + 'color = "{color}"\n', *(t(key, color=key % 2 + 1) for key in range(5))
    )
    return [one.cost(t(0, "delete"), t(2, "delete")) - plain, one.cost(t(1, "delete"), t(4, "delete")) - plain]


def omit(one: Odd) -> list[int]:
    fields = 'city = { from = "{a}", omit = "null" }\nstreet = { from = "{b}", omit = "null" }\n'
    one.begin(TABLE + FIELDS + fields, t(0, a=1, b=1))
    batches = ([(1, 1), (2, 2)], [(1, 1), (None, 2)], [(1, 1), (None, 2), (None, None), (2, None)])
    return [one.cost(*(t(key, a=a, b=b) for key, (a, b) in enumerate(some))) - 1 for some in batches]


def by(one: Odd) -> list[int]:
    one.begin(TABLE + FIELDS + 'country_id = { from = "{a}", by = "code" }\n', t(0, a="AT"))
    found = [one.cost(t(1, a="DE"), t(2, a="FR")) - 1, one.cost(t(1, a="DE"), t(2, a="FR")) - 1]
    pair = 'state_id = { by = { code = "{a}", "country_id.code" = "{b}" } }\n'
    one.begin(TABLE + FIELDS + pair, t(0, a=None, b=None))
    return [*found, one.cost(t(1, a="TX", b="US"), t(2, a="TX", b="US")) - 1]


def of_model(one: Odd) -> list[int]:
    one.begin(TABLE + FIELDS + 'color = { from = "%(unique)st_{a}", model = "res.partner" }\n', t(0, a=None))
    return [one.cost(t(1, a=0), t(2, a=0)) - 1]


def many_add(one: Odd) -> list[int]:
    adds = FIELDS + '"category_id/id" = { from = "%(unique)st_{a}", many = "add" }\n'
    one.begin(TABLE + adds, t(0, a=[]))
    alone = one.cost(t(1, a=[]), t(2, a=[])) - 1
    one.odoo.add_field("res.partner", "x_tags", "many2many")
    one.begin(TABLE + adds + '"x_tags/id" = "%(unique)st_{a}"\n', t(0, a=[]))
    return [alone, one.cost(t(1, a=[]), t(2, a=[])) - 1]


def merge(one: Odd) -> list[int]:
    tags = '[table."public.tags"]\nmodel = "res.partner.category"\nid = "%(unique)stag_{id}"\n'
    tags += '[table."public.tags".fields]\nname = "{id}"\n'
    text = TABLE + FIELDS + '"category_id/id" = { from = "%(unique)stag_{a}", many = "merge" }\n' + tags
    one.begin(text, row("tags", 1), row("tags", 2), t(0, a=[1, 2]), t(1, a=[1, 2]))
    gone = [t(key, "update", {"id": key, "name": "x", "a": [1, 2]}, a=[1]) for key in (0, 1)]
    return [one.cost(*gone) - 1, one.cost(gone[0], t(1, "update", {"id": 1, "name": "x", "a": [1]}, a=[])) - 1]


def actions(one: Odd) -> list[int]:
    one.begin(ORDERS, t(1), order(0))
    some = [order(1), order(2)], [order(1, "confirmed"), order(2, "confirmed")], [order(1, "confirmed")]
    return [one.cost(*events) - 1 for events in some]


def after(one: Odd) -> list[int]:
    one.begin(ORDERS + LINES, t(1), row("products", 1), order(0), order(3), line(3, 3))
    return [
        one.cost(order(1)) - 1,
        one.cost(order(2, "confirmed")) - 1,  # its mark is made
        one.cost(order(2, "confirmed")) - 1,
        one.cost(order(3, "confirmed")) - 1,  # its line is there: it is confirmed
        one.cost(order(2)) - 1,  # its mark is removed
    ]


def waited_for(one: Odd) -> list[int]:
    one.begin(ORDERS + LINES, t(1), row("products", 1), order(1), order(2, "confirmed", 2))
    return [one.cost(line(1, 1)) - 1, one.cost(line(2, 2)) - 1, one.cost(line(3, 2)) - 1]


def languages(one: Odd) -> list[int]:
    text = TABLE.replace("res.partner", "res.partner.category") + 'context = { lang = "en_US" }\n'
    text += FIELDS.replace('"{name}"', '{ en_US = "{name}", de_DE = "{name}", fr_FR = "{name}" }')
    one.begin(text, t(0))
    return [one.cost(t(1), t(2)) - 1]


def batch_size(one: Odd) -> list[int]:
    one.begin(TABLE + "batch_size = 2\n" + FIELDS, t(0))
    return [one.cost(*(t(key) for key in range(5))) - 1]


def again(one: Odd) -> list[int]:
    text = TABLE + FIELDS + BANKS.replace("public.banks", "public.t as banks").replace("{t}", "{id}")
    one.begin(text, t(0))
    return [one.cost(t(1), t(2)) - 1]


def empty_link(one: Odd) -> list[int]:
    link = '"parent_id/id" = { from = "%(unique)st_{a}", empty_link = "leave empty" }\n'
    one.begin(TABLE + FIELDS + link, t(0, a=None), ODOO_LINK_WAIT="0")
    one.deliver(t(1, a=99))
    return [one.cost(t(1, a=99)) - 1]


def links(one: Odd) -> list[int]:
    text = TABLE + FIELDS + '"parent_id/id" = "%(unique)st_{a}"\n"country_id/id" = "base.{b}"\n'
    one.begin(text, t(0, a=None, b=None))
    one.begin(text)
    found = [one.cost(t(1, a=0, b="at"), t(2, a=0, b="de")) - 1]  # two modules
    found.append(one.cost(t(3, a=0, b="at"), t(4, a=2, b="fr")) - 1)
    one.deliver(t(5, a=98, b="at"))  # refused
    found.append(one.cost(t(6, a=1, b="at"), t(7, a=2, b="be")) - 1)  # only what we have not loaded is asked for
    assert [outcome.verdict for outcome in one.deliver(t(8, a=99, b=None))] == [Verdict.CONFLICT]
    found.append(one.asked())
    one.deliver(t(9, a=99, b=None))
    return [*found, one.asked()]


def match_known(one: Odd) -> list[int]:
    one.begin(TABLE + 'match = ["name"]\n' + OWN, t(1), t(2))
    return [one.cost(t(1), t(2)) - 1]


def match_new(one: Odd) -> list[int]:
    one.begin(TABLE + 'match = ["name"]\n' + OWN, t(0))
    found = [one.cost(t(1), t(2)) - 1]
    client = one.odoo.client()
    client.call("res.partner", "create", vals_list=[{"name": f"{one.odoo.unique}by hand"}])
    found.append(one.cost(t(3, name="by hand"), t(4)) - 1)
    text = TABLE + 'match = ["name", "country_id"]\n' + OWN + '"country_id/id" = "base.at"\n'
    one.begin(text, t(0))
    return [*found, one.cost(t(5), t(6)) - 1]


def changed(one: Odd) -> list[int]:
    text = TABLE + 'update = "changed"\n' + FIELDS + 'email = "{email}"\n'
    one.begin(text, *(t(key, email="a") for key in range(3)))
    olds = [{"id": key, "name": f"t{key}", "email": "a"} for key in (1, 2)]
    alike = one.cost(*(t(key, "update", old, email="b") for key, old in zip((1, 2), olds, strict=True)))
    apart = one.cost(t(1, "update", {**olds[0], "email": "b"}, email="c"), t(2, "update", olds[1], name="x", email="a"))
    return [one.cost(t(3, email="a")) - 1, alike - 1, apart - 1]


def files(one: Odd) -> list[int]:
    found = []
    for first, model in ((0, "res.partner"), (10, "product.product")):
        own = range(first + 1, first + 4)
        one.begin(TABLE.replace("res.partner", model) + FIELDS + 'image_1920 = "{a}"\n', t(first, a=None))
        one.cost(*(t(n, a=None) for n in own))
        found.append(one.cost(*(t(n, "update", a="\\x00") for n in own)) - 1)
    return found


def extending(one: Odd) -> list[int]:
    one.begin(TABLE.replace("res.partner", "product.product") + FIELDS, t(0))
    return [one.cost(t(1), t(2)) - 1, one.cost(t(1, "update"), t(2, "update")) - 1]


def deletes(one: Odd) -> list[int]:
    found = []
    for delete in ("archive", "unlink"):
        one.begin(TABLE + f'delete = "{delete}"\n' + FIELDS, t(1), t(2))
        found.append(one.cost(t(1, "delete"), t(2, "delete")) - 1)
    return found


def nothing(one: Odd) -> list[int]:
    one.begin(TABLE + FIELDS, t(0))
    return [one.cost(t(1), t(2)) - 1]


# By the first words of a line of the page: what it costs more than the one request of `load`, on 17 and on 19.
CASES: dict[str, tuple[Callable[[Odd], list[int]], list[int], list[int]]] = {
    "`create`": (create, [1], [1]),
    "`delete` with `when`": (delete_when, [1, 2], [1, 2]),
    "`omit`": (omit, [0, 1, 3], [0, 1, 3]),
    "`by`": (by, [1, 0, 1], [1, 0, 1]),
    "`model`": (of_model, [1], [1]),
    '`many = "add"`': (many_add, [0, 1], [0, 1]),
    '`many = "merge"`': (merge, [2, 4], [2, 4]),
    "`actions`": (actions, [0, 2, 1], [0, 2, 1]),
    "`after`, the table itself": (after, [1, 4, 3, 5, 2], [1, 4, 3, 5, 2]),
    "`after`, the table that is waited for": (waited_for, [2, 5, 7], [2, 5, 7]),
    "each language": (languages, [2], [2]),
    '`update = "changed"`': (changed, [0, 2, 3], [0, 2, 3]),
    "a file in a model that extends another": (files, [0, 0], [0, 1]),
    "`batch_size`": (batch_size, [2], [2]),
    "a table mapped again": (again, [1], [1]),
    "`empty_link`": (empty_link, [1], [1]),
    "links by external id": (links, [2, 0, 1, 1, 0], [2, 0, 1, 1, 0]),
    "`match`, rows whose": (match_known, [1], [1]),
    "`match`, new rows": (match_new, [2, 4, 3], [2, 4, 3]),
    "inserts into a model that extends another": (extending, [1, 0], [1, 0]),
    "deletes": (deletes, [1, 1], [1, 1]),
    "none, before 16": (nothing, [0], [0]),
}


@pytest.mark.parametrize("odoo", ["17", "19"], indirect=True)
@pytest.mark.parametrize("name", CASES)
def test_it_costs_what_the_page_says(odoo: Odoo, tmp_path: Path, name: str) -> None:
    case, on_17, on_19 = CASES[name]
    assert case(Odd(odoo, tmp_path)) == (on_17 if odoo.like == "17" else on_19)


@pytest.mark.parametrize("odoo", ["14"], indirect=True)
def test_before_16_a_batch_costs_one_more(odoo: Odoo, tmp_path: Path) -> None:
    assert nothing(Odd(odoo, tmp_path)) == [1]


def test_each_line_of_the_page_is_counted() -> None:
    section = PAGE.partition("## What each setting costs")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
    settings = [one for one in lines if one not in ("setting", "---")]
    assert len(settings) == len(CASES)
    assert [one for one in settings if not one.startswith(tuple(CASES))] == []
