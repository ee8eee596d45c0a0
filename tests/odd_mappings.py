"""Mappings and rows as people and databases make them: a good one, in which one thing is another than it should be."""

from __future__ import annotations

import copy
import datetime
import itertools
import json
import random
from typing import Any

from relay.delivery import Event

ODD: list[Any] = [
    *(0, -1, 2**63 - 1, 1.5, float("nan"), float("inf"), True, False, "", " ", "x", "{id}", "{a", "}", "{a|lower}"),
    *("{a|map}", "{a|replace('x', 'y')}", "{a|nope}", "{ }", "{{", "a\x00b", "ü", "😀", "a.b.c", "%d", "%", "x" * 5000),
    *(datetime.datetime(2031, 1, 1, tzinfo=datetime.UTC), datetime.date(2031, 1, 1), datetime.time(1, 2)),
    *([], [[]], [1], ["a"], ["a", 1], [{}], {}, {"a": 1}, {"null": True}, {"null": 1}, {"": ""}, {"a": {"b": {}}}),
    *({"en_US": "{a}", "de": "{b}"}, {"en_US": 1, "de_DE": "{b}"}, {"from": "{a}", "de_DE": "{b}"}, "unlink", "merge"),
    *("name", "id", "refuse", "ignore", "null", "leave empty", ",", "{a}{b}", "{id}_{b}", "base.{a|lower}", "res..x"),
]
VALUES: list[Any] = [
    *(None, True, False, "", "x", 0, 1, -1, 1.5, 10**40, "1e999", "NaN", "2031-12-30", "2031-12-30T01:02:03Z"),
    *(
        "0044-03-15 BC",
        "infinity",
        "\\x00ff",
        "\\xzz",
        "\x00",
        "²",
        "ü" * 10,
        "x" * 10_000,
        [],
        [None],
        [1, 2],
        ["a", None],
    ),
    *([[1]], {}, {"a": 1}, "a,b.c ~", "de", "DE", "EUR"),
]
COLUMNS = ("id", "a", "b", "tags", "n", "kind")
GOOD: dict[str, Any] = {
    "unmapped": "ignore",
    "timezone": "Europe/Berlin",
    "context": {"lang": "en_US", "allowed_company_ids": [1]},
    "table": {
        "public.t": {
            "model": "res.partner", "id": "t_{id}", "match": ["ref"], "order": 1, "batch_size": 10,
            "when": {"kind": ["a", "b"]}, "unless": {"n": {"null": False}}, "truncate": "delete",
            "delete": [{"when": {"active": True}, "do": "archive"}, {"set": {"color": 0}}],
            "actions": [{"when": {"kind": "a"}, "method": "action_archive", "unless_record": {"active": [False]},
                         "after": {"public.lines": "n"}, "context": {"x": 1}}],
            "fields": {
                "name": {"en_US": "{a}", "de_DE": {"from": "{b|strip}"}},
                "ref": "{b|lower}",
                "color": {"from": "{n}", "default": 3, "decimal": ","},
                "type": {"from": "{kind}", "values": {"a": "contact"}, "default": "other"},
                "partner_latitude": {"from": "{n}", "omit": "null"},
                "country_id": {"from": "{b}", "by": "code"},
                "state_id": {"by": {"code": "{a}", "country_id.code": "{b}"}},
                "category_id/id": {"from": "tags_{tags}", "many": "merge", "empty_link": "leave empty"},
                "parent_id/id": "t_{n}",
                "image_1920": "{a}",
            },
            "create": {"comment": "of {a|title|replace('x', 'y')}", "website": {"from": "{b}", "format": "%d.%m.%Y"}},
        },
        "public.lines": {
            "model": "res.partner.bank", "id": "lines_{id}", "delete": "unlink",
            "fields": {"acc_number": "{id}", "partner_id/id": "t_{n}"},
        },
        "public.lines as files": {
            "model": "ir.attachment", "id": "files_{id}", "delete": {"do": "method", "method": "unlink"},
            "context": {"lang": "de_DE"}, "truncate": "ignore",
            "fields": {"name": "x", "res_id": {"from": "t_{n}", "model": "res.partner"}, "datas": "{a}"},
        },
    },
}  # fmt: skip


def odd(chance: random.Random) -> str:
    """A mapping file, with one to three mistakes."""
    made = copy.deepcopy(GOOD)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        holder, key = chance.choice(list(_places(made)))
        what = chance.random()
        if what < 0.15:
            del holder[key]
        elif what < 0.3 and isinstance(holder, dict):
            holder[f"{key}{chance.choice(['x', '/id', ' ', 'ü', '.', ' as x'])}"] = holder.pop(key)
        elif what < 0.45:
            other, at = chance.choice(list(_places(made)))
            holder[key] = copy.deepcopy(other[at])
        else:
            holder[key] = copy.deepcopy(chance.choice(ODD))
    return to_toml(made)


KINDS: list[Any] = [7, float("nan"), True, "{zz}", datetime.date(2031, 1, 1), [], {"a": 1}]


def each() -> list[str]:
    """Mapping files: in each place one thing of each kind, one file a mistake."""
    places = len(list(_places(GOOD)))
    found = []
    for number in range(places):
        for kind in KINDS:
            made = copy.deepcopy(GOOD)
            holder, key = next(itertools.islice(_places(made), number, None))
            holder[key] = copy.deepcopy(kind)
            found.append(to_toml(made))
    return found


def events(chance: random.Random, count: int) -> list[Event]:
    """Events of one operation and table, with odd values."""
    table, op = chance.choice(["public.t", "public.lines"]), chance.choice(["insert", "update", "delete", "snapshot"])
    return [_event(chance, table, op, key) for key in range(count)]


def _event(chance: random.Random, table: str, op: str, key: int) -> Event:
    old, new = ({**{name: chance.choice(VALUES) for name in COLUMNS}, "id": key} for _ in range(2))
    if chance.random() < 0.6:
        new |= {"kind": "a", "n": None}
    if chance.random() < 0.1:
        del new[chance.choice(list(new))]
    images = {"old": chance.choice([None, old]), "new": None if op == "delete" else new}
    body = json.dumps({"table": table, "op": op, "key": {"id": key}, **images})
    own = f'{table} {{"id":{key}}}'
    return Event(body.encode(), table, id=f"{table}-{key}", op=op, table=table, key=own)


def _places(value: Any) -> Any:
    """Everything that can be another, with its key, or its number in a list."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in list(pairs):
        yield value, key
        yield from _places(one)


def to_toml(value: dict[str, Any]) -> str:
    """As TOML; tables inline."""
    return "\n".join(f"{_text(key)} = {_inline(one)}" for key, one in value.items()) + "\n"


def _inline(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_text(key)} = {_inline(one)}" for key, one in value.items()) + "}"
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else str(value)


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
