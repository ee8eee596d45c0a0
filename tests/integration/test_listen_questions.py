"""Which columns a watched table has, asked of the running listener over its command queue: little, and seldom."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable

import pytest

import connection
from dev.database import Database
from dev.doubles.odoo.handle import Odoo
from dev.script import ROOT, Script
from dev.vhost import Vhost
from relay import config
from relay.amqp.ask import request
from relay.errors import ConfigError, NotFound
from relay.listening.questions import QUESTION_INTERVAL, Questions
from relay.receiving import columns
from relay.targets.odoo.columns import Kind, parse
from tests.listening import Listening
from tests.odoo_rows import credentials

Make = Callable[..., Script]
TABLE = 'create table shop."Odd, table" ("Id" int, no int, "größe" numeric(12,3) not null, born date, secret text, '
TABLE += (
    'gone int, state shop.state, tags text[], virtual int generated always as (no * 2) stored, primary key (no, "Id"))'
)


@pytest.fixture
def listening(script: Make, database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost)
    made.bind()
    with database.admin().cursor() as cursor:
        cursor.execute("create schema shop; create type shop.state as enum ('a', 'b'); " + TABLE)
        cursor.execute('alter table shop."Odd, table" drop column gone; create table shop.other (id int primary key)')
        cursor.execute("""select relay.watch('shop."Odd, table"', ignore => '{secret}')""")
    made.start()
    return made


def ask(listening: Listening, table: str, source: str = "", secret: bytes = b"") -> str:
    settings = config.load(config.Listen, None, {key: str(value) for key, value in listening.settings.items()})
    with connection.rabbitmq_now(settings, name="test") as handle:
        return columns.of_table(handle, source or listening.database.name, secret, table)


def test_of_a_watched_table_its_columns_are_told_as_events_have_them(listening: Listening) -> None:
    found = {one.name: one for one in parse(ask(listening, "shop.Odd, table"))}
    assert list(found) == ["Id", "no", "größe", "born", "state", "tags", "virtual"]
    assert [one.name for one in found.values() if one.key] == ["Id", "no"]
    assert (found["größe"].scale, found["größe"].nullable, found["born"].nullable) == (3, False, True)
    assert (found["tags"].kind, found["state"].kind) == (Kind.LIST, Kind.OTHER)


def test_psql_tells_the_same_by_the_query_of_the_page(listening: Listening) -> None:
    page = (ROOT / "docs" / "odoo.md").read_text()
    (query,) = re.findall(r'psql -d shop -Atc "(select format.*?)" \|', page, re.DOTALL)
    rows = listening.admin(query.replace("public.customers", 'shop."Odd, table"'))
    found = parse("\n".join(text for (text,) in rows))
    assert [one for one in found if one.name != "secret"] == parse(ask(listening, "shop.Odd, table"))


@pytest.mark.parametrize(
    "table",
    ["shop.other", "pg_catalog.pg_authid", "relay.outbox", "shop.none", "", "x" * 60_000, "a'b\\"],
)
def test_of_others_nothing_is_told(listening: Listening, table: str) -> None:
    with pytest.raises(NotFound) as refused:
        ask(listening, table)
    assert "is watched" in refused.value.what
    assert len(refused.value.what) < 500
    assert "WARNING" not in listening.script.log()


def test_who_asks_again_at_once_is_put_off(listening: Listening) -> None:
    ask(listening, "shop.Odd, table")
    with pytest.raises(NotFound, match=f"ask again in {QUESTION_INTERVAL:g} s"):
        ask(listening, "shop.Odd, table")


def test_nobody_there_is_told(listening: Listening) -> None:
    with pytest.raises(ConfigError, match="no listener of source other takes questions"):
        ask(listening, "shop.other", source="other")


def test_a_flood_of_questions_does_not_hold_up_events(listening: Listening, database: Database) -> None:
    settings = config.load(config.Listen, None, {key: str(value) for key, value in listening.settings.items()})
    with connection.rabbitmq_now(settings, name="test") as handle:
        for number in range(200):
            request(handle, f"relay.control.{database.name}", b"", {"command": "columns", "table": f"shop.{number}"})
            if number % 20 == 0:
                with database.admin().cursor() as cursor:
                    cursor.execute(f"""insert into shop."Odd, table" values ({number}, 1, 1)""")
    listening.await_empty()
    assert len(listening.messages(10)) == 10
    assert "Traceback" not in listening.script.log()


def test_a_locked_catalog_is_an_answer_and_the_listener_goes_on(listening: Listening, database: Database) -> None:
    with database.admin() as locking, locking.cursor() as cursor:
        cursor.execute("begin; lock table relay.wanted in access exclusive mode")
        with pytest.raises(NotFound, match="statement timeout"):
            ask(listening, "shop.Odd, table")
        cursor.execute("rollback")
    with database.admin().cursor() as cursor:
        cursor.execute("""insert into shop."Odd, table" values (1, 1, 1)""")
    listening.await_empty()


def test_receiver_py_asks_with_the_rights_of_a_receiver(listening: Listening, vhost: Vhost, odoo: Odoo) -> None:
    """README's patterns: it may write to the default exchange, for parking."""
    user = f"{vhost.name}-odoo"
    vhost.broker.add_user(user, "secret")
    patterns = ("^(relay|odoo|odoo\\.(lease|parked|control|holder))$", "^(amq\\.default|odoo)$", "^(relay|odoo)$")
    vhost.broker.grant(vhost.name, user, *patterns)
    url = vhost.broker.url(vhost.name, user, "secret")
    settings = {"RABBITMQ_URL": url, "QUEUE": "odoo", "TARGET": "odoo-load"}
    words = ["mapping", "shop.Odd, table", "res.partner", "--columns", f"@{listening.database.name}"]
    told = subprocess.run(
        [sys.executable, str(ROOT / "receiver.py"), *words], capture_output=True, text=True, timeout=60,
        env={**os.environ, **settings, **credentials(odoo)},
    )  # fmt: skip
    assert (told.returncode, told.stderr) == (0, "")
    assert 'id = "Odd_table_{Id}_{no}"' in told.stdout
    assert "# ? column größe: no field looks like it (numeric(12,3))" in told.stdout


def test_a_session_that_has_ended_owes_no_answer() -> None:
    now, told = 0.0, list[object]()
    questions = Questions(lambda: now)
    questions.begin(lambda: None)
    questions.ask("a.b", told.append)
    questions.begin(lambda: None)
    assert not questions.step(None)  # type: ignore[arg-type] - it is not used
    now += QUESTION_INTERVAL
    questions.ask("a.b", told.append)
    assert told == []
