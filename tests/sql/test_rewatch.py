"""Changing a watch while the application writes: nothing slips through, and nobody queues for long."""

import threading
import time

import psycopg2
import pytest


class Writers:
    """Threads that each write to rows of their own until stopped; they note every commit's time it took."""

    def __init__(self, connect, count=3):
        self.stop = threading.Event()
        self.slowest = 0.0
        self.written = 0
        self.failed = []
        self._lock = threading.Lock()
        sessions = [connect() for _ in range(count)]
        self._threads = [threading.Thread(target=self._run, args=(s, n)) for n, s in enumerate(sessions)]
        for thread in self._threads:
            thread.start()

    def _run(self, session, number):
        n = 0
        try:
            while not self.stop.is_set():
                start = time.monotonic()
                session.sql("insert into t values (%s, 0)", number * 1_000_000 + n)
                with self._lock:
                    self.slowest = max(self.slowest, time.monotonic() - start)
                    self.written += 1
                n += 1
        except psycopg2.Error as error:
            self.failed.append(error)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self._threads:
            thread.join()
        assert self.failed == []


@pytest.fixture
def t(admin):
    admin.sql("create table t (id bigint primary key, v int); select relay.watch('t')")
    return admin


def test_no_change_slips_through_while_a_watch_is_changed(t, connect):
    changer = connect()
    with Writers(connect) as writers:
        for n in range(40):
            changer.sql("select relay.watch('t', topic => %s, old => %s, bulk => %s)", f"x{n}", n % 2 == 0, n % 3 == 0)
            changer.sql("select relay.watch('t', ops => '{insert,update}')")
    assert writers.written > 0
    assert t.sql("select id from t except select (body::json #>> '{key,id}')::bigint from relay.backlog") == []
    assert t.value("select count(*) from relay.outbox") == t.value("select count(*) from t") == writers.written


def test_writers_do_not_queue_behind_a_watch_that_cannot_get_its_lock(t, connect):
    holder, changer, failures = connect(), connect(), []
    holder.sql("begin; insert into t values (-1, 0)")

    def change():
        try:
            changer.sql("select relay.watch('t', 'x')")
        except psycopg2.Error as error:
            failures.append(error)

    thread = threading.Thread(target=change)
    thread.start()
    with Writers(connect) as writers:
        thread.join(60)
    assert writers.slowest < 1.0, "a waiting lock makes everyone wait: 100 ms at most at a time"
    (error,) = failures
    assert error.pgcode == "55P03"
    assert f"pid {holder.pid}" in error.diag.message_primary
    assert "pg_stat_activity" in error.diag.message_hint
    holder.sql("commit")
    assert t.sql("select topic from relay.watched") == [("public.t",)]
    assert changer.value("show lock_timeout") == "0"


def test_watch_waits_for_a_writer_that_ends_in_time(t, connect):
    holder, changer = connect(), connect()
    holder.sql("begin; insert into t values (-1, 0)")
    timer = threading.Timer(0.5, lambda: holder.sql("commit"))
    timer.start()
    changer.sql("set lock_timeout = '7s'; select relay.watch('t', 'x')")
    timer.join()
    assert t.sql("select topic from relay.watched") == [("x",)]
    assert changer.value("show lock_timeout") == "7s"


def test_a_reader_with_an_open_transaction_does_not_hinder_a_change_in_place(t, connect):
    """Such as pg_dump. CREATE OR REPLACE TRIGGER, from PostgreSQL 14, needs no lock that conflicts with reading."""
    if t.connection.server_version < 140000:
        return
    reader = connect()
    reader.sql("begin isolation level repeatable read; select * from t")
    t.sql("""select relay.watch('t', 'x', old => false); select relay.watch('t', "when" => 'v > 1')""")
    reader.sql("commit")


def test_a_change_in_a_transaction_that_is_rolled_back_leaves_the_old_watch(t, connect):
    t.sql("begin; select relay.watch('t', 'x'); rollback; insert into t values (1, 1)")
    assert t.sql("select topic from relay.outbox") == [("public.t",)]


def test_a_watch_made_while_a_transaction_is_open_does_not_miss_the_rest_of_it(admin, connect):
    admin.sql("create table u (id int primary key)")
    other = connect()
    other.sql("begin; select * from u")
    admin.sql("select relay.watch('u')")
    other.sql("insert into u values (1); commit")
    assert admin.story() == [("insert", 1)]
