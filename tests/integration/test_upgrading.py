"""docs/upgrading.md: from each released version of the schema, as it says, and what program and schema do in between.

That an upgraded schema is a new one, in every detail: tests/sql/test_upgrade.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import relay
from dev.database import INSTALL_SQL, Database, create, drop, ensure_login, execute, join_listener_group
from dev.postgres import Postgres
from dev.script import ROOT, Script
from dev.vhost import Vhost
from relay.listening.schema import SCHEMA_VERSION
from tests.listening import Listening, run

Make = Callable[..., Script]
PAGE = (ROOT / "docs" / "upgrading.md").read_text()
FROZEN = {int(path.stem): path for path in (ROOT / "tests" / "sql" / "versions").glob("*.sql")}


def test_the_page_knows_each_version_of_the_schema_and_this_program() -> None:
    assert [int(one) for one in re.findall(r"^### From (\d+)$", PAGE, re.MULTILINE)] == sorted(FROZEN)
    assert f"| {relay.__version__} | {SCHEMA_VERSION} |" in PAGE
    assert max(FROZEN) == SCHEMA_VERSION - 1, "the present one, until it is released, is not frozen"
    assert f"### From {SCHEMA_VERSION}, the present one" in PAGE


@pytest.fixture
def old(private_postgres: Postgres) -> Iterator[Callable[[Path], Database]]:
    """A database with a schema of an earlier release. On the second server: the roles are those of all databases."""
    made = Database(private_postgres, "released")

    def install(script: Path) -> Database:
        for role in (Database.LISTENER, Database.APP):
            ensure_login(made.server, role, Database.PASSWORD)
        drop(made.server, made.name)
        create(made.server, made.name)
        with made.admin().cursor() as cursor:  # as version 1 knew the role
            cursor.execute("select from pg_roles where rolname = 'relay_trigger'")
            if cursor.fetchall():
                cursor.execute("alter role relay_trigger nobypassrls")
        made.server.psql(script, made.admin_dsn)
        execute(made.admin_dsn, f"alter schema public owner to {Database.APP}")
        join_listener_group(made.server, Database.LISTENER)
        return made

    yield install
    made.drop()


@pytest.mark.parametrize("version", [one for one in sorted(FROZEN) if one < SCHEMA_VERSION])
def test_from_an_older_schema(script: Make, old: Callable[[Path], Database], vhost: Vhost, version: int) -> None:
    listening = Listening(script, old(FROZEN[version]), vhost)
    listening.bind()
    listening.table()
    listening.execute("insert into t values (1, 1)")

    listening.script.start()
    assert listening.script.wait() == 78
    command = f"psql -v ON_ERROR_STOP=1 -f {INSTALL_SQL} -d released"
    said = f"schema relay is version {version}, this program needs {SCHEMA_VERSION} -> upgrade it: {command}"
    assert said in listening.script.log()
    shown = run(listening, "check")
    assert shown.returncode == 78
    assert f"FAILED  schema relay: {said}" in shown.stdout

    listening.execute("update t set n = 2")  # nobody has to stop
    listening.database.server.psql(INSTALL_SQL, listening.database.admin_dsn)
    listening.execute("update t set n = 3")
    listening.start()
    assert [one.json["new"]["n"] for one in listening.messages(3)] == [1, 2, 3]
    listening.await_empty()
    assert run(listening, "check").returncode == 0


def test_a_listener_at_work_waits_for_the_program_that_fits_a_newer_schema(
    script: Make, database: Database, vhost: Vhost
) -> None:
    listening = Listening(script, database, vhost)
    listening.bind()
    listening.table()
    listening.start()

    def become(version: int) -> None:
        listening.admin(f"create or replace function relay.version() returns int language sql as 'select {version}'")
        listening.admin(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{Database.LISTENER}'")

    become(SCHEMA_VERSION + 1)
    newer = f"schema relay is version {SCHEMA_VERSION + 1}, newer than this program knows ({SCHEMA_VERSION})"
    listening.script.wait_for_log(f"{newer} -> install the newer version of the relay state=waiting")
    listening.execute("insert into t values (1, 1)")
    assert listening.script.alive()
    become(SCHEMA_VERSION)
    listening.await_empty()
    assert len(listening.messages(1)) == 1
