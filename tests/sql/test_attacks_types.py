"""Casts of a type's owner, who owns neither the table nor its schema: they ran in the session of whoever wrote."""

from __future__ import annotations

import json

import pytest

from tests.sql.conftest import TENANT, VICTIM, Session, evil, reached

# A domain of the tenant's inside the type of a key: its check ran when the key was read back.
STRANGE = (
    """
    create type shared.e as enum ('a', 'b'); create type shared.r as range (subtype = int4);
    create domain shared.d as shared.e; create domain shared.plain as int; create domain shared.da as shared.e[];
    create type shared.c as (e shared.e, n int, t timestamptz, j jsonb, "odd ""name" shared.plain[]);
    create type shared.outer as (x int, e shared.e);
"""
    + "; ".join(f"alter type shared.{name} owner to {TENANT}" for name in ("e", "r", "d", "plain", "da", "c"))
    + ";"
)
VALUES = {
    "e": ("shared.e", "'a'", "a"),
    "r": ("shared.r", "'[1,3)'", "[1,3)"),
    "d": ("shared.d", "'b'", "b"),
    "plain": ("shared.plain", "7", 7),
    "ea": ("shared.e[]", "'{a,NULL,b}'", ["a", None, "b"]),
    "eaa": ("shared.e[]", "'{{a,b},{b,a}}'", [["a", "b"], ["b", "a"]]),
    "da": ("shared.d[]", "'{b}'", ["b"]),
    "dom": ("shared.da", "'{b,a}'", ["b", "a"]),
    "c": (
        "shared.c", """row('a', 1, '2024-05-01 10:00+00', '{"x": 1.50}', '{1,2}')""",
        {"e": "a", "n": 1, "t": "2024-05-01T10:00:00+00:00", "j": {"x": 1.5}, 'odd "name': "{1,2}"},
    ),
    "ca": ("shared.c[]", "array[row('a', 1, null, null, null)::shared.c]", ["(a,1,,,)"]),
    "o": ("shared.outer", "row(1, 'b')", {"x": 1, "e": "b"}),
    "none": ("shared.c", "null", None),
}  # fmt: skip
EVIL_CASTS = """
    create function tenant.e(shared.e) returns json language sql as 'select to_json(tenant.evil(1))';
    create function tenant.r(shared.r) returns json language sql as 'select to_json(tenant.evil(1))';
    create cast (shared.e as json) with function tenant.e(shared.e);
    create cast (shared.r as json) with function tenant.r(shared.r);
"""
HOW = {
    "row": "", "ignore": ", ignore => '{v}'", "bulk": ", bulk => true", "when": """, "when" => 'v > 0'""",
    "key": ", key => '{e,d,v}'", "bulk key": ", bulk => true, key => '{e,id}'",
}  # fmt: skip


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
@pytest.mark.parametrize("how", HOW)
def test_the_owner_of_a_type_runs_nothing_in_a_writer_s_session(admin, shared, how, isolation):
    """Its cast to json did, of a table of somebody else's: PREPARE, DEALLOCATE, FETCH; errors that end a session."""
    columns = ", ".join(f"{name} {kind}" for name, (kind, _, _) in VALUES.items())
    values = ", ".join(value for _, value, _ in VALUES.values())
    admin.sql(STRANGE + f"create table shared.t (id int primary key, v int, {columns}, unique (id, e))")
    admin.sql(f"select relay.watch('shared.t'{HOW[how]})")
    shared.sql(EVIL_CASTS)
    shared.sql(f"begin isolation level {isolation}; insert into shared.t values (1, 1, {values}), (2, 1, {values})")
    shared.sql("update shared.t set e = 'b', v = 2; update shared.t set id = id + 7; delete from shared.t; commit")
    assert reached(shared) == set()
    events = [e for e in admin.events() if e["table"] == "shared.t"]
    images = [{k: v for k, v in e["new"].items() if k in VALUES} for e in events if e["op"] == "insert"][:2]
    assert json.loads(json.dumps(images, default=float)) == [{n: told for n, (_, _, told) in VALUES.items()}] * 2
    assert {e["op"] for e in events} >= {"insert", "delete"}
    if "key" in how:
        assert events[0]["key"] == ({"e": "a", "d": "b", "v": 1} if how == "key" else {"e": "a", "id": 1})


def test_nor_in_the_session_of_who_resends(admin, shared, database):
    columns = ", ".join(f"{name} {kind}" for name, (kind, _, _) in VALUES.items())
    values = ", ".join(value for _, value, _ in VALUES.values())
    admin.sql(STRANGE + f"create table shared.t (id int primary key, v int, {columns}); select relay.watch('shared.t')")
    admin.sql(f"insert into shared.t values (1, 1, {values}); delete from relay.outbox")
    shared.sql(EVIL_CASTS)
    listener = Session(database.listener())
    assert listener.value("select copied from relay.resend_chunk('shared.t', null, 10, null)") == 1
    images = listener.value("select images from relay.present_rows('shared.t', '{\"{\\\"id\\\": 1}\"}', 100000)")
    assert reached(listener) == set()
    new = {n: told for n, (_, _, told) in VALUES.items()}
    assert {k: v for k, v in json.loads(images[0]).items() if k in VALUES} == new
    assert json.loads(json.dumps(admin.events()[0]["new"], default=float)) == {"id": 1, "v": 1} | new


def test_the_owner_s_and_a_superuser_s_types_are_told_with_their_casts(admin, shared, database):
    """An extension's as well: they could make a trigger."""
    evil(shared, "text", "json", "to_json(1)")
    shared.sql(
        "create type tenant.e as enum ('a'); create table tenant.t (id int primary key, m tenant.e, s tenant.e[])"
    )
    shared.sql("select relay.watch('tenant.t')")
    for owner in (TENANT, "postgres"):
        admin.sql(f"""
            alter type tenant.e owner to {owner}; drop cast if exists (tenant.e as json);
            create or replace function shared.said(tenant.e) returns json language sql as 'select to_json(2)';
            create cast (tenant.e as json) with function shared.said(tenant.e);
            delete from relay.outbox; delete from tenant.t; insert into tenant.t values (1, 'a', '{{a}}');
        """)
        assert admin.events()[-1]["new"] == {"id": 1, "m": 2, "s": [2]}
    admin.sql(f"alter table tenant.t owner to {VICTIM}; alter type tenant.e owner to {TENANT}; delete from tenant.t")
    assert admin.events()[-1]["old"] == {"id": 1, "m": "a", "s": ["a"]}


BEHIND = {
    "type": ("create table shared.t (id int primary key, m shared.e, c shared.outer); select relay.watch('shared.t')",
             f"alter type shared.e owner to {TENANT}"),
    "field": ("create table shared.t (id int primary key, m int, c shared.outer); select relay.watch('shared.t')",
              f"alter type shared.e owner to {TENANT}"),
    "column": ("create table shared.t (id int primary key); select relay.watch('shared.t')",
               f"alter type shared.e owner to {TENANT}; alter table shared.t add m shared.e, add c shared.outer"),
    "column's type": ("create table shared.t (id int primary key, m text, c text); select relay.watch('shared.t')",
                      (f"alter type shared.e owner to {TENANT}; alter table shared.t drop c, add c shared.outer,"
                      "alter m type shared.e using m::shared.e")),
    "table": ("create table shared.t (id int primary key, m shared.e, c shared.outer); select relay.watch('shared.t')",
              f"alter type shared.e owner to {TENANT}; alter table shared.t owner to {VICTIM}"),
}  # fmt: skip


@pytest.mark.parametrize("changed", BEHIND)
def test_a_type_that_came_or_changed_hands_behind_a_snapshot_runs_nothing(admin, shared, connect, changed):
    admin.sql("create type shared.e as enum ('1', 'a'); create type shared.outer as (x int, e shared.e)")
    before, meanwhile = BEHIND[changed]
    admin.sql(before)
    admin.sql("create table shared.x (id int)")
    shared.sql("begin isolation level repeatable read; select from shared.x")
    connect().sql(meanwhile)
    connect().sql(f"""
        set role {TENANT};
        create function tenant.e(shared.e) returns json language sql as 'select to_json(tenant.evil(1))';
        create cast (shared.e as json) with function tenant.e(shared.e);
    """)
    m = "1" if changed == "field" else "'a'"
    shared.sql(f"insert into shared.t (id, m, c) values (1, {m}, row(1, 'a')); delete from shared.t; commit")
    assert reached(shared) == set()
    assert [e["op"] for e in admin.events() if e["table"] == "shared.t"] == ["insert", "delete"]
    assert all(e["key"] == {"id": 1} for e in admin.events() if e["table"] == "shared.t")
