"""row_event, usual or not, image_event, boxed_event and bulk_event write the same text for the same change."""

import pytest

COLUMNS = '"a ""b\'" numeric, t timestamptz, f float8, i interval, b bytea, j json, x text, y int default 7'
KEYS = {"one column": '{"a \\"b\'"}', "two columns": '{t,"a \\"b\'"}', "nullable": "{y}"}
STATEMENTS = [
    """insert into {} values (1.10, '2024-05-01 10:00+02', 0.1, '1 mon', '\\xff', '{{"k" : 1.10}}', 'a "b" \\', 1),
        (2.0, 'infinity', 'NaN', '-1 day', '', '[]', '𝄞', 2), (12345678901234567890.5, '-infinity', -0.0, null, null,
        null, null, null)""",
    "update {} set x = 'z', f = f * 3 where x is not null",
    "update {} set x = x",
    "update {} set f = -f, j = '{{}}' where y is null",
    "update {} set y = 10 where y = 1",
    """update {} set t = t + interval '1 s', "a ""b'" = "a ""b'" + 1 where y = 2""",
    "alter table {0} rename t to at; alter table {0} add later text default 'l'; update {0} set x = 'renamed'",
    "alter table {0} drop i; delete from {0} where y is null",
    "delete from {}",
]


def watch(admin, way, key):
    """A table named after the way its events are written."""
    admin.sql(f'create table {way} ({COLUMNS}); create unique index on {way} (t, "a ""b\'")')
    admin.sql(f'create unique index on {way} ("a ""b\'"); create unique index on {way} (y)')
    admin.sql(f"select relay.watch('{way}', key => %s, bulk => %s)", key, way == "bulk")
    if way in ("general", "partition", "boxed"):
        # Options that are not the text {} but say nothing: the usual case does not apply.
        function = "boxed_event(" if way == "boxed" else "image_event("
        replaced = ("'{}'", "'{ }'") if way == "general" else ("row_event(", function)
        for name, definition in admin.sql(
            f"select tgname, pg_get_triggerdef(oid) from pg_trigger where tgrelid = '{way}'::regclass"
        ):
            admin.sql(f'drop trigger "{name}" on {way}')
            admin.sql(definition.replace(*replaced))


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_a_change_has_the_same_text_whichever_way_it_is_written(admin, key):
    told = {}
    for way in ("usual", "general", "partition", "boxed", "bulk"):
        watch(admin, way, key)
        admin.sql("set timezone = 'Asia/Tokyo'; set extra_float_digits = 0; set intervalstyle = 'sql_standard'")
        told[way] = []
        for statement in STATEMENTS:
            admin.sql(statement.format(way))
            rows = admin.sql("select op, replace(key, tbl, ''), body from relay.backlog order by seq")
            admin.sql("delete from relay.outbox")
            told[way].append(sorted((op, key, body.partition('"op":')[2]) for op, key, body in rows))
    assert [len(events) for events in told["usual"]][:4] == [3, 2, 0, 1]
    assert told["general"] == told["usual"]
    assert told["partition"] == told["usual"]
    assert told["boxed"] == told["usual"]
    assert told["bulk"] == told["usual"]


@pytest.mark.parametrize("bulk", [False, True])
def test_no_two_events_have_the_same_id(admin, bulk):
    admin.sql("create table t (id int primary key, v int); select relay.watch('t', bulk => %s)", bulk)
    admin.sql("insert into t select i from generate_series(1, 2000) i; update t set v = 1; delete from t")
    assert admin.sql(
        "select count(*), count(distinct id), bool_and(id::text = body::json ->> 'id'), "
        "count(distinct substring(id::text, 15, 1)) from relay.backlog"
    ) == [(6000, 6000, True, 1)]  # fmt: skip


def test_an_update_told_as_a_delete_by_a_trigger_made_by_hand_needs_options(admin):
    """docs/sql.md, "Triggers by hand": the usual case does not look at the operation in the arguments."""
    admin.sql("create table t (id int primary key, state text)")
    admin.sql("insert into t values (1, 'new')")
    for options, images in (("{}", [True, True]), ('{"filter": "true"}', [True, False])):
        admin.sql("drop trigger if exists gone on t")
        admin.sql(
            "create trigger gone after update on t for each row when (new.state = 'gone') execute function "
            f"relay.row_event('t', 't', 'delete', '{{1}}', '{options}', 'id')"
        )
        admin.sql("update t set state = 'gone'")
        event = admin.events()[-1]
        assert (event["op"], event["key"]) == ("delete", {"id": 1})
        assert [event["old"] is not None, event["new"] is not None] == images
