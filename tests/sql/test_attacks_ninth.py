"""What fell to the ninth attack."""

from __future__ import annotations

import pytest

from tests.sql.conftest import SQL, TENANT, evil, note, own_read_by, reached


@pytest.fixture
def reader_of_all(admin, tenant):
    """The tenant may read all data, and owns a watched table; a superuser has two."""
    if admin.connection.server_version < 140000:
        pytest.skip("pg_read_all_data came with PostgreSQL 14")
    admin.sql(f"""
        create table public.own (id int primary key); select relay.watch('public.own');
        create table public.other (id int primary key); select relay.watch('public.other');
        grant pg_read_all_data to {TENANT};
    """)
    tenant.sql("create table tenant.t (id int primary key); select relay.watch('tenant.t')")
    yield tenant
    admin.sql(f"revoke pg_read_all_data from {TENANT}")


def sampled(session) -> str:
    """All values that ANALYZE has kept of relay.wanted."""
    return " ".join(
        map(
            str,
            session.sql("""
        select stavalues1, stavalues2, stavalues3, stavalues4, stavalues5 from pg_statistic
        where starelid = 'relay.wanted'::regclass
    """),
        )
    )


def test_no_secret_is_in_statistics(admin, reader_of_all):
    """Those have no row level security: who may read all data had each reader's secret there, a superuser's too."""
    admin.sql("analyze relay.wanted")
    secrets = [secret for (secret,) in admin.sql("select secret from relay.wanted")]
    assert len(secrets) == 4
    found = sampled(reader_of_all)
    assert "public.own" in found
    assert [secret for secret in secrets if secret in found] == []


def test_what_was_sampled_before_is_gone_with_the_next_install(admin, reader_of_all, database):
    """Without other secrets: these go on."""
    before = admin.sql("select tbl, secret from relay.wanted order by tbl")
    admin.sql("alter table relay.wanted alter column secret set statistics -1; analyze relay.wanted")
    assert all(secret in sampled(reader_of_all) for _, secret in before)
    database.server.psql(SQL / "install.sql", database.admin_dsn)
    assert not any(secret in sampled(reader_of_all) for _, secret in before)
    admin.sql("analyze relay.wanted")
    assert not any(secret in sampled(reader_of_all) for _, secret in before)
    assert admin.sql("select tbl, secret from relay.wanted order by tbl") == before


def test_no_key_that_a_row_has_is_told_as_deleted_for_want_of_stack(admin):
    """Whoever may update rows called itself until nothing was left for the reader, but enough for the event."""
    own_read_by(admin, "return relay_readers.{reader}(question)")
    assert admin.error("update own set id = 3 - id").pgcode == "54001"
    assert (admin.story(), admin.sql("select id from own order by id")) == ([], [(1,), (2,)])


def test_a_reader_that_was_restored_without_its_rights_is_noted(admin):
    """install.sql gives back what `pg_restore --no-acl` leaves out, but this: swapped keys were told as deleted."""
    admin.sql("create table public.own (id int primary key deferrable); select relay.watch('public.own')")
    reader = admin.value("select reader from relay.wanted where tbl = 'own'::regclass")
    assert note(admin, "own") == ""
    admin.sql(f"revoke execute on function relay_readers.{reader}(relay_readers.{reader}) from relay_compute")
    assert "relay_compute's to call" in note(admin, "own")
    admin.sql("select relay.watch('public.own')")
    assert note(admin, "own") == ""


def test_no_key_that_a_row_has_is_told_as_deleted_for_a_failure_to_serialize(admin, connect):
    """PostgreSQL found out as the reader looked, that was passed over, and the transaction could commit."""
    admin.sql("""
        create table public.own (id int, v text); create index on own (id); select relay.watch('own', key => '{id}');
        create table public.other (n int); insert into other values (1);
        alter table own alter v set storage plain;
        insert into own select i, repeat('x', 3000) from generate_series(1, 2) i;
    """)
    admin.story()
    first, pivot = connect(), connect()
    first.sql("set enable_seqscan = off; set enable_bitmapscan = off; begin isolation level serializable; select 1")
    pivot.sql("begin isolation level serializable; select from other")
    admin.sql("begin isolation level serializable; update other set n = 2; commit")
    pivot.sql("insert into own values (2, repeat('x', 3000)); commit")  # on another page: the update does not meet it
    error = first.error("update own set id = 3 - id where ctid in ('(0,1)', '(0,2)')")
    assert (error.pgcode, "ask_reader" in (error.diag.context or "")) == ("40001", True)
    first.sql("rollback")
    assert admin.story() == [("insert", 2)]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_statistics_made_behind_a_snapshot_run_nothing_with_the_writer_s_temporary_views(admin, tenant, isolation):
    """They are not in the snapshot, but the planner computes what is constant in them, as the owner of the table."""
    if admin.connection.server_version < 140000:
        pytest.skip("statistics on expressions came with PostgreSQL 14")
    evil(tenant, "", "int", "1")
    admin.sql(f"""
        create table public.settings (n int); insert into settings values (1);
        create function public.f() returns int language plpgsql immutable as
            'begin return (select n from settings); end';
        create table public.own (id int primary key deferrable, v int); insert into own values (1, 1), (2, 2);
        select relay.watch('public.own'); grant all on own to {TENANT};
    """)
    tenant.sql("create temporary view settings as select tenant.evil() as n; grant select on settings to public")
    tenant.sql(f"begin isolation level {isolation}; select 1")
    admin.sql("create statistics st on (v + f()), id from own")
    tenant.sql("update public.own set id = 3 - id; commit")
    assert reached(tenant) <= {TENANT}
    admin.story()
    admin.sql("drop statistics st")
    admin.sql(f"begin isolation level {isolation}; update own set id = 3 - id; commit")
    assert sorted(admin.story()) == [("insert", 1), ("insert", 2)], "nothing temporary is there"
