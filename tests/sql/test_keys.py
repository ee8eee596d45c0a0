"""Changes of the key: delete and insert, and no delete for a key that belongs to another row now."""

import itertools

import pytest


def replay(events):
    """What a consumer has, that keeps one row a key."""
    rows = {}
    for event in events:
        key = tuple(event["key"].items())
        if event["op"] == "delete":
            rows.pop(key, None)
        else:
            rows[key] = event["new"]
    return rows


def table(admin, columns):
    rows = admin.sql(f"select row_to_json(t) as row, {columns} from t")
    return {tuple(zip(columns.split(", "), row[1:], strict=True)): row[0] for row in rows}


@pytest.mark.parametrize("columns", ["id int primary key, v int", "v int, id int primary key"])
def test_a_changed_key_is_a_delete_and_an_insert(admin, columns):
    admin.sql(f"create table t ({columns}); select relay.watch('t'); insert into t (id, v) values (1, 5)")
    admin.sql("update t set id = 7, v = 6")
    _, delete, insert = admin.events()
    assert (delete["op"], delete["key"], delete["old"], delete["new"]) == ("delete", {"id": 1}, {"id": 1, "v": 5}, None)
    assert (insert["op"], insert["key"], insert["old"], insert["new"]) == ("insert", {"id": 7}, None, {"id": 7, "v": 6})
    assert delete["id"] != insert["id"]


def test_after_a_swap_there_is_no_delete(admin):
    admin.sql("create table t (id int, v int, primary key (id) deferrable); select relay.watch('t')")
    admin.sql("insert into t values (1, 10), (2, 20)")
    admin.story()
    admin.sql("update t set id = 3 - id")
    assert sorted(admin.story()) == [("insert", 1), ("insert", 2)]


@pytest.mark.parametrize("step", [1, -1])
def test_after_a_shift_only_the_key_that_is_gone_is_deleted(admin, step):
    admin.sql("create table t (id int, v int, primary key (id) deferrable); select relay.watch('t')")
    admin.sql("insert into t select i, i from generate_series(1, 5) i")
    admin.story()
    admin.sql("update t set id = id + %s", step)
    story = admin.story()
    assert [key for op, key in story if op == "delete"] == [1 if step > 0 else 5]
    assert len(story) == 6


def test_a_key_given_up_and_taken_in_two_statements_of_one_transaction(admin):
    admin.sql(
        "create table t (id int primary key, v int); select relay.watch('t'); insert into t values (1, 1), (2, 2)"
    )
    admin.story()
    admin.sql("begin; update t set id = 3 where id = 1; update t set id = 1 where id = 2; commit")
    assert admin.story() == [("delete", 1), ("insert", 3), ("delete", 2), ("insert", 1)]


def test_keys_that_are_equal_but_not_the_same_are_different_keys(admin):
    admin.sql("create table t (n numeric primary key, v int); select relay.watch('t'); insert into t values (1.0, 1)")
    admin.story()
    admin.sql("update t set n = 1.00")
    assert [(op, str(key)) for op, key in admin.story()] == [("delete", "1.0"), ("insert", "1.00")]


def test_the_old_key_is_a_delete_if_its_new_owner_is_outside_the_condition(admin):
    admin.sql("create table t (id int, open bool, primary key (id) deferrable)")
    admin.sql("""select relay.watch('t', "when" => 'open'); insert into t values (1, true), (2, true)""")
    assert admin.story() == [("insert", 1), ("insert", 2)]
    admin.sql("update t set id = 3 - id, open = id = 2")  # 1 leaves the condition and becomes 2; 2 becomes 1
    assert replay(admin.events()) == {(("id", 1),): {"id": 1, "open": True}}
    assert ("delete", 2) in admin.story()


def test_every_permutation_of_keys_ends_in_the_same_rows(admin):
    admin.sql("create table t (id int, open bool, v int, primary key (id) deferrable)")
    for condition in (None, "open"):
        admin.sql('select relay.watch(%s, "when" => %s)', "t", condition)
        for new_ids in itertools.permutations((1, 2, 3, 4), 3):
            for closed in (0, 1, 2, 3):
                admin.sql("truncate t; delete from relay.outbox")
                admin.sql("insert into t select i, true, i * 10 from generate_series(1, 3) i")
                admin.sql("update t set id = (%s::int[])[id], open = id <> %s", list(new_ids), closed)
                kept = {k: r for k, r in table(admin, "id").items() if condition is None or r["open"]}
                assert replay(admin.events()) == kept, (condition, new_ids, closed)


def test_the_old_key_is_found_with_the_types_own_equality(admin):
    admin.sql("create extension citext; create schema other; create type other.mood as enum ('a', 'b')")
    admin.sql("create domain dom as citext; create table t (c citext, d dom, e other.mood, a int[], "
              "primary key (c, d, e, a) deferrable)")  # fmt: skip
    admin.sql("select relay.watch('t'); insert into t values ('x', 'y', 'a', '{1}'), ('z', 'y', 'b', '{2}')")
    admin.story()
    admin.sql("update t set c = o.c, e = o.e, a = o.a from t o where o.c <> t.c")
    assert [op for op, _ in admin.story()] == ["insert", "insert"]


def test_a_watch_without_the_grant_on_the_key_still_lets_the_writer_write(admin):
    admin.sql("create table t (id int primary key); select relay.watch('t'); insert into t values (1)")
    admin.sql("revoke select on t from relay_trigger; update t set id = 2")
    assert admin.story() == [("insert", 1), ("delete", 1), ("insert", 2)]


def test_row_level_security_does_not_hide_the_new_owner_of_a_key(admin):
    admin.sql("create table t (id int, primary key (id) deferrable); alter table t enable row level security")
    admin.sql("create policy p on t to public using (id < 0); select relay.watch('t'); insert into t values (1), (2)")
    admin.story()
    admin.sql("set row_security = off; update t set id = 3 - id")
    assert sorted(admin.story()) == [("insert", 1), ("insert", 2)]
    admin.sql("reset row_security; select relay.unwatch('t')")
    assert admin.sql("select polname from pg_policy where polrelid = 't'::regclass") == [("p",)]


ODD_KEYS = [
    "a",
    "a,b",
    ",",
    ":x,y",
    'a"b',
    'a",b',
    "a\\,b",
    "\\",
    "{",
    "[1,2]",
    "{1,2}",
    "x}",
    "ä𝄞",
    "",
    "null",
    'a":"b',
    '","',
    "\n,",
]


def test_a_key_is_the_same_wherever_its_column_stands(admin):
    """Before the first comma of the row's JSON, if it is the first: but not if the value holds one."""
    told = {}
    for name, columns in (("first", "id text primary key, v int"), ("second", "v int, id text primary key")):
        admin.sql(f"create table {name} ({columns}); select relay.watch('{name}')")
        for key in ODD_KEYS:
            admin.sql(f"insert into {name} (id, v) values (%s, 1)", key)
            admin.sql(f"update {name} set v = 2; update {name} set id = id || '9', v = 3")
            admin.sql(
                f"alter table {name} rename id to nr; update {name} set v = 4; alter table {name} rename nr to id"
            )
            admin.sql(f"delete from {name}")
        names = admin.sql("select distinct substring(key from '{\"(\\w+)\"') from relay.outbox")
        assert names == [("id",)], "the key keeps its name"
        told[name] = admin.story()
    assert told["first"] == told["second"]
    assert told["first"] == [
        event
        for key in ODD_KEYS
        for event in [("insert", key), ("update", key), ("delete", key), ("insert", key + "9"), ("update", key + "9"),
                      ("delete", key + "9")]
    ]  # fmt: skip


def test_a_number_as_the_first_column_s_key_keeps_its_digits(admin):
    admin.sql("create table t (id numeric, v int); select relay.watch('t', key => '{id}')")
    admin.sql("insert into t values (1.50, 1), ('NaN', 1), (-2, 1), (null, 1); update t set v = 2")
    keys = ["1.50", '"NaN"', "-2", "null"]
    assert [key for (key,) in admin.sql("select key from relay.outbox order by seq")] == [
        f'public.t {{"id":{key}}}' for key in keys * 2
    ]
