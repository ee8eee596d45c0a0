"""relay.resend_chunk and relay.resend_row: existing rows as events."""

import json
import threading

import psycopg2
import pytest


@pytest.fixture
def t(admin):
    admin.sql("create table t (a text, id int, v int, primary key (a, id))")
    admin.sql("insert into t select case i % 2 when 0 then 'even' else 'odd' end, i, 0 from generate_series(1, 25) i")
    admin.sql("select relay.watch('t', topic => 'x')")
    return admin


def resend(session, table="t", most=4, where=None, after=None):
    """All chunks; (copied, skipped)."""
    copied, skipped = 0, []
    while True:
        row = session.sql("select * from relay.resend_chunk(%s, %s, %s, %s)", table, after, most, where)[0]
        copied += row[0]
        skipped += row[2]
        if row[1] is None:
            return copied, skipped
        after = json.dumps(row[1])


def test_all_rows_become_snapshots_in_key_order(t):
    assert resend(t) == (25, [])
    events = t.events()
    assert {(e["op"], e["table"]) for e in events} == {("snapshot", "public.t")}
    keys = [(e["key"]["a"], e["key"]["id"]) for e in events]
    assert keys == sorted(keys)
    assert len(set(keys)) == 25
    assert events[0]["new"] == {"a": "even", "id": 2, "v": 0}
    assert events[0]["old"] is None
    assert t.value("select string_agg(distinct topic, '') from relay.outbox") == "x"
    assert t.value("select key from relay.outbox order by seq limit 1") == 'public.t {"a":"even","id":2}'


def test_it_resumes_after_a_key_and_takes_a_condition(t):
    assert resend(t, after='{"a": "odd", "id": 19}') == (3, [])
    assert resend(t, where="id > 20 and a = 'even'") == (2, [])
    assert resend(t, where="false") == (0, [])


@pytest.mark.parametrize("where", ["id >", "", "nosuch > 1", "nosuch(id)", "v = 1", "$2 > 1", "id"])
def test_what_is_no_condition_is_an_error_without_rows_as_well(t, where):
    t.sql("""select relay.watch('t', columns => '{a,id}', "when" => 'id > 25')""")
    for rows in (25, 0):  # none of which the watch's condition lets pass
        with pytest.raises(psycopg2.Error) as raised:
            resend(t, where=where)
        assert raised.value.pgcode[:2] == "42", rows
        t.sql("delete from t")
        t.sql("truncate relay.outbox")


def test_a_condition_that_fails_on_a_row_of_nulls_is_one(t):
    assert resend(t, where="coalesce(id::text, 'x')::int > 20") == (5, [])


@pytest.mark.parametrize("after", ['{"a": "odd"}', '{"id": 1}', '{"a": "odd", "id": null}', "[1]", "7", "null", "{}"])
def test_what_is_not_a_key_of_the_table_is_refused_not_taken_for_its_end(t, after):
    with pytest.raises(psycopg2.errors.InvalidParameterValue, match=r"is not a key of public\.t") as raised:
        resend(t, after=after)
    assert '{"a":...,"id":...}' in str(raised.value.diag.message_hint)


def test_the_columns_and_the_condition_of_the_watch_hold(t):
    t.sql("""select relay.watch('t', columns => '{a,id}', "when" => 'id <= 3')""")
    assert resend(t, most=1000) == (3, [])
    assert t.events()[0]["new"] == {"a": "even", "id": 2}


def test_rows_that_others_have_locked_are_skipped_and_told(t, connect):
    other = connect()
    other.sql(
        "begin; update t set v = 1 where id in (2, 3); delete from t where id = 4; insert into t values ('odd', 99)"
    )
    copied, skipped = resend(t)
    assert (copied, sorted(key["id"] for key in skipped)) == (22, [2, 3, 4])
    other.sql("commit")
    assert [t.value("select relay.resend_row('t', %s, null)", json.dumps(k)) for k in skipped] == [1, 0, 1]
    snapshots = {e["key"]["id"]: e["new"]["v"] for e in t.events() if e["op"] == "snapshot"}
    assert len(snapshots) == 24
    assert (snapshots[2], snapshots[3]) == (1, 1)


def test_a_snapshot_never_lands_behind_a_newer_change(t, connect):
    """The last event of each row, in order of seq, must be what the table has."""
    stop = threading.Event()

    def write(session, number):
        n = 0
        while not stop.is_set():
            n += 1
            session.sql("update t set v = v + 1 where id = %s", (n * 7 + number) % 25 + 1)

    threads = [threading.Thread(target=write, args=(connect(), number)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            _, skipped = resend(t, most=5)
            for key in skipped:
                t.sql("select relay.resend_row('t', %s, null)", json.dumps(key))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    now = {}
    for event in t.events():
        if event["key"]["id"] in now and event["op"] == "snapshot":
            assert now[event["key"]["id"]] == event["new"]["v"], "a snapshot is the state after the last change"
        now[event["key"]["id"]] = event["new"]["v"]
    assert now == dict(t.sql("select id, v from t"))


def test_the_row_stays_locked_until_the_snapshot_commits(t, connect):
    t.sql("begin")
    t.sql("select * from relay.resend_chunk('t', null, 3, null)")
    other = connect()
    other.sql("set lock_timeout = '50ms'")
    assert other.error("update t set v = 9 where a = 'even' and id = 2").pgcode == "55P03"
    other.sql("update t set v = 9 where a = 'odd' and id = 1")
    t.sql("commit")


def test_equal_keys_of_a_custom_key_stay_together(admin):
    admin.sql("create table t (k int, v int); insert into t select i / 3, i from generate_series(0, 8) i")
    admin.sql("select relay.watch('t', key => '{k}')")
    assert resend(admin, most=2) == (9, [])


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("numeric", ["-1.50", "2", "10.10"]), ("uuid", [f"0000000{n}-0000-0000-0000-000000000000" for n in "129"]),
        ("timestamptz", ["-infinity", "2024-01-01 00:00:00.000001+00", "infinity"]),
        ("bytea", ["\\x00", "\\x61", "\\xff"]),
        ("citext", ["a", "B", "c"]), ("mood", ["z", "a", "m"]), ("int[]", ["{1}", "{1,2}", "{2}"]),
        ("varchar(9)", ["a'b", 'c"d', "é𝄞"]), ("float8", ["-Infinity", "0.1", "NaN"]),
        ("cidr", ["10.0.0.0/8", "10.0.0.1/32", "::/0"]),
    ],
)  # fmt: skip
def test_any_type_of_key_can_be_resumed_from(admin, kind, values):
    admin.sql("create extension citext; create type mood as enum ('z', 'a', 'm')")
    admin.sql(f"create table t (k {kind}, n int, primary key (k, n)); select relay.watch('t', ops => '{{update}}')")
    for value in values:
        admin.sql("insert into t values (%s, 1), (%s, 2)", value, value)
    admin.sql("set timezone = 'Asia/Tokyo'; set extra_float_digits = -10; set bytea_output = 'escape'")
    assert resend(admin, most=1) == (6, [])
    assert admin.value("select count(distinct key) from relay.outbox") == 6


def test_columns_named_like_the_query_s_own_words(admin):
    words = ("t", "k", "r", "i", "n", "key", "image", "was", "now", "e")
    admin.sql("create table t (" + ", ".join(f"{word} int default 1" for word in words) + ", primary key (t, k, r))")
    admin.sql("insert into t default values; select relay.watch('t', \"when\" => 't = k')")
    assert resend(admin) == (1, [])
    admin.sql("select relay.watch('t', bulk => true); update t set k = 2; delete from t")
    assert [e["op"] for e in admin.events()] == ["snapshot", "delete", "insert", "delete"]
    assert admin.events()[0]["new"] == dict.fromkeys(words, 1)


def test_partitioned_tables_and_tables_that_are_inherited_from(admin):
    admin.sql("""
        create table m (id int primary key) partition by range (id);
        create table m1 partition of m for values from (0) to (10);
        create table m2 partition of m for values from (10) to (20);
        insert into m select generate_series(0, 19);
        create table base (id int primary key); create table child () inherits (base);
        insert into base values (1); insert into child values (2);
        select relay.watch('m'), relay.watch('base');
    """)
    assert resend(admin, "m", 7) == (20, [])
    assert resend(admin, "base", 7) == (1, [])


def test_it_reads_with_what_relay_watch_has_granted_and_prints_the_grant_that_is_missing(t, database):
    listener = database.listener()
    t.sql("revoke all on t from relay_trigger")
    with listener.cursor() as cursor:
        with pytest.raises(psycopg2.Error, match=r"may not read and lock the rows of public.t") as raised:
            cursor.execute("select * from relay.resend_chunk('t', null, 10, null)")
        for grant in raised.value.diag.message_hint.removeprefix("As its owner: ").rstrip(";").split("; "):
            t.sql(grant)
        cursor.execute("select * from relay.resend_chunk('t', null, 10, null)")
        assert cursor.fetchone()[0] == 10
        t.sql("create table secret (x int)")
        with pytest.raises(psycopg2.Error, match="permission denied"):
            cursor.execute("select * from relay.resend_chunk('t', null, 10, 'exists (select from public.secret)')")


def test_a_table_that_is_not_watched_or_was_changed_is_refused_with_the_remedy(t):
    t.sql("create table u (id int primary key)")
    assert (
        "relay.watch('public.u')" in t.error("select * from relay.resend_chunk('u', null, 1, null)").diag.message_hint
    )
    t.sql("alter table t rename id to nr")
    error = t.error("select relay.resend_row('t', '{}', null)")
    assert "relay.watch('public.t'" in error.diag.message_hint
