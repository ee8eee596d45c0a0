"""What becomes an event, and what does not."""

import io
import json
from decimal import Decimal

import pytest


@pytest.fixture
def orders(admin):
    admin.sql("create table orders (id int primary key, name text, total numeric, seen timestamptz)")
    return admin


def test_an_insert_an_update_and_a_delete_become_one_event_each(orders):
    orders.sql("select relay.watch('orders')")
    orders.sql("insert into orders values (1, 'a', 1.50)")
    orders.sql("update orders set total = 2.50")
    orders.sql("delete from orders")
    before = {"id": 1, "name": "a", "total": Decimal("1.50"), "seen": None}
    after = before | {"total": Decimal("2.50")}
    assert [(e["op"], e["key"], e["old"], e["new"]) for e in orders.events()] == [
        ("insert", {"id": 1}, None, before),
        ("update", {"id": 1}, before, after),
        ("delete", {"id": 1}, after, None),
    ]


def test_the_body_has_exactly_the_documented_fields(orders):
    orders.sql("select relay.watch('orders', topic => 'shop.orders')")
    orders.sql("set timezone = 'Asia/Kathmandu'")
    orders.sql("insert into orders values (1)")
    row = orders.sql(
        "select xid::text::bigint, id::text, topic, tbl, op, key, headers, error, body, at from relay.backlog"
    )
    xid, identity, topic, tbl, op, key, headers, error, body, at = row[0]
    event = json.loads(body)
    assert list(event) == ["id", "at", "xid", "table", "op", "key", "old", "new"]
    assert (event["id"], event["xid"], event["table"], event["op"]) == (identity, xid, "public.orders", "insert")
    assert (topic, tbl, op, key) == ("shop.orders", "public.orders", "insert", 'public.orders {"id":1}')
    assert headers is None
    assert error is None
    assert event["at"].endswith("+00:00")
    assert orders.value("select %s::timestamptz = %s", event["at"], at)


def test_a_rolled_back_change_leaves_no_event(orders):
    orders.sql("select relay.watch('orders')")
    orders.sql(
        "begin; insert into orders values (1); savepoint s; insert into orders values (2); rollback to s; commit"
    )
    orders.sql("begin; insert into orders values (3); rollback")
    assert orders.story() == [("insert", 1)]


def test_an_update_that_changes_nothing_writes_nothing(orders):
    orders.sql("select relay.watch('orders'); insert into orders values (1, 'a', 1.5)")
    orders.sql("update orders set name = name, total = 1.5")
    assert orders.story() == [("insert", 1)]
    orders.sql("update orders set total = 1.50")
    assert orders.story() == [("update", 1)], "1.50 has a digit more than 1.5"


def test_a_json_column_without_equality_can_be_compared(admin):
    admin.sql("create table t (id int primary key, j json, p point); select relay.watch('t')")
    admin.sql("insert into t values (1, '{\"a\": 1}', '(1,2)'); update t set j = j, p = p")
    admin.sql("""update t set j = '{"a":1}'""")
    assert admin.story() == [("insert", 1), ("update", 1)]


def test_truncate_is_one_event_with_the_table_as_key(orders):
    orders.sql("select relay.watch('orders'); insert into orders values (1), (2); truncate orders")
    assert orders.sql("select op, key, tbl from relay.outbox order by seq desc limit 1") == [
        ("truncate", "public.orders", "public.orders")
    ]
    event = orders.events()[-1]
    assert (event["op"], event["key"], event["old"], event["new"]) == ("truncate", None, None, None)


def test_only_the_chosen_operations_are_events(orders):
    orders.sql("select relay.watch('orders', ops => '{Insert, delete}')")
    orders.sql("insert into orders values (1); update orders set name = 'x'; delete from orders; truncate orders")
    assert orders.story() == [("insert", 1), ("delete", 1)]


def test_only_the_chosen_columns_are_in_the_event_and_count_as_a_change(orders):
    orders.sql("select relay.watch('orders', columns => '{name,id}'); insert into orders values (1, 'a', 5)")
    orders.sql("update orders set total = 6; update orders set name = 'b', total = 7")
    insert, update = orders.events()
    assert insert["new"] == {"id": 1, "name": "a"}
    assert (update["old"], update["new"]) == ({"id": 1, "name": "a"}, {"id": 1, "name": "b"})


def test_ignored_columns_are_not_in_the_event_and_do_not_count_as_a_change(orders):
    orders.sql("select relay.watch('orders', ignore => '{seen}'); insert into orders values (1, 'a', 5, now())")
    orders.sql("update orders set seen = now() - interval '1 day'; update orders set name = 'b', seen = null")
    insert, update = orders.events()
    assert insert["new"] == {"id": 1, "name": "a", "total": 5}
    assert update["new"] == {"id": 1, "name": "b", "total": 5}


def test_the_old_image_can_be_left_out(orders):
    orders.sql("select relay.watch('orders', old => false)")
    orders.sql("insert into orders values (1, 'a'); update orders set name = 'b'")
    orders.sql("update orders set id = 2; delete from orders")
    assert [(e["op"], e["old"], e["key"]) for e in orders.events()] == [
        ("insert", None, {"id": 1}),
        ("update", None, {"id": 1}),
        ("delete", None, {"id": 1}),
        ("insert", None, {"id": 2}),
        ("delete", None, {"id": 2}),
    ]


def test_when_has_the_meaning_of_a_publication_filter(orders):
    orders.sql("""select relay.watch('orders', "when" => 'total > 100')""")
    orders.sql("insert into orders values (1, 'in', 200), (2, 'out', 50), (3, 'unknown', null)")
    assert orders.story() == [("insert", 1)]
    orders.sql("update orders set name = 'x'")
    assert orders.story() == [("update", 1)]
    orders.sql("update orders set total = 300 where id = 2; update orders set total = null where id = 1")
    entered, left = orders.events(clear=True)
    assert (entered["op"], entered["key"], entered["old"], entered["new"]["total"]) == ("insert", {"id": 2}, None, 300)
    assert (left["op"], left["key"], left["old"]["total"], left["new"]) == ("delete", {"id": 1}, 200, None)
    orders.sql("delete from orders")
    assert orders.story() == [("delete", 2)]


def test_when_may_hold_any_text_and_the_callers_own_functions(admin):
    admin.sql("create schema shop; create function shop.is_big(n numeric) returns bool language sql as 'select n > 9'")
    admin.sql('create table t (id int primary key, "new" text, "Old. x" numeric)')
    admin.sql("set search_path = shop, public")
    condition = """ is_big("Old. x") and "new" <> 'old.new t."Old. x" AS ok FROM ONLY ' -- no comment"""
    assert "does not work" in str(admin.error('select relay.watch(%s, "when" => %s)', "t", condition))
    admin.sql('select relay.watch(%s, "when" => %s)', "t", condition.removesuffix(" -- no comment"))
    admin.sql("reset search_path")
    admin.sql("insert into t values (1, 'a', 10), (2, 'a', 1), (3, 'old.new t.\"Old. x\" AS ok FROM ONLY ', 10)")
    assert admin.story() == [("insert", 1)]
    assert admin.value('select "when" from relay.watched') == condition.removesuffix(" -- no comment")


def test_a_key_can_be_given_for_a_table_without_primary_key(admin):
    admin.sql("create table t (a int, b text, c int); select relay.watch('t', key => '{b,a}')")
    admin.sql("insert into t values (1, 'x', 2); update t set c = 3; delete from t")
    assert admin.sql("select distinct key from relay.outbox") == [('public.t {"b":"x","a":1}',)]


def test_null_in_a_given_key_is_a_key_like_any_other(admin):
    admin.sql("create table t (a int, b text); select relay.watch('t', key => '{a}'); insert into t values (null, 'x')")
    assert admin.story() == [("insert", None)]
    admin.sql("update t set a = 1")
    assert admin.story() == [("delete", None), ("insert", 1)]


def test_watching_again_changes_the_watch_in_place(orders):
    orders.sql("""select relay.watch('orders', "when" => 'total > 1', ignore => '{seen}', old => false)""")
    orders.sql("select relay.watch('orders', topic => 'x', ops => '{insert}')")
    assert orders.sql("select tgname from pg_trigger where tgrelid = 'orders'::regclass") == [("!relay_insert",)]
    orders.sql("insert into orders values (1, 'a')")
    assert orders.sql("select topic, body::json #>> '{new,name}' from relay.backlog") == [("x", "a")]


def test_unwatch_removes_the_triggers_and_the_grants(orders):
    acl = (
        "select a.* from pg_class c, aclexplode(coalesce(relacl, acldefault('r', relowner))) a "
        "where c.oid = 'orders'::regclass union all select a.* from pg_attribute, aclexplode(attacl) a "
        "where attrelid = 'orders'::regclass"
    )
    before = orders.sql(acl)
    orders.sql("select relay.watch('orders')")
    assert orders.value("select relay.unwatch('orders')") is True
    orders.sql("insert into orders values (1)")
    assert orders.story() == []
    assert orders.sql(acl) == before
    assert orders.value("select relay.unwatch('orders')") is False


def test_the_view_tells_what_is_watched_and_how(orders):
    orders.sql("""create table "näm.e" (a int, "B c" text, primary key ("B c", a))""")
    orders.sql(
        """select relay.watch('orders', 'shop.o', '{insert,update}', null, '{seen}', 'total > 1', old => false)"""
    )
    orders.sql("""select relay.watch('"näm.e"', columns => '{a}', always => true)""")
    rows = orders.sql(
        'select tbl::text, topic, ops, key, columns, ignore, "when", old, always, bulk, note '
        "from relay.watched order by tbl::text desc"
    )
    assert rows == [
        ("orders", "shop.o", ["insert", "update"], ["id"], [], ["seen"], "total > 1", False, False, False, None),
        (
            '"näm.e"', "public.näm.e", ["insert", "update", "delete", "truncate"], ["B c", "a"], ["a"], [], None,
            True, True, False, None,
        ),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says", "hints"),
    [
        (
            "'orders', ops => '{insert,updaet}'",
            "'{insert,updaet}' is not a list of insert, update",
            "ops => '{insert,update}'",
        ),
        ("'orders', ops => '{}'", "ops", "{insert,update}"),
        (
            "'orders', columns => '{id,nmae}'",
            "'nmae' is not a column of public.orders",
            "Its columns: id, name, total, seen",
        ),
        ("'orders', columns => '{id,id}'", "'id' is named twice", "Its columns"),
        ("'orders', ignore => '{sen}'", "'sen' is not a column", "seen"),
        ("'orders', ignore => '{seen}', columns => '{id}'", "exclude each other", "columns you want"),
        ("'orders', key => '{nr}'", "'nr' is not a column", "id, name"),
        ("'orders', key => '{}'", "names no column", "primary key"),
        ("'orders', topic => ''", "topic is empty", "routing key"),
        ("'orders', topic => repeat('x', 256)", "longer than 255 bytes", "AMQP"),
        ("'orders', \"when\" => 'totall > 1'", 'column "totall" does not exist', "condition"),
        ("'orders', \"when\" => 'total >'", "syntax error", "condition"),
        ("'orders', \"when\" => 'name'", "boolean", "condition"),
        ("'orders', \"when\" => 'exists (select from pg_class)'", "subquer", "condition"),
        ("'orders', \"when\" => 'count(*) > 1'", "aggregate", "condition"),
        ("'keyless'", "table public.keyless has no primary key", "add primary key (...)"),
        ("'keyless', key => '{j}'", "cannot be part of a key", "equality"),
        ("'v'", "it is a view", "tables"),
        ("'pg_class'", "belongs to relay or to PostgreSQL", "own tables"),
        ("'relay.outbox'", "belongs to relay or to PostgreSQL", "own tables"),
        ("'orders_pkey'", "it is not a table", "tables"),
        ("'temporary'", "temporary", "permanent"),
    ],
)
def test_an_impossible_argument_is_named_with_its_remedy(orders, arguments, says, hints):
    orders.sql("create table keyless (a int, j json); create view v as select 1; create temp table temporary (a int)")
    orders.sql("set search_path = public, pg_temp")
    error = orders.error(f"select relay.watch({arguments})")
    assert says in error.diag.message_primary
    assert hints in (error.diag.message_hint or "")
    assert orders.sql("select * from relay.watched") == []


def test_a_refused_change_leaves_the_old_watch_as_it_was(orders):
    orders.sql("select relay.watch('orders')")
    orders.error("select relay.watch('orders', columns => '{nmae}')")
    orders.sql("insert into orders values (1)")
    assert orders.story() == [("insert", 1)]


def test_rows_that_arrive_by_replication_are_events_only_with_always(orders):
    orders.sql("select relay.watch('orders'); set session_replication_role = replica")
    orders.sql("insert into orders values (1)")
    assert orders.story() == []
    orders.sql("reset session_replication_role; select relay.watch('orders', always => true)")
    orders.sql("set session_replication_role = replica; insert into orders values (2); truncate orders")
    assert orders.story() == [("insert", 2), ("truncate", None)]
    orders.sql("reset session_replication_role; select relay.watch('orders', always => false)")
    orders.sql("set session_replication_role = replica; insert into orders values (3)")
    assert orders.story() == []


def test_upsert_and_copy_are_seen(orders):
    orders.sql("select relay.watch('orders')")
    orders.sql("insert into orders values (1), (2)")
    orders.sql("insert into orders values (2, 'x'), (3, 'x') on conflict (id) do update set name = excluded.name")
    with orders.connection.cursor() as cursor:
        cursor.copy_from(io.StringIO("7\tcopied\t1\t\\N\n"), "orders")
    assert sorted(orders.story()) == [("insert", 1), ("insert", 2), ("insert", 3), ("insert", 7), ("update", 2)]
