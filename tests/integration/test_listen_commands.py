"""The commands of listen.py, and an application's own events from Python."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable
from decimal import Decimal

import psycopg2
import pytest

from dev.database import Database
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from relay.listening import resend as resending
from relay.publish import Message, publish, publish_many
from tests.listening import Listening, by_row, command, run


@pytest.fixture
def listening(script: Callable[..., Script], database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost)
    made.bind()
    return made


def refuse(listening: Listening) -> str:
    """Mark the oldest event as the listener does when the broker refuses it; return its id."""
    listening.admin("update relay.outbox set error = 'too large' where seq = (select min(seq) from relay.outbox)")
    return str(listening.admin("select id from relay.backlog where error is not null")[0][0])


def test_status_shows_what_waits_what_was_refused_and_what_is_watched(listening: Listening) -> None:
    listening.table()
    listening.execute("insert into t values (1)", "insert into t values (2)")
    event_id = refuse(listening)
    shown = run(listening, "status")
    assert shown.returncode == 0, shown.stderr
    for text in ("public.t", "2 events in the outbox", "1 refused by the broker", event_id, "listen.py release"):
        assert text in shown.stdout
    found = json.loads(run(listening, "status", "--json").stdout)
    assert found["pending"][0]["events"] == 2
    assert found["refused"][0]["error"] == "too large"


def test_what_applications_wrote_can_not_forge_a_line_of_status(listening: Listening) -> None:
    evil = "x\x1b[2K\rFAKE all is well\nrefused: none\u202e\x9b2J"
    listening.admin("select relay.publish(%s, '{}', %s)", evil, f"k{evil}")
    listening.admin("update relay.outbox set error = %s", evil)
    shown = run(listening, "status")
    assert shown.returncode == 0, shown.stderr
    assert all(line.isprintable() for line in shown.stdout.splitlines() + shown.stderr.splitlines())
    assert not [line for line in shown.stdout.split("\n") if line == "refused: none"]
    found = json.loads(run(listening, "status", "--json").stdout)
    assert (found["refused"][0]["key"], found["pending"][0]["topic"]) == (f"k{evil}", evil)
    assert run(listening, "check").stdout.isascii()


def test_a_released_event_flows_with_its_key_while_the_listener_runs(listening: Listening) -> None:
    listening.table()
    listening.execute("insert into t values (1, 1)", "update t set n = 2", "insert into t values (2, 1)")
    event_id = refuse(listening)
    listening.start()
    assert by_row(listening.messages(1)) == {2: [1]}, "the refused event's key waits"
    shown = run(listening, "release", event_id)
    assert (shown.returncode, shown.stdout) == (0, "1 event released\n")
    assert by_row(listening.messages(2)) == {1: [1, 2]}
    listening.await_empty()


def test_a_dropped_event_is_gone_and_the_later_ones_of_its_key_flow(listening: Listening) -> None:
    listening.table()
    listening.execute("insert into t values (1, 1)", "update t set n = 2")
    event_id = refuse(listening)
    listening.start()
    assert run(listening, "drop", event_id, answer="n\n").returncode == 1
    assert listening.pending() == 2, "asked first"
    assert run(listening, "drop", event_id, "--yes").returncode == 0
    assert by_row(listening.messages(1)) == {1: [2]}


def test_an_event_that_was_not_refused_can_not_be_dropped(listening: Listening) -> None:
    listening.table()
    listening.execute("insert into t values (1, 1)")
    ((event_id,),) = listening.admin("select id::text from relay.backlog")
    assert run(listening, "drop", event_id, "--yes").returncode == 1
    assert listening.pending() == 1


def test_a_truncate_does_not_pass_a_refused_event_of_its_table(listening: Listening) -> None:
    listening.table()
    listening.execute("insert into t values (1, 1)", "insert into t values (2, 1)", "truncate t")
    event_id = refuse(listening)
    listening.start()
    assert by_row(listening.messages(1)) == {2: [1]}
    listening.script.wait_for_log("a refused event of this table comes before its TRUNCATE")
    run(listening, "release", event_id)
    assert [m.json["op"] for m in listening.messages(2)] == ["insert", "truncate"]


def test_a_bad_id_is_one_clear_line(listening: Listening) -> None:
    shown = run(listening, "release", "42")
    assert shown.returncode == 1
    assert "42 is no event id -> listen.py status" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_resend_without_the_right_prints_the_grants_as_sql(listening: Listening) -> None:
    listening.table(count=3)
    listening.admin("revoke update on t from relay_trigger")
    shown = run(listening, "resend", "public.t")
    assert shown.returncode == 78
    (grant,) = re.findall(r"(grant select, update .*on public.t to relay_trigger;)", shown.stderr)
    listening.admin(grant)
    assert run(listening, "resend", "public.t").returncode == 0
    assert "Traceback" not in shown.stderr


def test_resend_of_a_table_that_is_not_watched_says_what_to_do(listening: Listening) -> None:
    listening.execute("create table plain (id int primary key)")
    shown = run(listening, "resend", "plain")
    assert shown.returncode == 1
    assert "relay.watch('public.plain')" in shown.stderr


def grant(listening: Listening) -> None:
    listening.admin(f"grant usage on schema public to {Database.LISTENER}")
    listening.admin(f"grant select, update (id) on public.t to {Database.LISTENER}")


def test_resend_sends_every_existing_row_once_and_can_be_limited(listening: Listening) -> None:
    listening.table(count=2500)
    grant(listening)
    listening.start()
    shown = run(listening, "resend", "public.t", "--chunk", "400")
    assert shown.returncode == 0, shown.stderr
    assert "2500 rows of public.t sent" in shown.stdout
    messages = listening.messages(2500)
    assert {m.json["op"] for m in messages} == {"snapshot"}
    assert sorted(by_row(messages)) == list(range(1, 2501))
    run(listening, "resend", "public.t", "--where", "id > 2490")
    assert sorted(by_row(listening.messages(10))) == list(range(2491, 2501))
    run(listening, "resend", "public.t", "--after", '{"id": 2498}')
    assert sorted(by_row(listening.messages(2))) == [2499, 2500]


def test_a_resent_row_never_lands_behind_a_newer_change(listening: Listening) -> None:
    """Writers change rows, some held locked for a while, during the resend: the last event of a row is its state."""
    listening.table(count=300)
    grant(listening)
    listening.start()
    stop = threading.Event()

    def write(number: int) -> None:
        with psycopg2.connect(listening.database.app_dsn) as connection, connection.cursor() as cursor:
            while not stop.is_set():
                cursor.execute("update t set n = n + 1 where id %% 20 = %s", (number,))
                stop.wait(0.05)
                connection.commit()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        shown = [run(listening, "resend", "public.t", "--chunk", "50") for _ in range(3)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert [each.returncode for each in shown] == [0, 0, 0], [each.stderr for each in shown]
    listening.await_empty()
    rows = by_row(listening.messages(listening.vhost.queue_depth("out")))
    assert {row: numbers[-1] for row, numbers in rows.items()} == dict(listening.admin("select id, n from t"))
    assert all(numbers == sorted(numbers) for numbers in rows.values())
    deadlocks = listening.admin("select deadlocks from pg_stat_database where datname = current_database()")
    assert deadlocks == [(0,)]


def test_resend_waits_while_the_outbox_is_long(listening: Listening) -> None:
    listening.table(count=10)
    grant(listening)
    listening.admin(
        "insert into relay.outbox (topic, op, body) select 'x', 'message', '1' from generate_series(1, 25000)"
    )
    shown: list[subprocess.CompletedProcess[str]] = []
    thread = threading.Thread(target=lambda: shown.append(run(listening, "resend", "public.t")))
    thread.start()
    waiting = "select 1 from pg_stat_activity where application_name = 'relay command' and state = 'idle'"
    wait_until(lambda: listening.admin(waiting), 20, "resend to wait")
    assert listening.admin("select 1 from relay.outbox where op = 'snapshot'") == []
    listening.start()
    thread.join(60)
    assert shown[0].returncode == 0, shown[0].stderr
    listening.messages(25010, timeout=60)


def test_an_application_publishes_from_python_in_its_own_transaction(listening: Listening) -> None:
    listening.admin(f"grant relay_publisher to {Database.APP}")
    listening.start()
    app = listening.database.app()
    app.autocommit = False
    with app.cursor() as cursor:
        publish(cursor, "shop.no", {"n": 1})
        app.rollback()
        one = publish(cursor, "shop.yes", '{"total": 10.50}', key="order 1", headers={"trace": "x"})
        many = publish_many(cursor, [Message("shop.many", {"n": n, "é": "ü"}, "order 1") for n in range(50)])
        assert publish_many(cursor, []) == []
        with pytest.raises(TypeError):
            publish(cursor, "shop.bad", {"n": Decimal(1)})
        app.commit()
    messages = listening.messages(51)
    assert [m.properties.message_id for m in messages] == [one, *many]
    assert messages[0].body == b'{"total": 10.50}'
    assert [m.json["n"] for m in messages[1:]] == list(range(50))
    listening.admin(f"revoke relay_publisher from {Database.APP}")


def test_text_that_is_not_json_is_refused_with_the_remedy(listening: Listening) -> None:
    with listening.database.admin().cursor() as cursor, pytest.raises(psycopg2.Error, match="not JSON"):
        publish(cursor, "shop.x", "hello")


@pytest.mark.parametrize("limit", ["SKIPPED_MAX", "SKIPPED_CHARACTERS"])
def test_resend_remembers_so_many_rows_that_others_have_locked(
    listening: Listening, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    """The owner of a table may lock all of it, however large it is."""
    monkeypatch.setattr(resending, limit, {"SKIPPED_MAX": 2, "SKIPPED_CHARACTERS": 20}[limit])
    listening.table(count=30)
    locking = listening.database.admin()
    resent, waits = resending.Resent(None), list[tuple[str, int]]()

    def wait(why: str) -> None:
        waits.append((why, resent.rows))
        locking.rollback()

    locking.autocommit = False
    with locking.cursor() as cursor:
        cursor.execute("select from t where id <= 10 for update")
        resending.resend(
            listening.database.listener(), "public.t", resent, where=None, queue=None, chunk=1,
            progress=lambda _count: None, waits=wait,
        )  # fmt: skip
    assert waits[0] == ('row {"id":1} is locked by another session', 0)
    assert (resent.rows, listening.pending()) == (30, 30)


def test_resend_waits_for_whoever_maintains_the_table(listening: Listening) -> None:
    listening.table(count=3)
    maintenance = listening.database.admin()
    with maintenance.cursor() as cursor:
        cursor.execute("begin; lock table t in share update exclusive mode")  # as VACUUM does
        words, environment = command(listening, "resend", "public.t")
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as resending:
            assert resending.stderr is not None
            assert "is locked by another session" in resending.stderr.readline()
            cursor.execute("commit")
            resending.communicate(timeout=30)
    assert resending.returncode == 0
    assert listening.pending() == 3
