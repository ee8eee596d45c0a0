"""Whoever owns one watched table becomes nobody else, and stops, reads and forges nothing that is others'.

Each attack runs code of a tenant where the relay could run it, says there as whom it runs, and compares everything that
could have changed before and after.
"""

from __future__ import annotations

import contextlib
import json

import psycopg2
import pytest

from tests.sql.attacks import SESSION, STATE, WATCHES, attack, mood, refused
from tests.sql.conftest import TENANT, Session, login


@pytest.mark.parametrize(("way", "isolation"), [
    *((way, "read committed") for way in WATCHES), ("row", "repeatable read"), ("bulk", "serializable"),
])  # fmt: skip
def test_a_cast_to_json_can_only_compute(admin, tenant, way, isolation):
    mood(tenant, attack(), "id int primary key, m tenant.mood, v int")
    tenant.sql(WATCHES[way])
    before, session = admin.value(STATE), tenant.value(SESSION)
    tenant.sql(f"begin isolation level {isolation}")
    tenant.sql("insert into tenant.t (id, m) values (1, 'a')")
    tenant.sql("commit")
    assert tenant.value(SESSION) == session
    assert admin.value(STATE) == before
    assert tenant.value("select last_value from tenant.counter") == 1
    assert tenant.sql("table tenant.loot") == []
    refused(next(e for e in admin.events() if e["table"] == "tenant.t")["new"]["m"], admin)


def test_the_same_in_a_superuser_s_write_and_when_an_operator_resends(admin, tenant, database):
    mood(tenant, attack())
    tenant.sql(WATCHES["row"])
    listener = Session(database.listener())
    before, here, there = admin.value(STATE), admin.value(SESSION), listener.value(SESSION)
    admin.sql("insert into tenant.t values (1, 'a')")
    assert listener.sql("select copied from relay.resend_chunk('tenant.t', null, 10, null)") == [(1,)]
    assert listener.value("select relay.resend_row('tenant.t', '{\"id\":1}', 'true')") == 1
    assert (admin.value(SESSION), listener.value(SESSION)) == (here, there)
    assert admin.value(STATE) == before
    events = [e for e in admin.events() if e["table"] == "tenant.t"]
    assert [e["op"] for e in events] == ["insert", "snapshot", "snapshot"]
    for event in events:
        refused(event["new"]["m"], admin)


def test_a_key_with_a_cast_is_no_way_in_either(admin, tenant):
    mood(tenant, attack(), "id int, m tenant.mood, primary key (id, m)")
    tenant.sql(WATCHES["row"])
    before = admin.value(STATE)
    tenant.sql("insert into tenant.t values (1, 'a'); update tenant.t set id = 2; delete from tenant.t")
    assert admin.value(STATE) == before
    events = [e for e in admin.events() if e["table"] == "tenant.t"]
    assert [e["op"] for e in events] == ["insert", "delete", "insert", "delete"]
    for event in events:
        refused(event["key"]["m"], admin)


def test_what_is_written_after_a_reset_of_read_only_is_rolled_back(admin, tenant):
    """Before PostgreSQL 16 it works, if it isn't in a block of its own; and then even DROP OWNED does."""
    mood(
        tenant,
        """begin
        reset transaction_read_only; insert into tenant.loot values (current_user); drop owned by relay_compute;
        return to_json((select x from tenant.loot));
    end""",
    )
    tenant.sql(WATCHES["row"])
    before, session = admin.value(STATE), tenant.value(SESSION)
    tenant.sql("insert into tenant.t values (1, 'a')")
    worked = admin.connection.server_version < 160000
    assert [e["new"]["m"] for e in admin.events() if e["table"] == "tenant.t"] == ["relay_compute" if worked else "a"]
    assert tenant.sql("table tenant.loot") == []
    assert tenant.value(SESSION) == session
    assert admin.value(STATE) == before


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
@pytest.mark.parametrize("way", WATCHES)
def test_a_column_added_at_the_worst_moment_does_not_get_past_the_box(admin, tenant, database, way, isolation):
    """The writer's snapshot is older than the type, its cast and the column."""
    tenant.sql("create table tenant.t (id int primary key, v int); insert into tenant.t values (1, 1)")
    tenant.sql(WATCHES[way])
    writer = login(database, TENANT)
    writer.sql(f"begin isolation level {isolation}")
    writer.sql("select 1 from pg_class limit 1")  # takes the snapshot
    tenant.sql("""
        create type tenant.late as enum ('a');
        create function tenant.who(tenant.late) returns json language plpgsql as
            $$ begin return to_json(current_user::text); end $$;
        create cast (tenant.late as json) with function tenant.who(tenant.late);
        alter table tenant.t add column late tenant.late default 'a';
    """)
    writer.sql("insert into tenant.t values (2)")
    writer.sql("commit")
    # bulk_event does not see the column in such a snapshot; nor can be seen whose type it is.
    behind = "bulk" if way == "bulk" else "a"
    late = admin.events()[-1]["new"].get("late", way)
    assert late == ("relay_compute" if isolation == "read committed" else behind)
    writer.connection.close()


def test_a_filter_in_a_trigger_made_by_hand_is_not_read_as_sql(admin, tenant):
    """Not even as the table's owner: whoever may make a trigger on a table need not own it."""
    tenant.sql("""
        create table tenant.t (id int primary key deferrable, v int); select relay.watch('tenant.t');
        create function tenant.sp() returns bool language plpgsql as $$
        begin
            raise notice 'ran as %', current_user;
            return true;
        end $$;
        drop trigger "!relay_update" on tenant.t;
        create trigger "!relay_update" after update on tenant.t for each row execute function relay.row_event(
            'tenant.t', 'tenant.t', 'update', '{1}', '{"filter": "false or tenant.sp()"}', 'id');
        insert into tenant.t values (1), (2);
    """)
    del tenant.notices[:]
    tenant.sql("update tenant.t set id = 3 - id")
    assert not any("ran as" in notice for notice in tenant.notices)
    ops = [(e["op"], e["key"]["id"]) for e in admin.events() if e["table"] == "tenant.t"]
    assert ops == [("insert", 1), ("insert", 2), ("insert", 2), ("insert", 1)], "the key's new owner was looked up"


def test_a_condition_of_the_watch_runs_in_the_box_when_a_key_is_looked_up(admin, tenant):
    tenant.sql("""
        create table tenant.t (id int primary key deferrable, v int);
        create function tenant.sp(int) returns bool language plpgsql as $$
        begin
            raise notice 'ran as %', current_user;
            begin
                insert into tenant.loot values (1); raise notice 'ran as one who writes';
            exception when read_only_sql_transaction then null; end;
            return true;
        end $$;
        select relay.watch('tenant.t', "when" => 'tenant.sp(v)'); insert into tenant.t values (1, 1), (2, 2);
        delete from tenant.loot;
    """)
    del admin.notices[:]
    admin.sql("set search_path = pg_catalog; update tenant.t set id = 3 - id")
    seen = {notice.split(" as ")[1].strip() for notice in admin.notices if "ran as" in notice}
    assert seen == {"postgres", "one who writes", "relay_compute"}, "as a trigger's condition, and in the box"
    ops = [(e["op"], e["key"]["id"]) for e in admin.events() if e["table"] == "tenant.t"]
    assert ops == [("insert", 1), ("insert", 2), ("insert", 2), ("insert", 1)]


def test_a_reader_is_for_nobody_who_does_not_know_its_secret(admin, tenant, roles):
    """Neither for another login nor for code in the box: the function would read a table as its owner."""
    admin.sql(
        "create table public.own (id int primary key); select relay.watch('public.own'); insert into own values (1)"
    )
    reader, secret = admin.sql("select reader, secret from relay.wanted where tbl = 'public.own'::regclass")[0]
    query = "select array(select (t.*)::public.own from public.own t) as rows"
    call = f"select relay_readers.{reader}(json_build_object('secret', %s, 'query', %s)::relay_readers.{reader})::text"
    admin.sql("set search_path = relay_readers, public")
    assert admin.value(call, secret, query) == '("{(1)}",)'
    assert tenant.error(call, secret, query).pgcode == "42501"
    assert tenant.sql("select reader from relay.wanted where tbl = 'public.own'::regclass") == []
    admin.sql("set role relay_compute")
    error = admin.error(call, "guess", query)
    admin.sql("reset role")
    assert "not for you" in str(error)


# SQL in the condition of a resend, by the login of the listener.
@pytest.mark.parametrize("where", [
    "tenant.note()", "true) and (tenant.note()", "exists (select where tenant.note())",
    "true)); select tenant.note(); select exists (select from (select 1) t where (true",
])  # fmt: skip
def test_a_hostile_condition_of_a_resend_only_computes(admin, tenant, database, where):
    tenant.sql(f"""
        create table tenant.t (id int primary key, v int);
        select relay.watch('tenant.t'); insert into tenant.t values (1);
        create function tenant.attack() returns json language plpgsql as $a${attack()}$a$;
        create function tenant.note() returns bool language plpgsql as $$
        declare said json;
        begin said := tenant.attack(); raise notice '%', said; return true; end $$;
    """)
    listener = Session(database.listener())
    before, session = admin.value(STATE), listener.value(SESSION)
    with contextlib.suppress(psycopg2.errors.SyntaxError):
        listener.sql("select copied from relay.resend_chunk('tenant.t', null, 10, %s)", where)
    assert listener.value(SESSION) == session
    assert admin.value(STATE) == before
    noticed = [json.loads(n.split("NOTICE:  ", 1)[1]) for n in listener.notices if "relay_compute" in n]
    for said in noticed:
        refused(said, admin)
    assert noticed or "select tenant.note();" in where


def test_a_bulk_trigger_without_its_tables_reads_no_temporary_view(admin, tenant):
    """The functions of a view run as whoever reads it: as relay_owner, who owns everything."""
    tenant.sql("""
        create table tenant.t (id int primary key, v int);
        create function tenant.attack() returns int language plpgsql as $$
            begin raise exception 'reached as %', current_user; end $$;
        create trigger "!relay_insert" after insert on tenant.t for each statement execute function
            relay.bulk_event('a', 'a', 'insert', '{1}', '{}', 'id');
    """)
    for kind in ("relay_new", "relay_old"):
        tenant.sql(f"""
            create temp view {kind} as select tenant.attack() as id, 1 as v; grant select on {kind} to public;
            create function tenant.of_{kind}({kind}) returns tenant.t language sql as 'select null::tenant.t';
            create cast ({kind} as tenant.t) with function tenant.of_{kind}({kind});
        """)
        error = tenant.error("insert into tenant.t values (1)")
        assert "must not be named" in error.diag.message_primary
        tenant.sql(f"drop view {kind} cascade")
    assert tenant.error("insert into tenant.t values (1)").pgcode == "42P01"


# Everything that can have a column with a hostile type: {what: (made by, inserted by)}.
SHAPES = {
    "view": ("create table tenant.base (id int, m tenant.who); create view tenant.t as table tenant.base", "(1, 'a')"),
    "typed table": ("create type tenant.c as (id int, m tenant.who); create table tenant.t of tenant.c", "(1, 'a')"),
    "attribute added": (
        ("create type tenant.c as (id int); create table tenant.t of tenant.c; "
        "alter type tenant.c add attribute m tenant.who cascade"), "(1, 'a')",
    ),
    "column retyped": (
        "create table tenant.t (id int, m text); alter table tenant.t alter m type tenant.who using m::tenant.who",
        "(1, 'a')",
    ),
    "row of a table": (
        "create table tenant.base (x int, w tenant.who); create table tenant.t (id int, m tenant.base)",
        "(1, row(1, 'a'))",
    ),
    "array": ("create table tenant.t (id int, m tenant.who[])", "(1, '{a}')"),
    "domain": (
        "create domain tenant.d as tenant.who[]; create table tenant.t (id int, m tenant.d)", "(1, '{a}')",
    ),
    "temporary table": ("create temp table t (id int, m tenant.who)", "(1, 'a')"),
    "partition": (
        ("create table tenant.t (id int, m tenant.who) partition by range (m); "
        "create table tenant.t1 partition of tenant.t default"), "(1, 'a')",
    ),
    "inherited": (
        "create table tenant.base (id int, m tenant.who); create table tenant.t () inherits (tenant.base)", "(1, 'a')",
    ),
}  # fmt: skip


@pytest.mark.parametrize("number", ["{1}", "{2}"], ids=["first", "other"])
@pytest.mark.parametrize("shape", SHAPES)
def test_no_kind_of_table_hides_a_hostile_type(admin, tenant, shape, number):
    """Whether the trigger takes the key's column for the first one or not, which are two ways through it."""
    made, values = SHAPES[shape]
    tenant.sql(f"""
        create type tenant.who as enum ('a');
        create function tenant.say(tenant.who) returns json language sql as 'select to_json(current_user::text)';
        create cast (tenant.who as json) with function tenant.say(tenant.who); {made};
        set search_path = tenant;
        create trigger "!relay_insert" {"instead of" if shape == "view" else "after"} insert on t for each row
            execute function relay.row_event('t', 't', 'insert', '{number}', '{{}}', 'id');
        insert into t values {values};
    """)
    (new,) = [json.dumps(e["new"]) for e in admin.events() if e["table"] == "t"]
    assert "relay_compute" in new
    for other in (TENANT, "relay_owner", "relay_trigger"):
        assert other not in new


def test_no_policy_and_no_check_runs_while_a_key_is_looked_up(admin, tenant):
    tenant.sql("""
        create function tenant.seen(int) returns bool language plpgsql as
            $$begin raise notice 'seen as %', current_user; return true; end$$;
        create domain tenant.d as int check (tenant.seen(value));
        create table tenant.t (id tenant.d primary key deferrable, v int, check (tenant.seen(v)));
        alter table tenant.t enable row level security, force row level security;
        create policy p on tenant.t using (tenant.seen(id));
        create policy r on tenant.t as restrictive using (tenant.seen(v));
        select relay.watch('tenant.t'); insert into tenant.t values (1, 1), (2, 2); update tenant.t set id = 3 - id;
    """)
    assert {n.split(" as ")[1].strip() for n in tenant.notices if "seen as" in n} == {TENANT}
    ops = [(e["op"], e["key"]["id"]) for e in admin.events() if e["table"] == "tenant.t"]
    assert ops[:2] == [("insert", 1), ("insert", 2)], "policies are not run, so no row is looked for"
    assert ops[2:] == [("delete", 1), ("insert", 2), ("delete", 2), ("insert", 1)]


def test_what_a_trigger_made_by_hand_tells_is_json_at_least(admin, tenant):
    tenant.sql("""
        create table tenant.t (id int primary key);
        create trigger a after insert on tenant.t for each row execute function
            relay.row_event('t', E't\\n"', 'delete', '{1}', '{}', 'id');
        create trigger b after insert on tenant.t for each row execute function
            relay.row_event('t', 't', 'x', '{1,2,99}', '{"columns":[],"filter":"true"}', 'id', 'nothing', E'a"\\n');
        create trigger c after delete on tenant.t for each row execute function
            relay.row_event('t', 't', 'insert', '{}', '{"old":false}');
        insert into tenant.t values (1); delete from tenant.t;
    """)
    assert len([e for e in admin.events() if e["table"][0] == "t"]) == 3
