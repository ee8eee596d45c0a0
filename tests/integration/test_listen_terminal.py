"""The commands of listen.py as a person meets them: on a terminal, interrupted, piped, given what does not exist."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable

import pytest

from dev.database import Database
from dev.process import wait_until
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening, command, run
from tests.receiving import with_constants
from tests.terminal import Terminal

NO_EVENT = "5cfb6e63-0000-0000-0000-000000000000"


@pytest.fixture
def listening(script: Callable[..., Script], database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost)
    made.table(count=1000)
    made.admin(f"grant usage on schema public to {Database.LISTENER}")
    made.admin(f"grant select, update (id) on public.t to {Database.LISTENER}")
    return made


def sent(listening: Listening) -> list[int]:
    """The numbers of the rows in the outbox."""
    return [n for (n,) in listening.admin("select (body::json #>> '{key,id}')::int from relay.backlog order by 1")]


def test_resend_shows_a_bar_on_a_terminal_and_none_elsewhere(listening: Listening) -> None:
    listening.admin("analyze t")
    terminal = Terminal(*command(listening, "resend", "public.t", "--chunk", "100"))
    assert terminal.end() == 0, terminal.shown
    assert re.search(r"public\.t: 100%\|\S+\| 1000/1000 \[\S+<00:00, +\S+ rows/s", terminal.shown), terminal.shown
    assert terminal.shown.endswith("1000 rows of public.t sent\r\n"), "below the bar"
    terminal = Terminal(*command(listening, "resend", "public.t", "--where", "id <= 7"))
    assert terminal.end() == 0, terminal.shown
    assert "public.t: 7 rows [" in terminal.shown, "how many meet a condition is not known"
    listening.execute(
        "create table p (id int primary key, n int) partition by list (id)",
        "create table p1 partition of p for values in (1)",
        "create table p2 partition of p default",
        "insert into p values (1), (2), (3)",
        f"grant select, update (id) on p to {Database.LISTENER}",
    )
    listening.admin("select relay.watch('public.p')")
    listening.admin("analyze p, p1, p2")
    terminal = Terminal(*command(listening, "resend", "public.p"))
    assert terminal.end() == 0, terminal.shown
    assert "| 3/3 [" in terminal.shown, "counted once, though the root knows the number, too"
    piped = run(listening, "resend", "public.t")
    assert (piped.returncode, piped.stdout, piped.stderr) == (0, "1000 rows of public.t sent\n", "")


def test_an_interrupted_resend_tells_the_command_that_sends_the_rest_also_what_was_locked(listening: Listening) -> None:
    blocker = listening.database.app()
    blocker.autocommit = False
    where = "id <> 13 and id > 0"
    with blocker.cursor() as cursor:
        cursor.execute("update t set n = 1 where id = 500")
        terminal = Terminal(*command(listening, "resend", "public.t", "--chunk", "200", "--where", where))
        terminal.wait_for('row {"id":500} is locked by another session')
        terminal.process.terminate()  # as Ctrl-C does it, below
        assert terminal.end() == 130, terminal.shown
        blocker.rollback()
    assert "Traceback" not in terminal.shown
    assert sent(listening) == [n for n in range(1, 1001) if n not in (13, 500)]
    ((count, again),) = re.findall(r"(\d+) rows sent; to go on: listen.py (.*)\r\n", terminal.shown)
    assert int(count) == 998
    listening.admin("truncate relay.outbox")
    rest = run(listening, *shlex.split(again))
    assert rest.returncode == 0, rest.stderr
    first, *others = sent(listening)
    assert 200 < first < 500, "from before the row that was locked, not from the beginning"
    assert others == list(range(first + 1, 1001))


def test_resend_says_that_it_waits_for_the_listener(listening: Listening) -> None:
    listening.admin(
        "insert into relay.outbox (topic, op, body) select 'x', 'message', '1' from generate_series(1, 20001)"
    )
    terminal = Terminal(*command(listening, "resend", "public.t"))
    terminal.wait_for("more than 20000 events in the outbox, waiting for the listener")
    listening.admin("truncate relay.outbox")
    assert terminal.end() == 0, terminal.shown
    assert len(sent(listening)) == 1000


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nosuch"], 1, 'relation "nosuch" does not exist -> write it as in SQL, with its schema'),
        (["nosuch.t"], 1, 'relation "nosuch.t" does not exist -> write it as in SQL'),
        (["bad name"], 1, "invalid name syntax -> write it as in SQL"),
        (["t", "--where", "id >"], 1, 'syntax error at or near ")" -> --where is what follows WHERE'),
        (["t", "--where", ""], 1, "-> --where is what follows WHERE"),
        (["t", "--where", "nosuch > 1"], 1, 'column "nosuch" does not exist -> --where'),
        (
            ["t", "--after", '{"foo": 1}'],
            1,
            'relay: {"foo": 1} is not a key of t -> A key of it looks like {"id":...}.',
        ),
        (["t", "--after", "x"], 1, "invalid input syntax for type json"),
        (["t", "--chunk", "0"], 2, "argument --chunk: write a number from 1 to 1,000,000,000"),
        (["t", "--chunk", "-5"], 2, "argument --chunk"),
    ],
)
def test_a_resend_that_can_not_be_done_is_one_clear_line(
    listening: Listening, arguments: list[str], status: int, said: str
) -> None:
    shown = run(listening, "resend", *arguments)
    assert (shown.returncode, shown.stdout) == (status, ""), shown
    assert said in shown.stderr.replace("public.t", "t"), shown.stderr
    assert "Traceback" not in shown.stderr
    assert sent(listening) == []


@pytest.mark.parametrize(
    ("order", "said"),
    [
        ("public.t,nosuch", 'relation "nosuch" does not exist -> write it as in SQL, with its schema'),
        ("nosuch,plain,t", 'relation "nosuch" does not exist; plain is not watched -> write it as in SQL'),
        ("public.t,plain", "plain is not watched -> as its owner: select relay.watch('plain');"),
        ("t,other,public.t", "t and public.t are one table -> name each table once"),
        ('t,other,"t"', 't and "t" are one table'),
        ("t,,other", "a name is missing beside a comma"),
        ("t,", "a name is missing beside a comma"),
        ("", "a name is missing beside a comma"),
        ('t,"other', "a double quote is not closed"),
        ("t,bad name", "invalid name syntax"),
    ],
)
def test_an_order_that_can_not_be_kept_sends_nothing_and_names_all_that_is_wrong(
    listening: Listening, order: str, said: str
) -> None:
    listening.admin("create table other (id int primary key)")
    listening.admin("create table plain (id int primary key)")
    listening.admin("select relay.watch('other')")
    shown = run(listening, "resend", "--order", order)
    assert (shown.returncode, shown.stdout) == (1, ""), shown
    assert f"--order: {said}" in shown.stderr.replace("public.plain", "plain").replace("PostgreSQL: ", ""), shown
    assert "Traceback" not in shown.stderr
    assert sent(listening) == []


def test_tables_are_sent_in_the_order_that_is_asked_for_and_an_interrupted_one_goes_on(listening: Listening) -> None:
    listening.admin('create table "my, own" (id int primary key)')
    listening.admin("create table b (id int primary key)")
    for table in ('"my, own"', "b"):
        listening.admin(f"select relay.watch('{table}')")
        listening.admin(f"insert into {table} select generate_series(1, 5)")
    listening.admin("delete from relay.outbox")
    shown = run(listening, "resend", "--order", 'b,public.t, "my, own"', "--chunk", "100")
    assert (shown.returncode, shown.stderr) == (0, ""), shown
    assert shown.stdout == '5 rows of b sent\n1000 rows of public.t sent\n5 rows of "my, own" sent\n'
    wanted = ["public.b"] * 5 + ["public.t"] * 1000 + ["public.my, own"] * 5
    tables = "select body::json ->> 'table' from relay.backlog order by seq"
    assert [table.replace('"', "") for (table,) in listening.admin(tables)] == wanted

    listening.admin("delete from relay.outbox")
    blocker = listening.database.app()
    blocker.autocommit = False
    with blocker.cursor() as cursor:
        cursor.execute("update t set n = 1 where id = 500")
        words = command(listening, "resend", "--order", 'b,t,"my, own"', "--chunk", "200")
        terminal = Terminal(*words)
        terminal.wait_for('row {"id":500} is locked by another session')
        terminal.process.terminate()
        assert terminal.end() == 130, terminal.shown
        blocker.rollback()
    ((count, again),) = re.findall(r"(\d+) rows of t sent; to go on: listen.py (.*)\r\n", terminal.shown)
    assert int(count) == 999
    listening.admin("truncate relay.outbox")
    rest = run(listening, *shlex.split(again))
    assert rest.returncode == 0, rest.stderr
    assert rest.stdout.endswith('rows of t sent\n5 rows of "my, own" sent\n')
    assert "of b" not in rest.stdout
    assert run(listening, "resend", "--order", "b,t", "--where", "id > 1").returncode == 2


@pytest.mark.parametrize("words", [["public.t"], ["--order", "public.t"]], ids=str)
def test_a_resend_behind_a_locked_outbox_says_who_has_it_locked(listening: Listening, words: list[str]) -> None:
    blocker = listening.database.admin()
    blocker.autocommit = False
    with blocker.cursor() as cursor:
        cursor.execute("lock table relay.outbox in access exclusive mode")
        shown = run(listening, "resend", *words)
        blocker.rollback()
    assert shown.returncode == 75, shown
    assert f"relay.outbox is locked: pid {blocker.info.backend_pid} (" in shown.stderr
    assert f"select pg_terminate_backend({blocker.info.backend_pid});" in shown.stderr
    assert "Traceback" not in shown.stderr


def test_a_condition_that_breaks_out_of_its_brackets_does_not_undo_that_of_the_watch(listening: Listening) -> None:
    listening.admin("""select relay.watch('public.t', "when" => 'id <= 10')""")
    listening.admin("delete from relay.outbox")
    shown = run(listening, "resend", "public.t", "--where", "true) or (true", "--chunk", "100")
    assert shown.returncode == 0, shown.stderr
    assert listening.admin("select max((body::json #>> '{key,id}')::int) from relay.backlog")[0][0] <= 10


def test_a_resend_without_the_right_to_the_schema_names_the_grant(listening: Listening) -> None:
    listening.admin("create schema closed")
    listening.admin("create table closed.t (id int primary key)")
    listening.admin("select relay.watch('closed.t')")
    shown = run(listening, "resend", "closed.t")
    assert shown.returncode == 78
    assert f'permission denied for schema closed -> grant usage on it to "{Database.LISTENER}"' in shown.stderr


def test_an_unknown_event_is_a_failure_and_an_unanswered_question_a_no(listening: Listening) -> None:
    for arguments in (["release", NO_EVENT], ["drop", NO_EVENT, "--yes"]):
        shown = run(listening, *arguments)
        assert shown.returncode == 1
        assert shown.stderr == f"no refused event {NO_EVENT}; listen.py status shows their ids\n"
    assert run(listening, "release", "--all").stdout == "0 events released\n"
    shown = run(listening, "drop", NO_EVENT)  # its input is closed
    assert shown.returncode == 1
    assert "nothing was dropped; answer y, or give --yes" in shown.stderr
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("arguments", [["status"], ["status", "--json"], ["release", "--all"], ["resend", "public.t"]])
def test_a_reader_that_has_seen_enough_is_no_traceback(listening: Listening, arguments: list[str]) -> None:
    words, environment = command(listening, *arguments)
    reader, writer = os.pipe()
    os.close(reader)
    shown = subprocess.run(words, env=environment, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=30)
    os.close(writer)
    assert (shown.returncode, shown.stderr) == (1, b"")


def test_ctrl_c_ends_a_command_that_waits_for_postgresql_and_its_statement(listening: Listening) -> None:
    blocker = listening.database.admin()
    blocker.autocommit = False
    under_way = "select 1 from pg_stat_activity where application_name = 'relay status' and wait_event_type = 'Lock'"
    words, environment = command(listening, "status")
    with blocker.cursor() as cursor:
        cursor.execute("lock table relay.outbox in access exclusive mode")
        terminal = Terminal(words, environment | with_constants("relay.listening.operate.LOCK_SECONDS=30"))
        wait_until(lambda: listening.admin(under_way), 10, "the command to wait for the lock")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end(5) == 130
        assert terminal.shown == "interrupted\r\n"
        wait_until(lambda: not listening.admin(under_way), 5, "PostgreSQL to end the statement")
        blocker.rollback()


COMMANDS = (
    ["status"],
    ["release", "--all"],
    ["drop", NO_EVENT, "--yes"],
    ["resend", "public.t"],
    ["resend", "--order", "public.t"],
)


def test_a_command_without_the_schema_or_the_right_says_what_to_do(listening: Listening) -> None:
    listening.settings["DATABASE_URL"] = listening.database.app_dsn
    for arguments in COMMANDS:
        shown = run(listening, *arguments)
        assert shown.returncode == 78, shown
        assert "permission denied for schema relay -> grant relay_listener to" in shown.stderr
    listening.settings["DATABASE_URL"] = listening.database.listener_dsn
    listening.admin("drop schema relay cascade")
    for arguments in COMMANDS:
        shown = run(listening, *arguments)
        assert shown.returncode == 78, shown
        assert "does not exist -> install" in shown.stderr
        assert "sql/install.sql" in shown.stderr
