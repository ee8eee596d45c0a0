"""The events of a row are in the order of its changes, whatever the application's own triggers do."""

import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def assert_chains(events, rows):
    """Each event of a key begins where the one before it ended, and the last one is what the table has."""
    now = {}
    for event in events:
        key = event["key"]["id"]
        assert now.get(key) == event["old"], f"{event['op']} of {key}: {event['old']} after {now.get(key)}"
        assert (event["op"] == "insert") == (event["old"] is None)
        now[key] = event["new"]
    assert {key: row for key, row in now.items() if row is not None} == rows


def rows_of(admin):
    return {row["id"]: row for (row,) in admin.sql("select row_to_json(t) from t")}


def test_a_trigger_that_updates_its_own_row_comes_after_its_event(admin):
    admin.sql("""
        create table t (id int primary key, v int);
        create function bump() returns trigger language plpgsql as $$ begin
            update t set v = v + 1 where id = new.id and v < 3; return null; end $$;
        create trigger " early" after insert or update on t for each row execute function bump();
        create trigger "#early" after insert or update on t for each row execute function bump();
        drop trigger " early" on t;
        select relay.watch('t');
        insert into t values (1, 0), (2, 2);
    """)
    assert_chains(admin.events(), rows_of(admin))


def test_a_trigger_that_updates_a_later_row_of_the_same_statement(admin):
    admin.sql("""
        create table t (id int primary key, main bool);
        create function one_main() returns trigger language plpgsql as $$ begin
            if new.main then update t set main = false where id <> new.id and main; end if; return null; end $$;
        create trigger one_main after insert or update on t for each row execute function one_main();
        select relay.watch('t');
        insert into t values (1, true), (2, true), (3, true);
        update t set main = true;
    """)
    events = admin.events()
    assert [e["key"]["id"] for e in events if e["op"] == "insert"] == [1, 2, 3]
    assert_chains(events, rows_of(admin))


def test_a_trigger_that_deletes_a_later_row_of_the_same_statement(admin):
    admin.sql("""
        create table t (id int primary key, v int);
        create function alone() returns trigger language plpgsql as $$ begin
            delete from t where id > new.id; return null; end $$;
        create trigger alone after insert on t for each row execute function alone();
        select relay.watch('t'); insert into t values (1, 1), (2, 2), (3, 3);
    """)
    assert admin.story() == [("insert", 1), ("insert", 2), ("delete", 2), ("insert", 3), ("delete", 3)]


def test_a_lock_taken_by_a_trigger_is_not_mistaken_for_a_change(admin):
    """xmax is also set by FOR KEY SHARE, which a foreign key takes."""
    admin.sql("""
        create table t (id int primary key, v int); create table child (t int references t);
        create function locks() returns trigger language plpgsql as $$ begin
            insert into child select id from t where id <> new.id; return null; end $$;
        create trigger locks after insert or update on t for each row execute function locks();
        select relay.watch('t');
        insert into t values (1, 1), (2, 2), (3, 3);
        begin; update t set v = 5; savepoint s; update t set v = 6; commit;
    """)
    events = admin.events()
    assert len(events) == 9
    assert_chains(events, rows_of(admin))


def test_the_order_holds_inside_savepoints_and_exception_blocks(admin):
    admin.sql("""
        create table t (id int primary key, v int);
        create function others() returns trigger language plpgsql as $$ begin
            if pg_trigger_depth() = 1 then
                begin update t set v = v + 1 where id <> new.id; exception when others then raise; end;
            end if; return null; end $$;
        create trigger others after insert or update on t for each row execute function others();
        select relay.watch('t');
        begin; savepoint a; insert into t values (1, 0), (2, 0), (3, 0); savepoint b; update t set v = v * 2 + 1;
        rollback to b; update t set v = 100 + v; release a; commit;
    """)
    assert_chains(admin.events(), rows_of(admin))


def test_a_change_of_the_key_that_comes_late_takes_two_numbers(admin):
    admin.sql("""
        create table t (id int primary key, v int);
        insert into t values (1, 0), (2, 0);
        create function touch() returns trigger language plpgsql as $$ begin
            if pg_trigger_depth() = 1 then update t set v = v + 1 where id <> new.id; end if; return null; end $$;
        create trigger touch after update on t for each row execute function touch();
        select relay.watch('t');
        update t set id = id + 10;
    """)
    story = [(e["op"], e["key"]["id"], (e["new"] or {}).get("v")) for e in admin.events()]
    assert [s for s in story if s[1] in (2, 12)] == [("delete", 2, None), ("insert", 12, 0), ("update", 12, 1)]
    assert [s for s in story if s[1] in (1, 11)] == [("delete", 1, None), ("insert", 11, 0), ("update", 11, 1)]


def test_a_row_that_leaves_the_condition_and_is_brought_back_by_a_nested_change(admin):
    admin.sql("""
        create table t (id int primary key, v int); insert into t values (1, 0), (2, 0);
        create function others() returns trigger language plpgsql as $$ begin
            if pg_trigger_depth() = 1 then update t set v = v + 1 where id <> new.id; end if; return null; end $$;
        create trigger others after update on t for each row execute function others();
        select relay.watch('t', "when" => 'v % 2 = 0');
        update t set v = v + 1;
    """)
    story = [(e["op"], e["key"]["id"], (e["new"] or {}).get("v")) for e in admin.events()]
    assert [s for s in story if s[1] == 2] == [("delete", 2, None), ("insert", 2, 2)]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    effects=st.lists(
        st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.sampled_from(["add", "delete", "lock"])),
        min_size=1,
        max_size=8,
    ),
    statements=st.lists(st.sampled_from(["insert", "add", "delete", "add one", "upsert"]), min_size=1, max_size=5),
    condition=st.sampled_from([None, "v % 2 = 0"]),
)
def test_whatever_nested_triggers_do_the_chain_of_images_never_breaks(admin, effects, statements, condition):
    """effects: at trigger depth d, a change of row a changes, deletes or locks row b."""
    admin.sql("""
        drop table if exists child, t, effect cascade; delete from relay.outbox;
        create table t (id int primary key, v int); create table child (t int references t on delete cascade);
        create table effect (depth int, a int, b int, what text);
        create or replace function act() returns trigger language plpgsql as $$
        declare e record;
        begin
            for e in select * from effect where depth = pg_trigger_depth() and a = coalesce(new.id, old.id) loop
                if e.what = 'add' then update t set v = v + 1 where id = e.b;
                elsif e.what = 'delete' then delete from t where id = e.b;
                else insert into child select id from t where id = e.b; end if;
            end loop;
            return null;
        end $$;
        create trigger act after insert or update or delete on t for each row execute function act();
    """)
    admin.sql('select relay.watch(%s, "when" => %s)', "t", condition)
    for effect in effects:
        admin.sql("insert into effect values (%s, %s, %s, %s)", *effect)
    admin.sql("begin")
    for statement in statements:
        admin.sql(
            {
                "insert": "insert into t select i, 0 from generate_series(1, 4) i on conflict do nothing",
                "add": "update t set v = v + 101",
                "delete": "delete from t where id > 2",
                "add one": "update t set v = v + 1001 where id = 2",
                "upsert": "insert into t values (1, 5), (2, 5), (3, 5) on conflict (id) do update set v = t.v + 9",
            }[statement]
        )
    admin.sql("commit")
    rows = {k: r for k, r in rows_of(admin).items() if condition is None or r["v"] % 2 == 0}
    assert_chains(admin.events(), rows)


def test_an_event_has_its_transaction_id_before_its_number(admin, connect):
    """A reader that meets a hole in seq takes an id of its own and waits for the older ones."""
    admin.sql("create table t (id int primary key); select relay.watch('t')")
    admin.sql("begin; insert into t values (1)")
    other = connect()
    xid = other.value("select pg_current_xact_id()::text::bigint")
    admin.sql("commit")
    owner = admin.value("select xid::text::bigint from relay.outbox")
    assert owner < xid
    assert (
        admin.value(
            "select string_agg(attname, ',' order by attnum) from pg_attribute "
            "where attrelid = 'relay.outbox'::regclass and attnum in (1, 2)"
        )
        == "xid,seq"
    )
    assert admin.value("select seqcache from pg_sequence where seqrelid = 'relay.outbox_seq_seq'::regclass") == 1


@pytest.mark.parametrize("statement", ["update t set v = v + 1 where id = %s", "call moves(%s)"])
def test_concurrent_writers_leave_the_events_of_each_row_in_commit_order(admin, connect, statement):
    admin.sql("""
        create table t (id int primary key, v int); insert into t select i, 0 from generate_series(1, 3) i;
        create procedure moves(r int) language sql as $$
            update t set id = id + 100 where id = r; update t set v = v + 1 where id = r + 100;
            update t set id = id - 100 where id = r + 100 $$;
        select relay.watch('t');
    """)

    def write(session):
        for n in range(60):
            session.sql(statement, n % 3 + 1)

    sessions = [connect() for _ in range(4)]
    threads = [threading.Thread(target=write, args=(session,)) for session in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    now = {i: {"id": i, "v": 0} for i in (1, 2, 3)}
    for event in admin.events():
        key = event["key"]["id"]
        assert now.get(key) == event["old"]
        now[key] = event["new"]
    assert {k: r for k, r in now.items() if r} == rows_of(admin)
