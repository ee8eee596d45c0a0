"""Every value goes through exactly, whatever the writer's session is set to."""

import json
from decimal import Decimal

import pytest

HOSTILE = """
set extra_float_digits = -15; set intervalstyle = 'sql_standard'; set datestyle = 'SQL, DMY';
set bytea_output = 'escape'; set timezone = 'America/St_Johns'; set plpgsql.extra_errors = 'all';
set plpgsql.extra_warnings = 'all'; set transform_null_equals = on; set search_path = pg_temp;
"""

TYPES = """
create type mood as enum ('glad', 'so "so"', 'täub');
create type address as (street text, no int, since timestamptz);
create domain positive as numeric check (value > 0);
"""

VALUES = [
    ("numeric", "1234567890123456789012345678901234567890.1234567890"),
    ("numeric", "0.1000000000000000000000000000000000000000000000000001"),
    ("numeric(10,4)", "1.5000"),
    ("numeric", "NaN"),
    ("numeric", "1e+300"),
    ("bigint", "9223372036854775807"),
    ("bigint", "-9223372036854775808"),
    ("float8", "1.7976931348623157e+308"),
    ("float8", "5e-324"),
    ("float8", "0.1"),
    ("float8", "0.30000000000000004"),
    ("float8", "-0"),
    ("float8", "NaN"),
    ("float8", "-Infinity"),
    ("float4", "3.4028235e+38"),
    ("float4", "0.1"),
    ("timestamptz", "2024-02-29 23:59:59.999999+05:45"),
    ("timestamptz", "infinity"),
    ("timestamptz", "-infinity"),
    ("timestamptz", "0044-03-15 12:00:00+00 BC"),
    ("timestamptz", "294276-12-31 23:59:59.999999+00"),
    ("timestamp", "0001-01-01 00:00:00 BC"),
    ("timestamp", "2024-10-27 02:30:00.000001"),
    ("date", "4713-01-01 BC"),
    ("date", "infinity"),
    ("time", "24:00:00"),
    ("timetz", "12:00:00.5-03:30"),
    ("interval", "-1 year 2 mons -3 days +04:05:06.000007"),
    ("interval", "178000000 years"),
    ("bytea", "\\x00ff5c27220a"),
    ("text", "  \t\n\\ \" ' \x01 \x7f é 中 𝄞 🏳️‍🌈 \U0010ffff \u2028 "),
    ("text", ""),
    ("char(5)", "ab"),
    ("json", '{"b" : 123456789012345678901234567890.10, "a":1e400, "a": "\\ud834\\udd1e"  , "z":[]}'),
    ("jsonb", '{"n": 0.10000000000000000000000000000000000001, "big": 12300000000000000000, "s": "𝄞\U0010ffff"}'),
    ("int[]", "{{{1,NULL},{3,4}},{{5,6},{7,8}}}"),
    ("text[]", '{"a,b","NULL",NULL,"{}"}'),
    ("timestamptz[]", '{"2024-01-02 03:04:05+00",infinity}'),
    ("float8[]", "{0.1,NaN}"),
    ("bytea[]", '{"\\\\x00ff"}'),
    ("interval[]", '{"1 mon -1 days"}'),
    ("int4range", "[1,5)"),
    ("tstzrange", '["2024-05-01 10:00:00+02",infinity)'),
    ("daterange", "empty"),
    ("mood", 'so "so"'),
    ("mood[]", '{glad,"täub"}'),
    ("positive", "1.10"),
    ("address", '("12, Main ""St""",5,"2024-01-02 03:04:05+00")'),
    ("address[]", '{"(a,1,)"}'),
    ("uuid", "00000000-0000-4000-8000-00000000ffff"),
    ("inet", "2001:db8::1/64"),
    ("cidr", "10.0.0.0/8"),
    ("macaddr", "08:00:2b:01:02:03"),
    ("bit varying", "1011"),
    ("boolean", "true"),
    ("point", "(0.1,1e+300)"),
    ("tsvector", "'a':1 'b c':2A"),
    ("regclass", "pg_class"),
    ("oid", "4294967295"),
    ('"char"', "x"),
    ("name", "näme"),
    ("pg_lsn", "16/B374D848"),
]


@pytest.mark.parametrize("hostile", [False, True], ids=["usual session", "hostile session"])
@pytest.mark.parametrize("op", ["insert", "update", "delete", "bulk", "snapshot"])
def test_every_value_comes_through_bit_by_bit(admin, hostile, op):
    columns = ", ".join(f"c{i} {kind}" for i, (kind, _) in enumerate(VALUES))
    admin.sql(f"{TYPES} create table v (id int primary key, {columns}); create table plain (like v)")
    row = [value for _, value in VALUES]
    admin.sql("insert into v values (1" + ", %s" * len(row) + ")", *row)
    admin.sql(f"select relay.watch('v', bulk => {op == 'bulk'})")
    if hostile:
        admin.sql(HOSTILE)
    admin.sql(
        {
            "insert": "update public.v set id = 2",
            "update": "update public.v set c30 = 'changed'",
            "delete": "delete from public.v",
            "bulk": "insert into public.v select 2, {} from public.v".format(
                ", ".join(f"c{i}" for i in range(len(VALUES)))
            ),
            "snapshot": "select * from relay.resend_chunk('public.v', null, 10, null)",
        }[op]
    )
    body = admin.sql("select body from relay.backlog order by seq desc limit 1")[0][0]
    image = "old" if op in ("update", "delete") else "new"
    admin.sql("reset all")
    # Read back by PostgreSQL, each value has the image it had: the same bits, not merely "equal".
    wrong = admin.sql(
        f"""
        with written (r) as (select json_populate_record(null::plain, %s::json -> %s))
        select {", ".join(f"(r).c{i}::text" for i in range(len(VALUES)))} from written
        """,
        body, image,
    )[0]  # fmt: skip
    truth = admin.sql(
        "select " + ", ".join(f"(%s::text::{kind})::text" for kind, _ in VALUES),
        *row,
    )[0]
    differing = [
        (kind, expected, got) for (kind, _), expected, got in zip(VALUES, truth, wrong, strict=True) if expected != got
    ]
    assert differing == []


@pytest.mark.parametrize("hostile", [False, True], ids=["usual session", "hostile session"])
def test_the_text_of_the_event_is_what_the_documentation_says(admin, hostile):
    admin.sql(
        "create table v (id int primary key, t timestamptz, d date, b bytea, n numeric, f float8, i interval, j json, "
        "a numeric[], x text); select relay.watch('v')"
    )
    if hostile:
        admin.sql(HOSTILE)
    admin.sql(
        """insert into public.v values (1, '2024-05-01 10:00:00+05:45', '2024-05-01', '\\x00ff',
        123456789012345678901234567890.50, 'NaN', '1 day 02:03:04.5', '{"k":1.10, "k":2}', '{1.0,NULL}', null)"""
    )
    body = admin.value("select body from relay.backlog")
    assert body.split('"new":')[1] == (
        '{"id":1,"t":"2024-05-01T04:15:00+00:00","d":"2024-05-01","b":"\\\\x00ff","n":123456789012345678901234567890.50,'
        '"f":"NaN","i":"1 day 02:03:04.5","j":{"k":1.10, "k":2},"a":[1.0,null],"x":null}}'
    )


def test_a_row_of_nulls_and_a_row_of_a_megabyte_come_through(admin):
    admin.sql("create table v (id int primary key, a text, b bytea, j jsonb); select relay.watch('v')")
    text, binary = '\U0001d11e\\"\n' * 100_000, bytes(range(256)) * 4096
    admin.sql("insert into v values (1, null, null, null), (2, %s, %s, %s)", text, binary, json.dumps({"t": text}))
    nulls, large = admin.events()
    assert nulls["new"] == {"id": 1, "a": None, "b": None, "j": None}
    assert large["new"] == {"id": 2, "a": text, "b": "\\x" + binary.hex(), "j": {"t": text}}


def test_numbers_keep_their_digits_in_the_key(admin):
    admin.sql("create table v (n numeric, t timestamptz, primary key (n, t)); select relay.watch('v')")
    admin.sql("set timezone = 'Asia/Tokyo'")
    admin.sql("insert into v values (12345678901234567890.10, '2024-01-01 00:00:00+00')")
    assert admin.value("select key from relay.outbox") == (
        'public.v {"n":12345678901234567890.10,"t":"2024-01-01T00:00:00+00:00"}'
    )
    assert admin.events()[0]["key"]["n"] == Decimal("12345678901234567890.10")


def test_two_things_that_json_has_no_word_for_are_as_documented(admin):
    """docs/sql.md, "Values": JSON's null in a json column looks like NULL; an array's lower bounds are lost."""
    admin.sql("create table v (id int primary key, j jsonb, a int[]); select relay.watch('v')")
    admin.sql("insert into v values (1, 'null', '[2:3]={5,6}')")
    assert admin.events()[0]["new"] == {"id": 1, "j": None, "a": [5, 6]}
