"""relay.watch(bulk => true): one trigger a statement."""

import pytest

LATER = "create trigger {} after update on {} for each row execute function suppress_redundant_updates_trigger()"


@pytest.fixture
def t(admin):
    admin.sql("create table t (id int, v int, w text, primary key (id) deferrable)")
    admin.sql("select relay.watch('t', bulk => true, ignore => '{w}')")
    return admin


def test_a_statement_writes_the_events_of_all_its_rows(t):
    t.sql("insert into t select i, i from generate_series(1, 3) i; update t set v = v + 1 where id < 3; delete from t")
    events = t.events()
    assert sorted((e["op"], e["key"]["id"]) for e in events[:3]) == [("insert", 1), ("insert", 2), ("insert", 3)]
    assert sorted((e["old"]["v"], e["new"]["v"]) for e in events[3:5]) == [(1, 2), (2, 3)]
    assert {e["op"] for e in events[5:]} == {"delete"}
    assert len({e["id"] for e in events}) == 8
    assert t.value("select count(*) from relay.backlog where id::text = body::json ->> 'id'") == 8
    t.sql("truncate t")
    assert t.story()[-1] == ("truncate", None)


def test_images_are_paired_by_key(t):
    t.sql("insert into t values (1, 10), (2, 20), (3, 30)")
    t.story()
    t.sql("update t set id = id % 2 + 1 where id < 3")
    events = t.events(clear=True)
    assert sorted((e["op"], e["old"]["v"], e["new"]["v"]) for e in events) == [("update", 10, 20), ("update", 20, 10)]
    t.sql("update t set id = id + 1")
    assert sorted(t.story()) == [("delete", 1), ("insert", 4), ("update", 2), ("update", 3)]


def test_an_update_that_changes_nothing_or_ignored_columns_writes_nothing(t):
    t.sql("insert into t values (1, 1), (2, 2); delete from relay.outbox")
    t.sql("update t set w = 'x', v = case id when 1 then v else 5 end")
    assert t.story() == [("update", 2)]
    t.sql("update t set v = v; delete from t where false; update t set v = 1 where false")
    assert t.story() == []


def test_upsert_and_old_false(t):
    t.sql("select relay.watch('t', bulk => true, old => false)")
    t.sql("create unique index on t (id); insert into t values (1, 1); delete from relay.outbox")
    t.sql("alter table t drop constraint t_pkey")
    t.sql("insert into t values (1, 5), (2, 5) on conflict (id) do update set v = excluded.v")
    assert sorted((e["op"], e["key"]["id"], e["old"]) for e in t.events(clear=True)) == [
        ("insert", 2, None), ("update", 1, None),
    ]  # fmt: skip
    t.sql("delete from t where id = 1")
    assert [(e["op"], e["old"]["id"]) for e in t.events()] == [("delete", 1)]


def test_renamed_and_dropped_key_columns_do_not_abort_the_writer(t):
    t.sql("alter table t rename id to nr; insert into t values (1, 1); update t set v = 2")
    assert t.story() == [("insert", 1), ("update", 1)]
    t.sql("alter table t drop nr; update t set v = 3")
    assert t.story() == [("update", None)]


def test_row_and_bulk_watches_can_replace_each_other(t):
    t.sql("select relay.watch('t'); insert into t values (1); select relay.watch('t', bulk => true)")
    t.sql("insert into t values (2)")
    assert t.story() == [("insert", 1), ("insert", 2)]
    assert t.sql("select bulk, note from relay.watched") == [(True, None)]


@pytest.mark.parametrize(
    ("make", "arguments", "says"),
    [
        ("create table x (id int primary key) partition by list (id)", "'x'", "is partitioned"),
        ("create table y (id int primary key) partition by list (id); create table x partition of y for values in (1)",
         "'x'", "is a partition"),
        ("create table y (id int); create table x (primary key (id)) inherits (y)", "'x'", "inherits"),
        ("create table x (id int primary key); create table y () inherits (x)", "'x'", "inherited"),
        ("create table x (id int)", "'x', key => '{id}'", "no unique index on (id)"),
        ("create table x (id int); create unique index on x (id) where id > 0", "'x', key => '{id}'", "no unique"),
        ("create table x (id int primary key); " + LATER.format("later", "x"), "'x'", "trigger later fires"),
        ("create table x (id int primary key, p int references x on delete set null)", "'x'", "a foreign key to it"),
        ("create table x (id int primary key)", "'x', \"when\" => 'id > 1'", '"when"'),
        ("create table x (id int primary key)", "'x', always => true", "always"),
    ],
)  # fmt: skip
def test_bulk_is_refused_where_it_would_lose_or_reorder_events(admin, make, arguments, says):
    admin.sql(make)
    error = admin.error(f"select relay.watch({arguments}, bulk => true)")
    assert says in error.diag.message_primary
    assert "one trigger a row" in error.diag.message_hint


def test_the_view_tells_of_a_trigger_that_came_later(t):
    t.sql(LATER.format("z", "t"))
    assert "order is lost" in t.value("select note from relay.watched")
