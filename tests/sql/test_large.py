"""A row that cannot be written as JSON does not abort the writer."""

import pytest

# Each control character becomes six: 46 MB of them are 276 MB of JSON, more than an event may have.
TOO_LARGE = "repeat(chr(1), 46000000)"


@pytest.fixture
def docs(admin):
    admin.sql("create table docs (x int, id int primary key, b text); select relay.watch('docs')")
    return admin


@pytest.fixture
def numbers(docs):
    """Inserts so many numbers that are long as text alone, 131,072 characters each: control characters take longer."""
    docs.sql("alter table docs add column n numeric[]; select relay.watch('docs')")

    def insert(count):
        docs.sql(f"""
            insert into docs values (0, 1, (select string_agg(md5(i::text), '') from generate_series(1, 20000) i),
                                     array_fill(1e131071, array[{count}]))
        """)

    return insert


def test_a_row_too_large_is_a_key_only_event_with_a_flag(docs, numbers):
    numbers(2100)
    (event,) = docs.events()
    assert (event["op"], event["key"]["id"], event["too_large"]) == ("insert", 1, True)
    assert (event["old"], event["new"]) == (None, None)
    assert docs.value("select key from relay.outbox") == 'public.docs {"id":1}'


@pytest.mark.long
def test_so_is_each_change_of_it(docs):
    docs.sql(f"insert into docs values (0, 1, {TOO_LARGE}); update docs set id = 2; delete from docs")
    events = docs.events()
    assert [(e["op"], e["key"]["id"], e.get("too_large")) for e in events] == [
        ("insert", 1, True), ("delete", 1, True), ("insert", 2, True), ("delete", 2, True),
    ]  # fmt: skip
    assert {(e["old"], e["new"]) for e in events} == {(None, None)}


def test_json_beyond_what_postgresql_can_allocate(docs, numbers):
    numbers(8300)
    assert [(e["op"], e["key"]["id"], e["too_large"]) for e in docs.events()] == [("insert", 1, True)]


def test_in_bulk_and_with_a_list_of_columns(docs):
    """What is left out does not count."""
    docs.sql("select relay.watch('docs', bulk => true, columns => '{id,x}')")
    docs.sql(f"insert into docs values (0, 1, {TOO_LARGE}), (0, 2, 'small'); update docs set x = 1")
    assert [(e["op"], e["key"]["id"], e.get("too_large")) for e in docs.events()] == [
        ("insert", 1, None), ("insert", 2, None), ("update", 1, None), ("update", 2, None),
    ]  # fmt: skip


def test_large_rows_that_fit_are_whole(docs):
    docs.sql("insert into docs values (0, 1, (select string_agg(md5(i::text), '') from generate_series(1, 100000) i))")
    (event,) = docs.events()
    assert len(event["new"]["b"]) == 3_200_000
    assert "too_large" not in event


def test_a_small_row_takes_no_subtransaction(docs):
    docs.sql("begin; insert into docs values (0, 1, 'small')")
    assert docs.value("select count(*) from pg_locks where locktype = 'transactionid' and pid = pg_backend_pid()") == 1
    assert docs.sql("select xmin::text from relay.outbox") == docs.sql("select pg_current_xact_id()::xid::text")
    docs.sql("commit")
