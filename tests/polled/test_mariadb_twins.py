"""A statement on a watched table of MariaDB ends as on the same table unwatched, and the events give the table."""

import json

import pymysql
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

TWINS = ("watched", "plain")
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)  # an example takes a second: shrinking would take minutes

# Types of column "v" with values; the relay must neither fail on them nor write wrong JSON.
TYPES = {
    "int": ["1", "2", "null", "'x'", "99999999999"],
    "varchar(5) collate utf8mb4_general_ci": ["'a'", "'A'", "'a '", "null", "'too long'", "'ü'"],
    "varchar(5) character set utf16": ["'a'", "'𝄞'", "null"],
    "json": ["""'{"a": [1]}'""", "'broken'", "null"],
    "blob": ["x'00ff'", "''", "null"],
    "timestamp null": ["'2024-10-27 02:30:00'", "'2024-02-30 00:00:00'", "'0000-00-00 00:00:00'", "null"],
    "double": ["1e308 * 10", "0.1e0", "null"],
    "enum('a','b')": ["'a'", "'c'", "3", "null"],
    "year": ["0", "2024", "1800", "null"],
    "geometry": ["point(1, 2)", "null"],
    "int unsigned zerofill": ["5", "-1", "null"],
    "mediumtext": ["repeat('x', 700000)", "repeat(char(1), 300000)", "'s'", "null"],
}
SHAPES = {
    "usual": ("id int primary key", ""),
    "counted": ("id int primary key auto_increment", ""),
    "versioned": ("id int primary key", " with system versioning"),
    "parts": ("id int primary key",
              " partition by range (id) (partition a values less than (3), partition b values less than maxvalue)"),
    "text key": ("id varchar(20) collate utf8mb4_general_ci primary key", ""),
    "two": ("id int, k int not null default 0, primary key (id, k)", ""),
}  # fmt: skip
TRIGGERS = {
    "none": [],
    "sets": ["before insert on t for each row set new.n = new.n + 1", "before update on t for each row set new.g = 7"],
    "notes": ["after insert on t for each row insert into other (note) values (new.n)",
              "after update on t for each row insert into other (note) values (old.n)"],
    "raises": ["after insert on t for each row if new.n = 5 then signal sqlstate '45000'; end if",
               "before delete on t for each row if old.n = 2 then signal sqlstate '45000'; end if"],
    "warns": ["after update on t for each row if new.n = 5 then signal sqlstate '01000'; end if"],
}  # fmt: skip
WATCHES = [
    {},
    {"lock_tables": True},
    {"ignore": ("v",)},
    {"when": "n is not null and n < 6"},
    {"columns": ("id", "n", "g", "k")},
]
SESSIONS = [
    "sql_mode = ''",
    "sql_mode = 'TRADITIONAL'",
    "sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH'",
    "sql_mode = 'ORACLE'",
    # not unique_checks = 0: then InnoDB takes two rows of one key into an empty table that is not watched (10.11.19)
    "time_zone = '-03:30', character_set_connection = latin1",
    "autocommit = 1, sql_warnings = 1",
    "transaction isolation level serializable",
    "timestamp = 1",
    "auto_increment_increment = 10, auto_increment_offset = 7",
    "collation_connection = utf8mb4_czech_ci",
]

ids = st.integers(0, 5)
numbers = st.sampled_from(["0", "1", "2", "5", "null"])


@st.composite
def programs(draw, not_there=()):
    """(DDL of both twins, options of watch, statements of the session, transactions: each a list of statements).

    Args:
        not_there: shapes and settings that this server does not know.
    """
    v_type = draw(st.sampled_from(sorted(TYPES)))
    value = st.sampled_from(TYPES[v_type])
    shape = draw(st.sampled_from(sorted(SHAPES.keys() - set(not_there))))
    shape = "usual" if "geometry" in v_type else shape  # no partitions
    key, after = SHAPES[shape]
    unique = "" if shape == "parts" or "geometry" in v_type or not draw(st.booleans()) else ", unique (u)"
    kcol = "" if shape == "two" else ", k int"
    ddl = [
        f"create table t ({key}{kcol}, n int default 0, g int, u int, v {v_type}, w int as (n * 2) virtual{unique})"
        + after,
        "create table other (id int primary key auto_increment, note int)",
    ]
    if shape in {"usual", "counted"} and draw(st.booleans()):
        ddl.append(
            "create table child (c int primary key, t int, foreign key (t) references t (id) on delete restrict)"
        )
    ddl += [f"create trigger own{i} {body}" for i, body in enumerate(TRIGGERS[draw(st.sampled_from(sorted(TRIGGERS)))])]
    row = st.builds("({}, {}, {}, {})".format, ids, numbers, numbers, value)
    rows = st.lists(row, min_size=1, max_size=4).map(", ".join)
    into = "into t (id, n, u, v) values"
    statement = st.one_of(
        st.builds((f"insert {into} {{}}").format, rows),
        st.builds((f"insert ignore {into} {{}}").format, rows),
        st.builds((f"replace {into} {{}}").format, rows),
        st.builds((f"insert {into} {{}} on duplicate key update n = n + 1, v = values(v)").format, rows),
        st.builds("insert into t (n, u, v) values ({}, {}, {})".format, numbers, numbers, value),
        st.builds("insert into t (id, n, u, v) select id + {}, n, null, v from t x where id > {}".format, ids, ids),
        st.builds("update t set n = {}, v = {} where id >= {}".format, numbers, value, ids),
        st.builds("update t set id = {} - id where id <= {}".format, ids, ids),
        st.builds("update t set id = id + {} where id >= {}".format, st.integers(-2, 2), ids),
        st.builds("update t set id = id + 1 order by id desc".format),
        st.builds("update ignore t set id = id + 1, u = {} order by id".format, numbers),
        st.builds("update t, other set t.n = other.note, other.note = {} where t.id = other.id".format, numbers),
        st.builds("update t set n = n where id = {}".format, ids),
        st.builds("delete from t where id >= {}".format, ids),
        st.builds("delete from t order by id limit {}".format, ids),
        st.builds("delete t, other from t join other on t.id = other.id where t.id > {}".format, ids),
        st.builds("insert into child values ({}, {})".format, ids, ids),
        st.sampled_from(["savepoint s", "rollback to s", "select sql_calc_found_rows * from other limit 1"]),
    )
    session = draw(
        st.lists(st.sampled_from([one for one in SESSIONS if one not in not_there]), max_size=3, unique=True)
    )
    transactions = draw(st.lists(st.lists(statement, min_size=1, max_size=6), max_size=5))
    return ddl, draw(st.sampled_from(WATCHES)), session, transactions


def run(session, statement):
    """The number of the error, or what the client and the session see of the statement.

    Of REPLACE they see another count: where a trigger is on DELETE, MariaDB deletes and inserts what it else updates.
    And of INSERT ... SELECT with ids of its own the driver's lastrowid is 0 with any trigger, be it an empty one.
    """
    cursor = session.connection.cursor()
    try:
        cursor.execute(statement)
        rows = cursor.fetchall() if cursor.description else ()
        given = statement.startswith("insert into t (id, n, u, v) select")
        seen = cursor.rowcount, 0 if given else cursor.lastrowid, cursor.warning_count
        if statement.startswith("replace"):
            cursor.execute("select 1")
            return ()
        cursor.execute("select row_count(), found_rows(), last_insert_id(), @@warning_count")
        return seen, rows, cursor.fetchall()
    except pymysql.err.MySQLError as error:
        return error.args[0]


def transaction(session, statements):
    """The outcome of each statement of a transaction, and the table then."""
    outcomes = [run(session, "begin"), run(session, "savepoint s")]
    outcomes += [(statement, run(session, statement)) for statement in statements]
    outcomes.append(("commit", run(session, "commit")))
    return [*outcomes, ("rows", rows(session))]


def rows(session):
    return sorted(session.sql("select *, hex(v) from t"), key=repr)


def told(events):
    """What the events make of table t: {key: (n, g)}."""
    table = {}
    for event in events:
        key = json.dumps(event["key"], sort_keys=True)
        if event["op"] == "delete":
            assert key in table, f"delete of {key}, which was not there"
            del table[key]
        else:
            assert (event["op"] == "update") == (key in table), f"{event['op']} of {key}"
            image = event["new"]
            assert image is not None or event["too_large"]
            table[key] = None if image is None else (image["n"], image["g"])
    return table


def compare(admin, connect, program):
    ddl, options, session, transactions = program
    outcomes = {}
    for twin in TWINS:
        admin.sql(f"drop database if exists {twin}")
        admin.sql(f"create database {twin} character set utf8mb4")
        maker = connect(database=twin)
        for statement in ddl:
            maker.sql(statement)
        if twin == "watched":
            known = {"columns": tuple(c for c in options.get("columns", ()))}
            admin.watch("watched.t", **(options | (known if known["columns"] else {})))
            admin.sql("delete from relay.outbox")
        maker.connection.close()
        writer = connect(database=twin)
        for one in session:
            writer.sql(f"set session {one}")
        writer.sql("select 1")  # found_rows() of a new session is what that of another one was
        outcomes[twin] = [transaction(writer, statements) for statements in transactions]
        writer.connection.close()
    assert outcomes["watched"] == outcomes["plain"]
    said = told(admin.events())
    keys = [column for (column,) in admin.sql(
        "select column_name from information_schema.statistics where table_schema = 'watched' and table_name = 't' "
        "and index_name = 'PRIMARY' order by seq_in_index")]  # fmt: skip
    keys = [key for key in keys if key in {"id", "k"}]
    truth = {
        json.dumps(dict(zip(keys, row[2:], strict=True)), sort_keys=True): row[:2]
        for row in admin.sql(f"select n, g, {', '.join(keys)} from watched.t")
        if "when" not in options or (row[0] is not None and row[0] < 6)
    }
    assert {key: value or truth.get(key) for key, value in said.items()} == truth


@settings(max_examples=15, suppress_health_check=list(HealthCheck), derandomize=True, phases=PHASES)
@given(program=programs())
def test_a_watched_table_and_its_twin_end_alike(admin, connect, small_packets, program):
    compare(admin, connect, program)


@pytest.mark.long
@pytest.mark.timeout(7200)
@settings(max_examples=1500, suppress_health_check=list(HealthCheck), phases=PHASES)
@given(program=programs())
def test_a_watched_table_and_its_twin_end_alike_at_length(admin, connect, small_packets, program):
    compare(admin, connect, program)


def test_a_seq_that_the_session_forces_is_no_error_and_loses_nothing(admin, connect):
    admin.sql("create table t (id int primary key)")
    admin.watch("t")
    admin.sql("insert into t values (1), (2)")
    writer = connect()
    taken = admin.value("select max(seq) from relay.outbox")
    writer.sql(f"set insert_id = {taken}")
    writer.sql("insert into t values (3), (4)")
    assert writer.sql("show warnings") == []
    assert [(e["op"], e["key"]["id"]) for e in admin.events()] == [("insert", i) for i in (1, 2, 3, 4)]


def test_a_dump_that_is_loaded_holds_up_nobody_elses_writes(admin, connect):
    """With both checks off InnoDB's bulk insert would lock the empty outbox until the commit."""
    admin.sql("create table t (id int primary key)")
    admin.sql("create table u (id int primary key)")
    for table in "tu":
        admin.watch(table)
    admin.sql("truncate relay.outbox")
    loader, other = connect(), connect()
    loader.sql("set unique_checks = 0, foreign_key_checks = 0")
    loader.sql("begin")
    loader.sql("insert into t values (1), (2)")
    other.sql("set innodb_lock_wait_timeout = 1")
    other.sql("insert into u values (1)")
    loader.sql("commit")
    assert admin.value("select count(*) from relay.outbox") == 3


@pytest.mark.parametrize("lock_tables", [False, True])
def test_lock_tables_needs_its_option(admin, connect, lock_tables):
    """docs/sources.md: a fault of MariaDB's, which any two triggers of a table have that write to the same one."""
    admin.sql("create table t (id int primary key)")
    admin.sql("create table u (id int primary key)")
    for table in "tu":
        admin.watch(table, lock_tables=lock_tables)
    admin.sql("select * from relay.outbox")  # as the listener does
    holder, other = connect(), connect()
    holder.sql("lock tables t write")
    if not lock_tables:
        assert holder.error("insert into t values (1)") == 1442
        return
    holder.sql("insert into t values (1)")
    holder.sql("update t set id = 2")
    holder.sql("delete from t")
    other.sql("set lock_wait_timeout = 1, innodb_lock_wait_timeout = 1")
    other.sql("insert into u values (1)")  # nobody else is held up
    holder.sql("unlock tables")
    assert [(e["table"], e["op"], e["key"]["id"]) for e in admin.events()] == [
        ("shop.t", "insert", 1), ("shop.t", "delete", 1), ("shop.t", "insert", 2), ("shop.t", "delete", 2),
        ("shop.u", "insert", 1),
    ]  # fmt: skip
    assert admin.notes() == [None, None]


def test_a_bulk_insert_holds_up_nobody_elses_writes(admin, connect):
    """insert ... select takes the AUTO_INCREMENT lock of its own table, and none of the outbox's."""
    admin.sql("create table t (id int primary key)")
    admin.sql("create table u (id int primary key)")
    for table in "tu":
        admin.watch(table)
    loader, other = connect(), connect()
    loader.sql("begin")
    loader.sql("insert into t select seq from seq_1_to_1000")
    other.sql("set innodb_lock_wait_timeout = 1")
    other.sql("insert into u values (1)")
    loader.sql("rollback")
    assert [event["table"] for event in admin.events()] == ["shop.u"]


def test_load_data_is_captured(admin, mariadb, tmp_path):
    admin.sql("create table t (id int primary key, name varchar(20))")
    admin.watch("t")
    file = tmp_path / "rows"
    file.write_text("1\ta\n2\tb\n1\tc\n")
    file.chmod(0o644)
    script = tmp_path / "load.sql"
    script.write_text(f"load data local infile '{file}' replace into table shop.t;")
    mariadb.client(script, "--local-infile=1")
    assert admin.story() == [("insert", 1), ("insert", 2), ("delete", 1), ("insert", 1)]
