"""Every value of a MariaDB row goes through exactly, whatever the writer's session is set to."""

import json
import random
import struct
from decimal import Decimal

import pytest

HOSTILE = """
set session sql_mode = 'ANSI,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,EMPTY_STRING_IS_NULL,NO_UNSIGNED_SUBTRACTION',
time_zone = 'Europe/Vienna', sql_select_limit = 1, group_concat_max_len = 4, character_set_results = 'latin1',
character_set_connection = 'latin1', div_precision_increment = 0, sql_auto_is_null = 1, sql_safe_updates = 1,
autocommit = 1, max_statement_time = 60, lc_time_names = 'de_AT', sql_quote_show_create = 0, time_zone = '-03:30',
auto_increment_increment = 7, auto_increment_offset = 3, sql_big_selects = 0, max_join_size = 1, sql_warnings = 1
"""

MAX = "18446744073709551615"
TEXT = "  \t\n\\ \" ' \x01 \x7f é 中 𝄞 🏳️‍🌈 \U0010ffff \u2028 "
# (type, value as it is given, the value in the event)
VALUES: list[tuple[str, object, object]] = [
    ("tinyint", -128, -128),
    ("tinyint(1)", 1, 1),
    ("boolean", 0, 0),
    ("bigint", -9223372036854775808, -9223372036854775808),
    ("bigint unsigned", int(MAX), int(MAX)),
    ("int(10) zerofill", 42, 42),
    ("bigint zerofill", int(MAX), int(MAX)),
    ("decimal(65,30)", Decimal("12345678901234567890123456789012345.123456789012345678901234567890"), ...),
    ("decimal(65,30) zerofill", Decimal("1.5"), Decimal("1.500000000000000000000000000000")),
    ("decimal(65,0)", -(10**65) + 1, ...),
    ("decimal(10,4)", Decimal("1.5000"), ...),
    ("bit(1)", 1, 1),
    ("bit(64)", int(MAX), int(MAX)),
    ("double", 1.7976931348623157e308, ...),
    ("double", 5e-324, ...),
    ("double", 0.1, ...),
    ("double", 0.30000000000000004, ...),
    ("double", 1e22, ...),
    ("double(20,3)", 12345678.125, 12345678.125),
    ("double zerofill", 0.1, 0.1),
    ("float", 3.4028234663852886e38, ...),
    ("float", 0.1, struct.unpack("f", struct.pack("f", 0.1))[0]),
    ("float", 1.401298464324817e-45, ...),
    ("float(7,4)", 1.2345, struct.unpack("f", struct.pack("f", 1.2345))[0]),
    ("float zerofill", 16777216, 16777216),
    ("year", 0, 0),
    ("year", 2155, 2155),
    ("date", "9999-12-31", "9999-12-31"),
    ("date", "0000-00-00", "0000-00-00"),
    ("date", "2024-02-31", "2024-02-31"),
    ("time(6)", "-838:59:59.999999", "-838:59:59.999999"),
    ("time", "24:00:00", "24:00:00"),
    ("datetime", "2024-10-27 02:30:00", "2024-10-27T02:30:00"),
    ("datetime(6)", "0000-00-00 00:00:00.000001", "0000-00-00T00:00:00.000001"),
    ("datetime(6)", "9999-12-31 23:59:59.999999", "9999-12-31T23:59:59.999999"),
    ("char(5)", "ab  ", "ab"),
    ("varchar(50)", "ab  ", "ab  "),
    ("text", "", ""),
    ("varchar(100)", TEXT, TEXT),
    ("longtext", "\0" + TEXT, "\0" + TEXT),
    ("varchar(100) character set utf8mb3 collate utf8mb3_unicode_ci", "é 中 \u2028\0", ...),
    ("varchar(100) character set utf16", TEXT, TEXT),
    ("varchar(100) character set utf16le", TEXT, TEXT),
    ("varchar(100) character set utf32", TEXT, TEXT),
    ("varchar(100) character set ucs2", "é 中", ...),
    ("varchar(100) character set latin1", "é€\"\\", ...),
    ("varchar(100) character set sjis", "中ｱ", ...),
    ("varchar(100) character set gbk", "中", ...),
    ("varchar(100) character set ascii", "a\\'", ...),
    ("varchar(100) collate utf8mb4_bin", TEXT, TEXT),
    ("varchar(100) collate utf8mb4_unicode_520_ci", TEXT, TEXT),
    ("enum('glad','so \"so\"','täub')", 'so "so"', ...),
    ("enum('é') character set utf16", "é", ...),
    ("set('a','b c','ü')", "a,ü", ...),
    ("blob", b"\x00\xff\\'\"\n", "\\x00ff5c27220a"),
    ("longblob", b"", "\\x"),
    ("binary(3)", b"\x01", "\\x010000"),
    ("varbinary(9)", b"\x80", "\\x80"),
    ("json", '{"b" : 123456789012345678901234567890.10, "a":1e400, "a": "\\ud834\\udd1e"  , "z":[]}', json),
    ("json", "null", None),
    ("json", '"x"', "x"),
    ("longtext character set latin1 check (json_valid({}))", '{"ü": [1.10]}', json),
    ("longtext character set utf16 check (json_valid({}))", '{"𝄞": [1.10]}', json),
    ("uuid", "00000000-0000-4000-8000-00000000ffff", ...),
    ("inet6", "2001:db8::1", ...),
    ("inet4", "10.0.0.255", ...),
    ("int invisible", 7, 7),
]  # fmt: skip


def expected(given: object, wanted: object) -> object:
    if wanted is ...:
        return given
    return json.loads(str(given), parse_float=Decimal) if wanted is json else wanted


def same(wanted: object, got: object) -> bool:
    """The same value to the last bit; a text is no number."""
    if isinstance(wanted, float):
        return isinstance(got, int | Decimal) and float(got) == wanted
    if isinstance(wanted, Decimal):
        return isinstance(got, Decimal | int) and Decimal(got).as_tuple() == wanted.as_tuple()
    return type(wanted) is type(got) and wanted == got


def make(admin, table="t"):
    columns = ", ".join(f"c{i} {kind.format(f'c{i}')}" for i, (kind, _, _) in enumerate(VALUES))
    admin.sql(f"create table {table} (id int primary key, n int, ts timestamp(6) null, g geometry, {columns}, "
              "v int as (id * 2) virtual, s varchar(9) as (concat('s', id)) stored)")  # fmt: skip


def fill(admin, table="t"):
    names = ", ".join(f"c{i}" for i in range(len(VALUES)))
    admin.sql("set session sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'")
    marks = ", ".join(["%s"] * len(VALUES))
    row = [value for _, value, _ in VALUES]
    admin.sql(
        f"insert into {table} (id, ts, g, {names}) values (1, '2038-01-19 03:14:07.999999', point(1, 2), {marks})", *row
    )


def wrong(image):
    return [
        (kind, expected(given, wanted), image[f"c{i}"])
        for i, (kind, given, wanted) in enumerate(VALUES)
        if not same(expected(given, wanted), image[f"c{i}"])
    ]


@pytest.mark.parametrize("hostile", [False, True], ids=["usual session", "hostile session"])
@pytest.mark.parametrize("op", ["insert", "update", "delete"])
def test_every_value_comes_through_bit_by_bit(admin, connect, hostile, op):
    make(admin)
    make(admin, "source")
    fill(admin, "source")
    names = ", ".join(["id", "ts", "g", *(f"c{i}" for i in range(len(VALUES)))])
    if op != "insert":
        admin.sql(f"insert into t ({names}) select {names} from source")
    admin.watch("t")
    writer = connect()
    writer.sql("set session sql_mode = 'ALLOW_INVALID_DATES'")
    if hostile:
        writer.sql(HOSTILE.replace("'ANSI,", "'ALLOW_INVALID_DATES,ANSI,").replace("time_zone = 'Europe/Vienna', ", ""))
    writer.sql("set sql_select_limit = default, sql_safe_updates = 0, sql_big_selects = 1")  # for the statement itself
    statement = {
        "insert": f"insert into t ({names}) select {names} from source",
        "update": "update t set n = 1",
        "delete": "delete from t",
    }[op]
    writer.sql(statement)
    (event,) = admin.events()
    assert event["op"] == op
    for image in ("old", "new"):
        if event[image] is not None:
            assert wrong(event[image]) == []
            assert event[image]["ts"] == "2038-01-19T03:14:07.999999+00:00"
            assert event[image]["g"] == "\\x000000000101000000000000000000f03f0000000000000040"
            assert (event[image]["v"], event[image]["s"]) == (2, "s1")


def test_a_row_of_nulls_comes_through(admin):
    make(admin)
    admin.watch("t")
    admin.sql("insert into t (id) values (1)")
    (event,) = admin.events()
    values = {name: value for name, value in event["new"].items() if name not in {"id", "v", "s"}}
    assert set(values.values()) == {None}


def test_both_hours_of_the_autumn_night_are_told_apart(admin, connect):
    """In the writer's own zone they read the same; so do two rows of which one was changed into the other."""
    admin.sql("create table t (id int primary key, ts timestamp null)")
    admin.watch("t")
    admin.sql("set time_zone = '+00:00'")
    if not admin.value("select count(*) from mysql.time_zone_name where name = 'Europe/Vienna'"):
        vienna(admin)
    admin.sql("create table later (ts timestamp null)")
    admin.sql("insert into later values ('2024-10-27 01:30:00')")
    admin.sql("insert into t values (1, '2024-10-27 00:30:00')")
    admin.sql("set time_zone = 'Europe/Vienna'")
    assert admin.sql("select distinct cast(ts as char) from later union select cast(ts as char) from t") == [
        ("2024-10-27 02:30:00",)
    ]
    admin.sql("update t, later set t.ts = later.ts")
    first, second = admin.events()
    assert first["new"]["ts"] == "2024-10-27T00:30:00+00:00"
    assert (second["op"], second["new"]["ts"]) == ("update", "2024-10-27T01:30:00+00:00")


def vienna(admin):
    """A zone with one autumn night, as mariadb-tzinfo-to-sql would make it."""
    admin.sql("insert into mysql.time_zone (time_zone_id, use_leap_seconds) values (1, 'N')")
    admin.sql("insert into mysql.time_zone_name values ('Europe/Vienna', 1)")
    admin.sql("insert into mysql.time_zone_transition_type values (1, 0, 7200, 1, 'CEST'), (1, 1, 3600, 0, 'CET')")
    admin.sql("insert into mysql.time_zone_transition values (1, -2147483648, 0), (1, 1729990800, 1)")


def test_a_zero_timestamp_is_none_of_1970(admin):
    admin.sql("create table t (id int primary key, ts timestamp null, t3 timestamp(3) null)")
    admin.watch("t")
    admin.sql("set sql_mode = '', time_zone = '+00:00'")
    admin.sql(
        "insert into t values (1, '0000-00-00 00:00:00', '0000-00-00 00:00:00'), (2, '1970-01-01 00:00:01', null)"
    )
    zero, one = (event["new"] for event in admin.events())
    assert (zero["ts"], zero["t3"]) == ("0000-00-00T00:00:00", "0000-00-00T00:00:00.000")
    assert (one["ts"], one["t3"]) == ("1970-01-01T00:00:01+00:00", None)


def test_json_that_is_none_goes_as_text(admin):
    """check_constraint_checks = 0 lets it in."""
    admin.sql("create table t (id int primary key, j json)")
    admin.watch("t")
    admin.sql("set check_constraint_checks = 0")
    admin.sql("""insert into t values (1, '{"a":'), (2, '{"a": 1}'), (3, ''), (4, null)""")
    assert [event["new"]["j"] for event in admin.events()] == ['{"a":', {"a": 1}, "", None]


def test_an_image_above_max_allowed_packet_is_an_event_with_its_key(admin, mariadb, connect):
    admin.sql("create table t (id int primary key, a longblob, b longtext)")
    admin.watch("t")
    before = admin.value("select @@global.max_allowed_packet")
    try:
        admin.sql("set global max_allowed_packet = 1048576")
        writer = connect()
        writer.sql("set session sql_mode = 'TRADITIONAL'")
        writer.sql("insert into t values (1, repeat('x', 600000), 'b')")
        assert writer.sql("show warnings") == []
        writer.sql("insert into t values (2, null, repeat(char(1), 300000)), (3, 'a', 'b')")
        writer.sql("insert ignore into t values (4, repeat('x', 600000), 'b')")
        writer.sql("update t set b = 'c' where id in (1, 3)")
        writer.sql("update t set a = null where id = 1")
        writer.sql("update t set id = 9 where id = 2")
        writer.sql("delete from t where id = 9")
        found = [(e["op"], e["key"]["id"], e["too_large"], e["old"], e["new"]) for e in admin.events()]
    finally:
        admin.sql(f"set global max_allowed_packet = {before}")
    small = {"id": 3, "a": "\\x61", "b": "b"}
    assert found == [
        ("insert", 1, True, None, None), ("insert", 2, True, None, None), ("insert", 3, False, None, small),
        ("insert", 4, True, None, None), ("update", 1, True, None, None),
        ("update", 3, False, small, {**small, "b": "c"}), ("update", 1, True, None, None),
        ("delete", 2, True, None, None), ("insert", 9, True, None, None), ("delete", 9, True, None, None),
    ]  # fmt: skip


def test_a_row_of_fifteen_megabytes_comes_through(admin):
    admin.sql("create table t (id int primary key, b longtext)")
    admin.watch("t")
    admin.sql("insert into t values (1, repeat('ü', 7500000))")
    admin.sql("update t set id = 2")
    assert [len(e["new"]["b"]) for e in admin.events() if e["new"]] == [7_500_000] * 2


def random_value(chance: random.Random, kind: str) -> object:
    """A value of one of the types of `kinds`, its special ones more often than others."""
    if chance.random() < 0.1:
        return None
    if kind == "double":
        return chance.choice(
            [0.0, struct.unpack("d", chance.randbytes(8))[0], chance.uniform(-1, 1) * 10 ** chance.randint(-300, 300)]
        )
    if kind == "float":
        return struct.unpack("f", chance.randbytes(4))[0]
    if kind.startswith("bigint"):
        low, high = (0, 2**64 - 1) if "unsigned" in kind else (-(2**63), 2**63 - 1)
        return chance.choice([low, high, chance.randint(low, high), chance.randint(low, high) >> chance.randint(0, 60)])
    if kind.startswith("bit"):
        return chance.getrandbits(64)
    if kind.startswith("decimal"):
        digits = f"{chance.randint(0, 10**65 - 1):065}"
        return Decimal(f"{chance.choice(['', '-'])}{digits[:35]}.{digits[35:]}")
    if kind == "blob":
        return chance.randbytes(chance.choice([0, 1, 7, 300]))
    if kind.startswith(("datetime", "timestamp")):
        years = (0, 9999) if kind.startswith("datetime") else (1971, 2037)
        day = f"{chance.randint(*years):04}-{chance.randint(1, 12):02}-{chance.randint(1, 28):02}"
        time = ":".join(f"{chance.randint(0, most):02}" for most in (23, 59, 59))
        return f"{day} {time}.{chance.randint(0, 999999):06}"
    letters = [
        chr(chance.choice([*range(128), 0xE9, 0x4E2D, 0x2028, 0x1D11E, 0x10FFFF, 0xFFFD]))
        for _ in range(chance.randint(0, 20))
    ]
    return (
        json.dumps({"".join(letters): [chance.random(), None]}, ensure_ascii=chance.random() < 0.5)
        if kind == "json"
        else "".join(letters)
    )


KINDS = ["double", "float", "bigint", "bigint unsigned", "bit(64)", "decimal(65,30)", "blob", "datetime(6)",
         "timestamp(6) null", "varchar(100)", "varchar(100) character set utf16", "json"]  # fmt: skip


def image_of(kind: str, value: object) -> object:
    if value is None:
        return None
    if isinstance(value, bytes):
        return "\\x" + value.hex()
    if kind == "json":
        return json.loads(str(value), parse_float=Decimal)
    if kind.startswith(("datetime", "timestamp")):
        return str(value).replace(" ", "T") + ("+00:00" if kind.startswith("timestamp") else "")
    return value


def rows_come_through(admin, count, seed):
    chance = random.Random(seed)
    columns = ", ".join(f"c{i} {kind}" for i, kind in enumerate(KINDS))
    admin.sql(f"create table t (id int primary key, {columns})")
    admin.watch("t")
    admin.sql("set time_zone = '+00:00'")
    marks = ", ".join(["%s"] * (len(KINDS) + 1))
    for first in range(0, count, 500):
        rows = []
        for number in range(first, min(first + 500, count)):
            row = [random_value(chance, kind) for kind in KINDS]
            rows.append(
                [number, *(None if isinstance(v, float) and (v != v or abs(v) == float("inf")) else v for v in row)]
            )
        admin.cursor.executemany(f"insert into t values ({marks})", rows)
        events = admin.events()
        assert len(events) == len(rows)
        for row, event in zip(rows, events, strict=True):
            image = event["new"]
            for i, kind in enumerate(KINDS):
                wanted = image_of(kind, row[i + 1])
                if isinstance(wanted, float) and wanted == 0:
                    wanted = 0
                assert same(wanted, image[f"c{i}"]), (seed, row[0], kind, wanted, image[f"c{i}"])


def test_random_rows_come_through(admin):
    rows_come_through(admin, 1000, seed=1)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_twenty_thousand_random_rows_come_through(admin):
    rows_come_through(admin, 20_000, seed=random.randrange(1 << 30))
