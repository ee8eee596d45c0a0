"""relay.present_rows and relay.watched_table: rows as they are now, for who asks the listener; events for one queue."""

import json

import psycopg2
import pytest

LARGEST = 262144


@pytest.fixture
def t(admin):
    admin.sql("create table t (a text, id int, v int, secret text, primary key (a, id))")
    admin.sql("insert into t select case i % 2 when 0 then 'even' else 'odd' end, i, i from generate_series(1, 25) i")
    admin.sql("select relay.watch('t', topic => 'x')")
    return admin


def present(session, *keys, table="t", largest=LARGEST):
    """The images by number of the key, parsed."""
    texts = [key if isinstance(key, str) else json.dumps(key) for key in keys]
    query = "select nth, images from relay.present_rows(%s::regclass, %s, %s)"
    ((nth, images),) = session.sql(query, table, texts, largest)
    return {n: image and json.loads(image) for n, image in zip(nth or [], images or [], strict=True)}


def test_rows_are_found_by_their_keys_and_what_is_not_there_is_left_out(t):
    keys = {"a": "odd", "id": 3}, {"a": "odd", "id": 4}, {"id": 2, "a": "even"}
    found = present(t, *keys)
    assert found == {
        1: {"a": "odd", "id": 3, "v": 3, "secret": None}, 3: {"a": "even", "id": 2, "v": 2, "secret": None}
    }  # fmt: skip
    assert present(t) == {}


def test_the_columns_and_the_condition_of_the_watch_hold(t):
    t.sql("""select relay.watch('t', columns => '{a,id,v}', "when" => 'id <= 3')""")
    found = present(t, {"a": "odd", "id": 3}, {"a": "odd", "id": 5})
    assert found == {1: {"a": "odd", "id": 3, "v": 3}}
    t.sql("select relay.watch('t', ignore => '{secret}')")
    assert present(t, {"a": "odd", "id": 5}) == {1: {"a": "odd", "id": 5, "v": 5}}


def test_a_condition_that_fails_is_an_error(t):
    t.sql("""select relay.watch('t', "when" => '1 / (id - 3) > -1')""")
    assert t.error("select relay.present_rows('t', %s, 1000)", ['{"a": "odd", "id": 3}']).pgcode == "22012"


@pytest.mark.parametrize(
    "key", ['{"a": "odd"}', '{"a": "odd", "id": null}', "[1]", "7", "null", "{}", "x", "{", "'; drop table t; --",
            '{"a": "odd", "id": "1; drop table t"}', '{"a": "odd", "id": 1e99}'],
)  # fmt: skip
def test_what_is_no_key_is_an_error_of_its_value(t, key):
    with pytest.raises((psycopg2.errors.DataError, psycopg2.errors.InvalidParameterValue)):
        present(t, key)


def test_a_value_never_becomes_sql(t):
    assert present(t, {"a": "odd' or true --", "id": 1}, {"a": "%s %I $1", "id": 1}, {"a": "\\", "id": 1}) == {}


def test_columns_named_like_the_query_s_own_words(admin):
    words = ("t", "q", "r", "k", "asked", "nth", "image", "whole", '"a%sb"', '"$1"')
    admin.sql("create table t (" + ", ".join(f"{word} int default 1" for word in words) + ", primary key (t, q, r))")
    admin.sql("insert into t default values; select relay.watch('t')")
    row = dict.fromkeys((word.strip('"') for word in words), 1)
    assert present(admin, {"t": 1, "q": 1, "r": 1}) == {1: row}
    admin.sql("select relay.watch('t', \"when\" => 't = k', key => '{t,\"a%sb\",q}')")
    assert present(admin, {"t": 1, "q": 1, "a%sb": 1}) == {1: row}


@pytest.mark.parametrize(
    ("kind", "value"),
    [("numeric", "1.50"), ("uuid", "00000001-0000-0000-0000-000000000000"), ("timestamptz", "infinity"),
     ("bytea", "\\x61"), ("citext", "B"), ("mood", "a"), ("int[]", "{1,2}"), ("varchar(9)", "a'b"), ("float8", "NaN"),
     ("cidr", "10.0.0.1/32"), ("net", "10.0.0.0/8"), ("cidr[]", "{10.0.0.0/8}")],
)  # fmt: skip
def test_any_type_of_key(admin, kind, value):
    admin.sql("create extension citext; create type mood as enum ('z', 'a', 'm'); create domain net as cidr")
    admin.sql(f"create table t (k {kind} primary key, n int); select relay.watch('t')")
    admin.sql("insert into t values (%s, 7)", value)
    admin.sql("select relay.resend_chunk('t', null, 10, null)")
    key = admin.value("select substr(key, length(tbl) + 2) from relay.outbox where op = 'snapshot'")
    assert present(admin, key)[1]["n"] == 7


def test_an_index_is_used(t):
    t.sql("insert into t select 'more', i from generate_series(1, 50000) i; analyze t")
    t.sql("select pg_stat_reset()")
    before = t.value("select seq_tup_read from pg_stat_user_tables where relname = 't'")
    t.sql("begin")
    for number in range(20):
        present(t, *({"a": "more", "id": number * 40 + n} for n in range(40)))
    read = t.value("select seq_tup_read from pg_stat_xact_user_tables where relname = 't'")
    t.sql("commit")
    assert read - before == 0


def test_a_larger_row_is_not_given(t):
    t.sql("update t set secret = repeat('x', 400000) where id = 1")
    assert present(t, {"a": "odd", "id": 1}, {"a": "odd", "id": 3}, largest=1000)[1] is None
    assert len(present(t, {"a": "odd", "id": 1}, largest=500_000)[1]["secret"]) == 400_000


def test_partitioned_tables(admin):
    admin.sql("""
        create table m (id int primary key) partition by range (id);
        create table m1 partition of m for values from (0) to (10);
        create table m2 partition of m for values from (10) to (20);
        insert into m select generate_series(0, 19); select relay.watch('m');
    """)
    assert present(admin, {"id": 3}, {"id": 13}, {"id": 23}, table="m") == {1: {"id": 3}, 2: {"id": 13}}


def test_no_row_is_locked_and_none_waited_for(t, connect):
    other = connect()
    other.sql("begin; update t set v = 99 where id = 3")
    t.sql("begin")
    assert present(t, {"a": "odd", "id": 3})[1]["v"] == 3
    other.sql("update t set v = 98 where id = 3; commit")
    t.sql("commit")
    assert present(t, {"a": "odd", "id": 3})[1]["v"] == 98


def test_only_a_watched_table_has_a_name_here(t):
    t.sql('create table u (id int primary key); create schema "a.b"; create table "a.b".c (id int primary key)')
    t.sql("""create schema a; create table a."b.c" (id int primary key); select relay.watch('"a.b".c')""")
    names = ("public.t", "public.u", "t", "pg_catalog.pg_authid", "relay.outbox", "", ".", "a.b.c", "x" * 500, "." * 90)
    there = {"public.t": "t", "a.b.c": '"a.b".c'}
    for name in names:
        if name in there:
            assert t.value("select relay.watched_table(%s)::text", name) == there[name]
        else:
            assert "no tables named '" in str(t.error("select relay.watched_table(%s)", name))
    t.sql("""select relay.watch('a."b.c"')""")
    assert "2 tables named 'a.b.c' are watched" in str(t.error("select relay.watched_table('a.b.c')"))


def test_of_a_table_that_is_not_watched_nothing_is_read(t, database):
    listener = database.listener()
    t.sql("create table u (id int primary key)")
    with listener.cursor() as cursor, pytest.raises(psycopg2.Error, match="is not watched"):
        cursor.execute("select relay.present_rows('u', '{}', 1)")
    with listener.cursor() as cursor:
        query = "select relay.present_rows(relay.watched_table('public.t'), %s, 1000)"
        cursor.execute(query, (['{"a":"odd","id":1}'],))
        assert "odd" in cursor.fetchone()[0]
        with pytest.raises(psycopg2.Error, match="permission denied"):
            cursor.execute("select relay.read_present('t', '{a,id}', '{a,id}', '{}', null, '{}')")


def test_a_snapshot_can_be_for_one_queue(t):
    t.sql("select relay.resend_chunk('t', null, 10, null, 'odoo')")
    t.sql("select relay.resend_row('t', '{\"a\": \"odd\", \"id\": 1}', null, 'odoo')")
    t.sql('select relay.resend_row(\'t\', \'{"a": "odd", "id": 1}\', null)')
    assert t.sql("select queue, count(*) from relay.backlog group by 1 order by 1") == [("odoo", 11), (None, 1)]
    assert t.sql("select topic, events, queue from relay.pending order by queue") == [("x", 11, "odoo"), ("x", 1, None)]


@pytest.mark.parametrize("queue", ["", "amq.rabbitmq.reply-to.g2", "x" * 256, "ä" * 128])
def test_what_can_be_no_queue_of_ours_is_refused(t, queue):
    error = t.error("select relay.resend_chunk('t', null, 10, null, %s)", queue)
    assert (error.pgcode, "can be no queue of ours" in str(error)) == ("22023", True)
    assert t.value("select count(*) from relay.outbox") == 0
