"""What watch does on MariaDB, what it refuses, and what it notices later."""

import threading

import pytest

from relay.errors import NotFound, RelayError, Unavailable
from relay.listening.polled.capture.mariadb import drift, watch

ORDERS = "create table orders (id int primary key, total decimal(10,2), name varchar(100), state varchar(20))"


def test_each_change_of_a_row_is_an_event_in_the_writers_transaction(admin, app):
    admin.sql(ORDERS)
    admin.watch("orders")
    app.sql("insert into orders values (1, 1.50, 'a', 'new'), (2, 2, 'b', null)")
    app.sql("update orders set total = 3 where id = 2")
    app.sql("delete from orders where id = 1")
    app.sql("begin")
    app.sql("delete from orders")
    app.sql("rollback")
    events = admin.events()
    assert [(e["op"], e["key"]) for e in events] == [
        ("insert", {"id": 1}), ("insert", {"id": 2}), ("update", {"id": 2}), ("delete", {"id": 1}),
    ]  # fmt: skip
    assert {(e["topic"], e["table"]) for e in events} == {("shop.orders", "shop.orders")}
    assert events[2]["old"] == {"id": 2, "total": 2, "name": "b", "state": None}
    assert str(events[2]["new"]["total"]) == "3.00"
    assert (events[0]["old"], events[3]["new"]) == (None, None)


def test_the_application_has_no_right_on_the_outbox(admin, app):
    admin.sql(ORDERS)
    admin.watch("orders")
    app.sql("insert into orders (id) values (1)")
    assert app.error("select * from relay.outbox") == 1142
    assert app.error("insert into relay.outbox (topic, op) values ('a', 'b')") == 1142


def test_an_update_that_changes_nothing_writes_no_event_and_one_of_case_alone_does(admin):
    admin.sql("create table t (id int primary key, name varchar(20) collate utf8mb4_general_ci, f double)")
    admin.watch("t")
    admin.sql("insert into t values (1, 'a', 0e0)")
    admin.story()
    admin.sql("update t set name = 'a'")
    assert admin.story() == []
    for change in ("name = 'A'", "name = 'A '", "name = null", "f = null"):
        admin.sql(f"update t set {change}")
        assert admin.story() == [("update", 1)], change


def test_a_change_of_the_key_is_a_delete_and_an_insert(admin):
    admin.sql("create table t (id varchar(10) collate utf8mb4_general_ci primary key, n int)")
    admin.watch("t")
    admin.sql("insert into t values ('a', 1)")
    admin.sql("update t set id = 'A'")
    admin.sql("update t set id = 'b', n = 2")
    assert admin.story() == [("insert", "a"), ("delete", "a"), ("insert", "A"), ("delete", "A"), ("insert", "b")]


def test_replace_and_on_duplicate_key_are_told_as_what_they_do(admin):
    admin.sql("create table t (id int primary key, u int unique, n int)")
    admin.watch("t")
    admin.sql("insert into t values (1, 1, 0), (2, 2, 0)")
    admin.events()
    admin.sql("replace into t values (1, 2, 5)")
    assert sorted(admin.story()[:2]) == [("delete", 1), ("delete", 2)]
    admin.sql("insert into t values (1, 7, 0) on duplicate key update n = n + 1")
    admin.sql("insert ignore into t values (1, 9, 9)")
    assert admin.story() == [("update", 1)]


def test_update_ignore_tells_nothing_of_the_rows_that_it_left_alone(admin):
    """MariaDB fires the trigger for them, too."""
    admin.sql("create table p (id int primary key)")
    admin.sql("create table t (id varchar(9) collate utf8mb4_general_ci primary key, u int unique, p int, n int, "
              "foreign key (p) references p (id))")  # fmt: skip
    admin.watch("t")
    admin.sql("insert into p values (1)")
    admin.sql("insert into t values ('a', 1, 1, 0), ('b', 2, 1, 0)")
    admin.story()
    for change in ("id = 'b'", "u = 2", "p = 7", "id = 'B', n = 5", "u = 2, n = 5"):
        admin.sql(f"update ignore t set {change} where id = 'a'")
        assert admin.story() == [], change
    admin.sql("update ignore t set id = 'A' where id = 'a'")
    admin.sql("update ignore t set u = 9")
    assert admin.story() == [("delete", "a"), ("insert", "A"), ("update", "A")]


def test_options_choose_columns_topic_and_key(admin):
    admin.sql(ORDERS)
    admin.watch("orders", columns=("id", "total"), topic="o", key=("id", "name"))
    admin.sql("insert into orders values (1, 1, 'x', 'new')")
    admin.sql("update orders set state = 'sent'")
    (event,) = admin.events()
    assert (event["topic"], event["key"], event["new"].keys()) == ("o", {"id": 1, "name": "x"}, {"id", "total"})
    admin.watch("orders", ignore=("state",))
    admin.sql("update orders set state = 'back'")
    admin.sql("update orders set total = 5")
    (event,) = admin.events()
    assert event["new"].keys() == {"id", "total", "name"}


def test_a_row_enters_and_leaves_the_condition(admin):
    admin.sql(ORDERS)
    admin.watch("orders", when="total > 10 and `state` <> 'draft'")
    admin.sql("insert into orders values (1, 5, 'a', 'new'), (2, 50, 'b', 'new'), (3, 50, 'c', null)")
    assert admin.story() == [("insert", 2)]
    admin.sql("update orders set total = total + 10")
    assert admin.story() == [("insert", 1), ("update", 2)]
    admin.sql("update orders set state = 'draft' where id = 1")
    admin.sql("update orders set id = 9 where id = 2")
    admin.sql("delete from orders")
    assert admin.story() == [("delete", 1), ("delete", 2), ("insert", 9), ("delete", 9)]


def test_a_condition_that_fails_for_a_row_counts_as_false_and_the_writer_goes_on(admin):
    admin.sql("create table t (id int unsigned primary key, n bigint unsigned)")
    admin.watch("t", when="n - 5 < 9223372036854775807 and id - 10 > 0")
    admin.sql("insert into t values (1, 1), (20, 7)")
    assert admin.story() == [("insert", 20)]


@pytest.mark.parametrize(
    ("when", "said"),
    [
        ("exists (select 1 from t)", "can't have"),
        ("n = (SELECT 1)", "can't have"),
        ("t.n = 1", "with a dot"),
        ("n = 1; drop table t", "can't have ;"),
        ("n = @x", "can't have @"),
        ("nothing = 1", "does not understand"),
        ("n = 'it''s", "does not understand"),
        ("n = ", "does not understand"),
        ("mine(n)", "stored function"),
        ("`x` = 1", "no column"),
        ("1) or (1", "bracket"),
        ("(n = 1", "bracket"),
    ],
)
def test_a_condition_that_is_none_is_refused(admin, when, said):
    admin.sql("create table t (id int primary key, n int)")
    admin.sql("create function mine(x int) returns int return 1")
    with pytest.raises(RelayError, match=said):
        admin.watch("t", when=when)
    assert admin.sql("show triggers") == []


@pytest.mark.parametrize(
    ("ddl", "said", "way_out"),
    [
        ("create table t (id int)", "no primary key", "--key"),
        ("create table t (id int primary key) engine = MyISAM", "MyISAM", "engine = InnoDB"),
        ("create table t (id int primary key, p int, foreign key (p) references p (id) on delete cascade)", "child",
         "--without-cascades"),
        ("create table t (id int primary key, p int, foreign key (p) references p (id) on update set null)", "child",
         "--without-cascades"),
    ],
)  # fmt: skip
def test_what_would_lose_events_is_refused_with_the_way_out(admin, ddl, said, way_out):
    admin.sql("create table p (id int primary key)")
    admin.sql(ddl)
    with pytest.raises(RelayError, match=said) as raised:
        admin.watch("t")
    assert way_out in raised.value.remedy
    assert admin.sql("show triggers") == []


def test_a_foreign_key_that_restricts_is_fine_and_cascades_can_be_renounced(admin):
    admin.sql("create table p (id int primary key)")
    admin.sql("create table t (id int primary key, p int comment ' FOREIGN KEY ON DELETE CASCADE', "
              "foreign key (p) references p (id) on delete restrict)")  # fmt: skip
    admin.watch("t")
    admin.sql("create table u (id int primary key, p int, foreign key (p) references p (id) on delete cascade)")
    admin.watch("u", without_cascades=True)
    assert admin.notes() == [None, None]


def test_a_statement_binlog_is_refused(admin):
    admin.sql(ORDERS)
    admin.sql("set global binlog_format = 'STATEMENT'")
    try:
        if admin.value("select @@global.log_bin"):
            with pytest.raises(RelayError, match="STATEMENT"):
                admin.watch("orders")
        else:
            admin.watch("orders")
    finally:
        admin.sql("set global binlog_format = 'MIXED'")


@pytest.mark.parametrize("name", ["nothing", "v"])
def test_what_is_no_table_is_told(admin, name):
    admin.sql("create view v as select 1 as id")
    with pytest.raises(NotFound, match=r"no table|not there"):
        admin.watch(name)


def test_columns_that_are_not_there_are_told(admin):
    admin.sql(ORDERS)
    for option in ("columns", "ignore", "key"):
        with pytest.raises(NotFound, match=f"no column none, which --{option}"):
            admin.watch("orders", **{option: ("none",)})


@pytest.mark.parametrize(
    "name", ["or.ders", "or`ders", "it's", 'say "x"', "größe", "select", "a b", "per%cent", "back\\slash", "x" * 64]
)
def test_odd_names_of_tables_and_columns(admin, listener, name):
    quoted = name.replace("`", "``")
    admin.sql(f"create table `{quoted}` (`{quoted}` int primary key, `new` int, `was_in` int, `op` int, `n` int)")
    schema_table = [("shop", name)]
    for schema, table in schema_table:
        watch.carry_out(admin.cursor, lambda s=schema, t=table: watch.plan(admin.cursor, s, t, watch.Options()))
    admin.sql(f"insert into `{quoted}` values (1, 2, 3, 4, 5)")
    (event,) = admin.events()
    assert (event["table"], event["key"]) == (f"shop.{name}", {name: 1})
    assert event["new"] == {name: 1, "new": 2, "was_in": 3, "op": 4, "n": 5}
    assert [one.note for one in drift.watched(listener.cursor)] == [None]


def test_names_that_differ_in_case_alone_are_two_tables(admin):
    if admin.value("select @@lower_case_table_names"):
        pytest.skip("they are one table on this server")
    for name in ("orders", "Orders"):
        admin.sql(f"create table {name} (id int primary key)")
        admin.watch(name)
        admin.sql(f"insert into {name} values (1)")
    assert [e["table"] for e in admin.events()] == ["shop.orders", "shop.Orders"]
    assert admin.notes() == [None, None]


def test_names_that_are_alike_for_forty_letters_are_two_tables(admin):
    for end in "ab":
        admin.sql(f"create table {'x' * 50}{end} (id int primary key)")
        admin.watch("x" * 50 + end)
    assert admin.notes() == [None, None]


def test_unwatch_ends_it_and_twice_is_told(admin):
    admin.sql(ORDERS)
    admin.watch("orders")
    admin.unwatch("orders")
    admin.sql("insert into orders (id) values (1)")
    assert admin.events() == []
    assert admin.notes() == []
    with pytest.raises(NotFound, match="not watched"):
        admin.unwatch("orders")


def test_a_table_that_is_gone_can_be_unwatched(admin):
    admin.sql(ORDERS)
    admin.watch("orders")
    admin.sql("drop table orders")
    assert admin.notes() == ["shop.orders is not there, or this user may not see it"]
    admin.unwatch("orders")
    assert admin.notes() == []


@pytest.mark.parametrize(
    ("ddl", "note"),
    [
        ("alter table orders add note text", "column note is not in its events"),
        ("alter table orders drop name", "name column name, which is gone: every write to it fails"),
        ("alter table orders rename column name to title", "name column name, which is gone"),
        ("alter table orders modify name blob", "not the one that watch would make now"),
        ("alter table orders drop primary key", "no primary key"),
        ("alter table orders engine = Aria", "of engine Aria"),
        ("alter table orders add p int, add foreign key (p) references p (id) on delete cascade", "a child of"),
        ("drop trigger relay_update_orders", "trigger on UPDATE is missing"),
        ("rename table orders to old_orders", "it is called shop.old_orders now"),
        ("create or replace trigger relay_insert_orders after insert on orders for each row begin end",
         "name|not in its events|not the one"),
        ("alter table orders comment 'x', add index (name)", None),
    ],
)  # fmt: skip
def test_what_changes_a_table_is_noticed_by_the_listener_and_mended_by_the_remedy(admin, listener, ddl, note):
    admin.sql(ORDERS)
    admin.sql("create table p (id int primary key)")
    admin.watch("orders", topic="o")
    assert admin.notes() == [None]
    admin.sql(ddl)
    (found,) = drift.watched(listener.cursor)
    if note is None:
        assert found.note is None
        return
    import re

    assert re.search(note, found.note or "")
    assert found.remedy
    if found.remedy.startswith("listen.py watch"):
        assert found.remedy == "listen.py watch shop.orders --topic o"
        admin.watch("orders", topic="o")
        assert admin.notes() == [None]
        admin.sql("insert into orders (id) values (1)")


def test_a_renamed_table_is_written_to_without_an_error(admin, app):
    admin.sql(ORDERS)
    admin.watch("orders")
    admin.sql("rename table orders to old_orders")
    app.sql("insert into old_orders (id) values (1)")
    assert [e["table"] for e in admin.events()] == ["shop.orders"]


def test_the_ddl_that_the_documentation_shows_loses_nothing(admin, connect):
    """docs/sources.md: lock, alter, watch's triggers, unlock, in one session."""
    admin.sql(ORDERS)
    admin.watch("orders")
    admin.sql("lock tables orders write, relay.watched write")
    admin.sql("alter table orders add note text")
    for statement in watch.plan(admin.cursor, "shop", "orders", watch.Options()).locked:
        admin.sql(statement)
    admin.sql("unlock tables")
    admin.sql("insert into orders (id, note) values (1, 'x')")
    assert admin.events()[0]["new"]["note"] == "x"
    assert admin.notes() == [None]


def test_watch_does_not_hold_the_application_up_for_long(admin, connect, monkeypatch):
    monkeypatch.setattr(watch, "PATIENCE", 2.0)
    admin.sql(ORDERS)
    other = connect()
    other.sql("begin")
    other.sql("insert into orders (id) values (1)")
    with pytest.raises(Unavailable, match=r"connection .* of root"):
        admin.watch("orders")
    ended = threading.Timer(0.7, lambda: other.sql("commit"))
    ended.start()
    admin.watch("orders")
    ended.join()


def test_print_sql_can_be_run_by_the_client(admin, mariadb, tmp_path):
    admin.sql("create table `o``r` (id int primary key, `n ame` text, b blob)")
    script = tmp_path / "watch.sql"
    script.write_text(watch.plan(admin.cursor, "shop", "o`r", watch.Options(topic="ä\\o", when="id > 0")).script())
    mariadb.client(script)
    admin.sql("insert into `o``r` values (1, 'x', 'y')")
    assert admin.events()[0]["topic"] == "ä\\o"
    assert admin.notes() == [None]


def test_install_again_keeps_everything(admin, mariadb):
    from dev.mariadb import INSTALL_SQL

    admin.sql(ORDERS)
    admin.watch("orders")
    admin.sql("insert into orders (id) values (1)")
    before = admin.sql("select * from relay.listener")
    assert "1 tables are watched, 1 events wait" in mariadb.client(INSTALL_SQL)
    assert admin.sql("select * from relay.listener") == before
    assert admin.story() == [("insert", 1)]


def test_keys_that_ignore_case_are_named(admin, listener):
    admin.sql("create table t (id varchar(9) collate utf8mb4_general_ci primary key)")
    admin.sql("create table u (id varchar(9) collate utf8mb4_bin primary key, n varchar(9) collate utf8mb4_general_ci)")
    for table in "tu":
        admin.watch(table)
    assert drift.loose_keys(listener.cursor) == ["shop.t.id"]


def test_uninstall_refuses_while_it_would_harm_and_leaves_nothing(admin, mariadb, tmp_path):
    from dev.mariadb import INSTALL_SQL
    from dev.process import ServerError

    script = INSTALL_SQL.with_name("uninstall.sql")
    admin.sql(ORDERS)
    admin.watch("orders")
    admin.sql("insert into orders (id) values (1)")
    with pytest.raises(ServerError, match="tables are watched"):
        mariadb.client(script)
    admin.unwatch("orders")
    with pytest.raises(ServerError, match="events wait"):
        mariadb.client(script)
    forced = tmp_path / "forced.sql"
    forced.write_text("set @relay_force = 1;\n" + script.read_text())
    mariadb.client(forced)
    assert admin.sql("show databases like 'relay'") == []
    assert admin.sql("select user from mysql.global_priv where user like 'relay%'") == []
    mariadb.client(INSTALL_SQL)
