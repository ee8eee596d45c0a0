"""The private PostgreSQL survives what tests do to it, and leaves nothing behind."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psycopg2
import pytest

from dev.database import connect, execute
from dev.postgres import Flavour, Postgres
from dev.process import Process, ServerError, processes_below, wait_until


def rows(server: Postgres) -> int:
    with contextlib.closing(connect(server.dsn())) as opened, opened.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM kept")
        found = cursor.fetchone()
        return found[0] if found else -1


def abandoned_segments() -> set[str]:
    """System V shared memory that nobody is attached to (other servers of this machine are attached to theirs)."""
    lines = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return {fields[1] for fields in map(str.split, lines) if fields[6] == "0"}


def test_committed_rows_survive_a_stop_a_kill_and_a_restart_on_the_same_port(private_postgres: Postgres) -> None:
    port = private_postgres.port
    execute(private_postgres.dsn(), "CREATE TABLE kept (id int)", "INSERT INTO kept VALUES (1)")
    private_postgres.stop()
    with pytest.raises(psycopg2.OperationalError):
        rows(private_postgres)
    private_postgres.start()
    execute(private_postgres.dsn(), "INSERT INTO kept VALUES (2)")
    private_postgres.kill()
    with pytest.raises(psycopg2.OperationalError):
        rows(private_postgres)
    private_postgres.start()
    private_postgres.restart("immediate")
    assert rows(private_postgres) == 2
    assert private_postgres.port == port


def test_a_paused_server_answers_nobody_until_it_is_resumed(private_postgres: Postgres) -> None:
    private_postgres.pause()
    with pytest.raises(psycopg2.OperationalError, match="timeout"):
        psycopg2.connect(private_postgres.dsn(), connect_timeout=2)
    private_postgres.resume()
    connect(private_postgres.dsn()).close()


def test_a_wrong_password_is_refused(postgres: Postgres) -> None:
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        connect(postgres.dsn(password="wrong"))


def test_the_settings_are_those_that_crash_tests_need(private_postgres: Postgres) -> None:
    with contextlib.closing(connect(private_postgres.dsn())) as opened, opened.cursor() as cursor:
        for name, value in (("fsync", "on"), ("max_prepared_transactions", "20"), ("listen_addresses", "127.0.0.1")):
            cursor.execute(f"SHOW {name}")
            assert cursor.fetchone() == (value,)


@pytest.mark.parametrize("flavour", ["embedded", "system"])
def test_two_servers_run_side_by_side_and_leave_nothing(run_directory: Path, flavour: Flavour) -> None:
    if flavour == "system" and not list(Path("/usr/lib/postgresql").glob("*/bin/postgres")):
        pytest.skip("this host has no PostgreSQL server installed, and PG=embedded does not need one")
    before = abandoned_segments()
    servers = [Postgres(run_directory / "side" / name, flavour) for name in ("a", "b")]
    family: list[Process] = []
    try:
        for server in servers:
            server.start()
            execute(server.dsn(), "CREATE TABLE kept (id int)")
            assert server.process
            family += server.process.tree()
        assert servers[0].port != servers[1].port
        servers[0].stop()
        assert rows(servers[1]) == 0
        servers[1].kill()  # also a killed server's shared memory must go
    finally:
        for server in servers:
            server.remove()
    wait_until(lambda: not any(process.alive() for process in family), 10, "all processes to end")
    assert not any(server.directory.exists() for server in servers)
    assert not processes_below(run_directory / "side")
    assert abandoned_segments() <= before


def test_a_second_object_on_the_directory_is_the_same_server(private_postgres: Postgres) -> None:
    same = Postgres(private_postgres.directory, private_postgres.flavour)
    assert same.process == private_postgres.process
    same.start()  # runs already: nothing happens
    assert same.dsn() == private_postgres.dsn()


def test_a_directory_without_postgresql_is_named(run_directory: Path) -> None:
    with pytest.raises(ServerError, match=r"PG=/nowhere/bin: no program postgres there; give embedded, system or"):
        Postgres(run_directory / "none", "/nowhere/bin").start()


def test_any_postgresql_can_be_given_by_its_directory(private_postgres: Postgres) -> None:
    assert Postgres(private_postgres.directory, str(private_postgres.bin)).bin == private_postgres.bin.resolve()
