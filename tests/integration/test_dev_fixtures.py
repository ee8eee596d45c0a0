"""The fixtures do what the tests that use them rely on."""

from __future__ import annotations

from collections.abc import Callable

import pika
import psycopg2
import pytest

from dev.database import Database
from dev.script import Script
from dev.vhost import Vhost


def test_each_role_of_the_database_can_log_in_and_is_no_superuser_but_the_admin(database: Database) -> None:
    for opened, superuser in ((database.admin(), "on"), (database.listener(), "off"), (database.app(), "off")):
        with opened.cursor() as cursor:
            cursor.execute("SELECT current_setting('is_superuser'), current_database()")
            assert cursor.fetchone() == (superuser, database.name)


def test_the_application_role_owns_public_and_has_no_right_on_schema_relay(database: Database) -> None:
    with database.app().cursor() as cursor:
        cursor.execute("CREATE TABLE public.mine (id int PRIMARY KEY)")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            cursor.execute("SELECT * FROM relay.outbox")


def test_the_listener_role_is_in_the_group_that_install_sql_made(database: Database) -> None:
    with database.listener().cursor() as cursor:
        cursor.execute("SELECT pg_has_role(current_user, 'relay_listener', 'usage')")
        assert cursor.fetchone() == (True,)


@pytest.mark.parametrize("turn", [1, 2])
def test_a_database_and_a_vhost_are_fresh_for_each_test(database: Database, vhost: Vhost, turn: int) -> None:
    with database.admin().cursor() as cursor:
        cursor.execute("CREATE TABLE public.only_once (id int)")
    vhost.channel().queue_declare(f"only-once-{turn}")
    with pytest.raises(pika.exceptions.ChannelClosedByBroker, match="NOT_FOUND"):
        vhost.channel().queue_declare(f"only-once-{3 - turn}", passive=True)


def test_a_script_is_started_awaited_paused_and_ended(
    script: Callable[..., Script], wait_until: Callable[..., None]
) -> None:
    unknown = script("receiver.py", {"RABBITMQ_URL": "nonsense"})
    unknown.start()
    status = unknown.wait()
    assert status == 78, unknown.log()
    assert unknown.log().strip()
    assert not unknown.alive()
