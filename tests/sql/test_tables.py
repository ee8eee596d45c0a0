"""Kinds of tables, and tables that change after they are watched."""

import pytest


@pytest.fixture
def parted(admin):
    admin.sql("""
        create table m (id int, region text, v int, primary key (id, region)) partition by list (region);
        create table m_north partition of m for values in ('n');
        create table m_south (v int, region text not null, id int not null);
        alter table m attach partition m_south for values in ('s');
        select relay.watch('m');
    """)
    return admin


def test_events_of_a_partition_carry_the_root_also_when_written_directly(parted):
    parted.sql("insert into m values (1, 'n', 0); insert into m_north values (2, 'n', 0)")
    parted.sql("insert into m_south values (0, 's', 3); update m_south set v = 1; delete from m_north where id = 1")
    assert parted.sql("select distinct topic, tbl from relay.outbox") == [("public.m", "public.m")]
    events = parted.events()
    assert [(e["table"], e["op"], e["key"]["id"]) for e in events] == [
        ("public.m", "insert", 1), ("public.m", "insert", 2), ("public.m", "insert", 3), ("public.m", "update", 3),
        ("public.m", "delete", 1),
    ]  # fmt: skip
    assert parted.sql("select key from relay.outbox where op = 'update'") == [('public.m {"id":3,"region":"s"}',)]


def test_a_partition_attached_later_is_watched_and_a_detached_one_is_not(parted):
    parted.sql("create table m_west (like m); alter table m attach partition m_west for values in ('w')")
    parted.sql("create table m_east partition of m for values in ('e') partition by range (id)")
    parted.sql("create table m_east_1 partition of m_east for values from (1) to (100)")
    parted.sql(
        "insert into m_west values (1, 'w', 0); insert into m values (2, 'e', 0); insert into m_east_1 values (3, 'e')"
    )
    assert parted.sql("select count(*), count(distinct tbl) from relay.outbox") == [(3, 1)]
    parted.sql("alter table m detach partition m_west; insert into m_west values (4, 'w', 0)")
    assert parted.value("select count(*) from relay.outbox") == 3


def test_a_row_that_moves_to_another_partition_is_a_delete_and_an_insert(parted):
    parted.sql("insert into m values (1, 'n', 0); update m set region = 's'")
    assert [(e["op"], e["key"]["region"]) for e in parted.events()] == [
        ("insert", "n"),
        ("delete", "n"),
        ("insert", "s"),
    ]


def test_truncating_a_partitioned_table_is_one_event(parted):
    parted.sql("truncate m")
    assert parted.story() == [("truncate", None)]


def test_a_partitioned_watch_can_be_changed_and_removed(parted):
    parted.sql("""select relay.watch('m', 'x', old => false, "when" => 'v > 1', always => true)""")
    parted.sql("insert into m_south values (2, 's', 1), (1, 's', 2); update m_south set v = 5")
    assert parted.sql("select topic, op from relay.outbox order by op") == [
        ("x", "insert"),
        ("x", "insert"),
        ("x", "update"),
    ]
    parted.sql("set session_replication_role = replica; insert into m_north values (9, 'n', 9)")
    assert parted.value("select count(*) from relay.outbox") == 4
    parted.sql("reset session_replication_role; select relay.unwatch('m'); insert into m_south values (3, 's', 3)")
    assert parted.value("select count(*) from relay.outbox") == 4
    assert parted.sql("select tgname from pg_trigger where tgname like '!relay%'") == []


def test_a_swap_of_keys_in_a_partition_with_columns_in_another_order(admin):
    admin.sql("""
        create table m (id int, region text, v int) partition by list (region);
        create table m_south (v int, region text, id int);
        alter table m attach partition m_south for values in ('s');
        select relay.watch('m', key => '{id}'); insert into m values (1, 's', 10), (2, 's', 20);
    """)
    admin.story()
    admin.sql("update m set id = 3 - id")
    assert sorted(admin.story()) == [("insert", 1), ("insert", 2)]


def test_a_partition_of_a_watched_table_cannot_be_watched_twice(parted):
    error = parted.error("select relay.watch('m_north')")
    assert "is a partition of public.m, which is watched" in error.diag.message_primary
    assert "relay.watch('public.m')" in error.diag.message_hint


def test_a_table_that_inherits_is_a_table_of_its_own_and_a_notice_says_so(admin):
    admin.sql("create table base (id int primary key); create table child (primary key (id)) inherits (base)")
    admin.sql("select relay.watch('base')")
    assert any("child" in notice and "relay.watch('public.child')" in notice for notice in admin.notices)
    admin.sql("insert into child values (1); update base set id = 2")
    assert admin.story() == []
    admin.sql("select relay.watch('child'); update base set id = 3")
    assert admin.sql("select tbl, op from relay.outbox order by seq") == [
        ("public.child", "delete"),
        ("public.child", "insert"),
    ]


def test_names_with_quotes_dots_spaces_and_other_alphabets(admin):
    table, column = '"sché.ma"."T ""a"".b\'c"', '"ключ {""\\ %"'
    admin.sql('create schema "sché.ma"')
    admin.sql(f'create table {table} ({column} int, "x:y,z" text, primary key ({column}, "x:y,z"))')
    admin.sql("select relay.watch(%s)", table)
    admin.sql(f"insert into {table} values (1, 'a'); update {table} set {column} = 2")
    topic, tbl, key = admin.sql("select topic, tbl, key from relay.outbox order by seq")[0]
    assert topic == tbl == 'sché.ma.T "a".b\'c'
    assert key == tbl + ' {"ключ {\\"\\\\ %":1,"x:y,z":"a"}'
    events = admin.events()
    assert [e["op"] for e in events] == ["insert", "delete", "insert"]
    assert events[0]["table"] == tbl
    assert events[0]["new"] == events[0]["key"] == {'ключ {"\\ %': 1, "x:y,z": "a"}
    assert admin.value("select relay.unwatch(%s)", table) is True


def test_columns_named_like_the_function_s_own_words(admin):
    words = ("key", "was", "now", "op", "xid", "event", "at", "old", "new", "later", "topic", "body", "tg_op", "select")
    admin.sql("create table t (id int primary key, " + ", ".join(f'"{word}" int default 1' for word in words) + ")")
    admin.sql("""select relay.watch('t', key => '{key,now,id}', "when" => '"old" + "new" > 0 and "select" > 0')""")
    admin.sql('insert into t (id) values (1); update t set "key" = 2, "old" = 3')
    assert [(e["op"], e["key"]["key"]) for e in admin.events()] == [("insert", 1), ("delete", 1), ("insert", 2)]


def test_a_key_of_32_columns(admin):
    columns = [f"k{i}" for i in range(32)]
    admin.sql(
        "create table t (" + ", ".join(f"{c} int default 7" for c in columns) + f", primary key ({','.join(columns)}))"
    )
    admin.sql("select relay.watch('t'); insert into t default values; update t set k31 = 8")
    assert [e["op"] for e in admin.events()] == ["insert", "delete", "insert"]
    assert admin.events()[2]["key"] == dict.fromkeys(columns, 7) | {"k31": 8}


def test_generated_columns_are_in_the_event_as_stored(admin):
    admin.sql("create table t (id int primary key, n int, twice int generated always as (n * 2) stored)")
    admin.sql("select relay.watch('t', columns => '{twice}'); insert into t values (1, 4); update t set n = 5")
    assert [(e["old"], e["new"]) for e in admin.events()] == [(None, {"twice": 8}), ({"twice": 8}, {"twice": 10})]


def test_virtual_generated_columns_are_left_out_instead_of_null(admin):
    if admin.connection.server_version < 180000:
        assert "virtual" not in str(admin.error("create table t (n int, v int generated always as (n * 2))"))
        return
    admin.sql("create table t (id int primary key, n int, v int generated always as (n * 2) virtual)")
    admin.sql("select relay.watch('t'); insert into t values (1, 4); update t set n = 5")
    assert [e["new"] for e in admin.events()] == [{"id": 1, "n": 4}, {"id": 1, "n": 5}]
    assert "virtual generated column" in admin.error("select relay.watch('t', columns => '{v}')").diag.message_primary


def test_columns_added_later_are_in_the_event_and_dropped_ones_are_not(admin):
    admin.sql(
        "create table t (gone int, id int primary key, v int); select relay.watch('t'); insert into t values (1, 2, 3)"
    )
    admin.sql("alter table t drop gone; alter table t add late text default 'x'; update t set v = 4")
    update = admin.events()[-1]
    assert (update["old"], update["new"]) == ({"id": 2, "v": 3, "late": "x"}, {"id": 2, "v": 4, "late": "x"})
    admin.sql("delete from relay.outbox; update t set late = 'y'")
    assert admin.story() == [("update", 2)]


def test_an_ignored_column_added_to_a_list_stays_ignored_when_columns_come_and_go(admin):
    admin.sql("create table t (id int primary key, secret text, v int); select relay.watch('t', ignore => '{secret}')")
    admin.sql(
        "alter table t add late int; insert into t values (1, 's', 2, 3); alter table t rename secret to password"
    )
    admin.sql("update t set v = 3; update t set password = 'other'; alter table t drop password; update t set v = 4")
    events = admin.events()
    assert [e["op"] for e in events] == ["insert", "update", "update"]
    assert [e["new"] for e in events] == [{"id": 1, "v": v, "late": 3} for v in (2, 3, 4)]


def test_a_chosen_column_that_is_renamed_stays_in_the_event(admin):
    admin.sql("create table t (id int primary key, v int, w int); select relay.watch('t', columns => '{id,v}')")
    admin.sql("alter table t rename v to value; insert into t values (1, 2, 3)")
    assert admin.events()[0]["new"] == {"id": 1, "value": 2}


def test_renaming_or_dropping_a_key_column_never_aborts_the_writer(admin):
    admin.sql("create table t (id int, b int, v int, primary key (id, b)); select relay.watch('t')")
    admin.sql("create table s (x int, id int primary key, v int); select relay.watch('s')")
    admin.sql("insert into t values (1, 2, 3); insert into s values (0, 1, 2)")
    for name in ("t", "s"):
        admin.sql(f"alter table {name} rename id to nr; update {name} set v = 9; update {name} set nr = 5")
    assert admin.sql("select op, key from relay.outbox where tbl = 'public.t' order by seq") == [
        ("insert", 'public.t {"id":1,"b":2}'),
        ("update", 'public.t {"id":1,"b":2}'),
        ("delete", 'public.t {"id":1,"b":2}'),
        ("insert", 'public.t {"id":5,"b":2}'),
    ], "the key keeps its name, so that the order of the row's events outlives the RENAME"
    assert [key for (key,) in admin.sql("select key from relay.outbox where tbl = 'public.s' order by seq")] == [
        f'public.s {{"id":{i}}}' for i in (1, 1, 1, 5)
    ]
    assert admin.sql("select note from relay.watched") == [("a key column was renamed or dropped",)] * 2
    admin.sql("alter table s drop nr; update s set v = 10; delete from s")
    assert admin.value("select key from relay.outbox order by seq desc limit 1") == 'public.s {"id":null}'


def test_a_renamed_column_in_the_condition_keeps_its_meaning(admin):
    admin.sql("""create table t (id int primary key, v int); select relay.watch('t', "when" => 'v > 5')""")
    admin.sql("alter table t rename v to w; insert into t values (1, 6), (2, 5); update t set id = 7 where id = 1")
    assert admin.story() == [("insert", 1), ("delete", 1), ("insert", 7)]


def test_a_renamed_table_keeps_its_name_in_events_and_the_view_says_so(admin):
    admin.sql("create table t (id int primary key); select relay.watch('t'); alter table t rename to u")
    admin.sql("insert into u values (1)")
    assert admin.value("select topic || ' ' || tbl from relay.outbox") == "public.t public.t"
    assert admin.sql("select tbl::text, note from relay.watched") == [("u", "events still name it public.t")]


def test_a_change_of_a_column_s_type_is_followed(admin):
    admin.sql("create table t (id int primary key, v int); select relay.watch('t'); insert into t values (1, 5)")
    admin.sql(
        "alter table t alter v type text using v || '!', alter id type numeric(9,2); insert into t values (2, 'x')"
    )
    admin.sql("update t set id = 3 where id = 2")
    assert (
        admin.value("select body::json ->> 'new' from relay.backlog order by seq desc limit 1") == '{"id":3.00,"v":"x"}'
    )
    assert [op for op, _ in admin.story()] == ["insert", "insert", "delete", "insert"]


def test_a_foreign_key_cascade_is_seen_after_the_row_that_caused_it(admin):
    admin.sql("""
        create table a (id int primary key); create table b (id int primary key, a int references a on delete cascade);
        select relay.watch('a'); select relay.watch('b'); insert into a values (1); insert into b values (5, 1), (6, 1);
        delete from relay.outbox; delete from a
    """)
    assert admin.sql("select tbl, op from relay.outbox order by seq") == [
        ("public.a", "delete"), ("public.b", "delete"), ("public.b", "delete"),
    ]  # fmt: skip


def test_unlogged_tables_and_tables_in_other_schemas_are_seen(admin):
    admin.sql("create schema x; create unlogged table x.t (id int primary key); select relay.watch('x.t')")
    admin.sql("insert into x.t values (1)")
    assert admin.value("select topic from relay.outbox") == "x.t"


def test_ddl_and_truncate_work_in_the_transaction_of_the_change(admin):
    """A deferred trigger would make them fail with 'pending trigger events'."""
    admin.sql("create table t (id int primary key, v int); select relay.watch('t')")
    admin.sql("begin; insert into t values (1, 1); alter table t add w int; update t set w = 1; truncate t; commit")
    assert admin.story() == [("insert", 1), ("update", 1), ("truncate", None)]
