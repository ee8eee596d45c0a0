"""What fell to the fourth attack.

Views with triggers made by hand, rights that changed behind the snapshot of a transaction, numbers that were never left
free, and conditions made of thousands of functions.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import psycopg2
import pytest

from dev.database import Database
from tests.sql.conftest import TENANT, Session, login, reached


def resend(database: Database, table: str, after: str | None = None) -> set[str]:
    """As whom a tenant's code ran when an operator resent a table's rows."""
    listener = Session(database.listener())
    with contextlib.suppress(psycopg2.Error):
        listener.sql("select * from relay.resend_chunk(%s, %s, 1000, null)", table, after)
    with contextlib.suppress(psycopg2.Error):
        listener.sql("select * from relay.resend_row(%s, %s, null)", table, after or '{"id": 1}')
    return reached(listener)


def test_a_view_is_not_resent(admin, tenant, database):
    """Its functions ran as relay_trigger, who reads every watched table."""
    tenant.sql("""
        create function tenant.evil(int) returns int language plpgsql as
            $$begin raise notice 'reached as %', current_user; return $1; end$$;
        create table tenant.t (id int primary key); insert into tenant.t values (1);
        create view tenant.v as select tenant.evil(id) as id from tenant.t;
        create trigger "!relay_insert" instead of insert on tenant.v for each row execute function
            relay.row_event('t', 't', 'insert', '{1}', '{}', 'id');
        grant select, update on tenant.v to relay_trigger; grant usage on schema tenant to relay_trigger;
    """)
    assert resend(database, "tenant.v") == set()


SNAPSHOTS = ["read committed", "repeatable read", "serializable"]
OURS = "alter schema shop owner to {0}; alter type shop.mood owner to {0}; alter table shop.t owner to {0}"
TYPE = "alter type shop.mood owner to {0}; grant create on schema shop to {0}"
GIVEN_AWAY = {
    "all": ("select", OURS.format(TENANT)),
    "its type": ("select", TYPE.format(TENANT)),
    "a right": (f"alter type shop.mood owner to {TENANT}", f"grant create on schema shop to {TENANT}"),
    "membership": (
        f"alter type shop.mood owner to shop_test; grant create on schema shop to {TENANT}",
        f"grant shop_test to {TENANT}",
    ),
}


@pytest.fixture
def shop(admin: Session, tenant: Session) -> Iterator[Session]:
    """A superuser's tables that the tenant may write to."""
    admin.sql(f"""
        create role shop_test; create schema shop; create type shop.mood as enum ('a', 'b', 'c');
        create table shop.t (id shop.mood primary key deferrable); select relay.watch('shop.t');
        create table shop.p (id int, primary key (id) deferrable) partition by range (id); select relay.watch('shop.p');
        create table shop.x (id int); create table shop.p1 partition of shop.p for values from (0) to (10);
        insert into shop.t values ('a'); insert into shop.p values (1); delete from relay.outbox;
        grant usage on schema shop to {TENANT}; grant all on all tables in schema shop to {TENANT};
    """)
    tenant.sql("""
        create function tenant.evil(anyelement) returns bool language plpgsql immutable as
            $$begin raise notice 'reached as %', current_user; return true; end$$;
    """)
    yield tenant
    tenant.sql("rollback")
    admin.sql("drop owned by shop_test cascade; drop role shop_test")


@pytest.mark.parametrize("isolation", SNAPSHOTS)
@pytest.mark.parametrize("given", GIVEN_AWAY)
def test_what_is_given_away_behind_a_snapshot_has_nothing_run_as_an_owner(admin, shop, database, isolation, given):
    """Who owns the table, and who can rename what its key is made of, was asked of the snapshot."""
    before, meanwhile = GIVEN_AWAY[given]
    admin.sql(before)
    shop.sql(f"begin isolation level {isolation}; select from shop.x")
    admin.sql(meanwhile)
    other = login(database, TENANT)
    other.sql("alter type shop.mood rename to was; create domain shop.mood as shop.was check (tenant.evil(value))")
    shop.sql("update shop.t set id = 'b'")
    assert ("shop.t",) in shop.sql("select tbl::text from relay.watched")
    shop.sql("commit")
    other.connection.close()
    assert reached(shop) <= {TENANT}
    assert admin.story() == [("delete", "a"), ("insert", "b")]


@pytest.mark.parametrize("isolation", SNAPSHOTS)
def test_who_became_a_member_behind_a_snapshot_may_rename(admin, shop, connect, isolation):
    """It could do so while the key is looked up."""
    before, meanwhile = GIVEN_AWAY["membership"]
    admin.sql(before)
    admin.sql(f"begin isolation level {isolation}; select from shop.x")
    connect().sql(meanwhile)
    found = admin.value("select relay.renamers('shop.t'::regclass, '{1}', true)::regrole[]::text[]")
    assert sorted(found) == ["shop_test", TENANT]
    admin.sql("commit")


@pytest.mark.parametrize("isolation", SNAPSHOTS)
def test_a_partition_made_behind_a_snapshot_has_nothing_run_as_a_table_s_owner(admin, shop, database, isolation):
    """The planner runs functions of constants in its indexes."""
    shop.sql(f"begin isolation level {isolation}; select from shop.x")
    other = login(database, TENANT)
    other.sql("""
        create table tenant.p2 (id int not null); insert into tenant.p2 values (11);
        create index on tenant.p2 (tenant.evil(1));
    """)
    other.connection.close()
    admin.sql("alter table shop.p attach partition tenant.p2 for values from (10) to (20)")
    shop.sql("update shop.p set id = 2 where id = 1")
    shop.sql("commit")
    assert reached(shop) <= {TENANT}
    assert admin.story() == [("delete", 1), ("insert", 2)]


@pytest.mark.parametrize("isolation", SNAPSHOTS)
@pytest.mark.parametrize("table", ["t", "p"])
def test_whatever_the_snapshot_a_key_that_another_row_has_is_no_delete(admin, shop, isolation, table):
    admin.sql("insert into shop.t values ('b'); insert into shop.p values (2); delete from relay.outbox")
    shop.sql(f"begin isolation level {isolation}; select from shop.x")
    admin.sql("create table shop.more (id int)")
    shop.sql({"t": "update shop.t set id = case id when 'a' then 'b' else 'a' end::shop.mood",
              "p": "update shop.p set id = 3 - id"}[table])  # fmt: skip
    shop.sql("commit")
    assert {op for op, _ in admin.story()} == {"insert"}


AGAIN = """
    create table tenant.t (id int primary key, n int); select relay.watch('tenant.t');
    insert into tenant.t values (1, 0);
    create function tenant.again(to_go int) returns int language plpgsql as $$begin
        if to_go > 0 then
            update tenant.t set n = n + 1, id = {key} where true returning tenant.again(to_go - 1) into to_go;
        end if; return to_go; end$$;
    create table tenant.go (levels int, to_go int);
    create function tenant.go() returns trigger language plpgsql as $$begin
        if new.levels > 1 then insert into tenant.go values (new.levels - 1, new.to_go);
        else perform tenant.again(new.to_go); end if; return null; end$$;
    create trigger go after insert on tenant.go for each row execute function tenant.go();
"""


@pytest.mark.parametrize("key", ["id", "id + 1"])
@pytest.mark.parametrize("levels", [1, 3, 12])
def test_numbers_are_taken_only_where_they_were_left_free(admin, tenant, connect, levels, key):
    """Functions that a statement calls, each of which changes the row again, are all at one depth of triggers.

    Each took the number below the one before: another session's, which failed one of the two.
    """
    tenant.sql(AGAIN.format(key=key))
    admin.sql("create table public.other (id int primary key); select relay.watch('other')")
    for first in range(0, 10_000, 1_000):
        connect().sql("insert into other select generate_series(%s, %s)", first, first + 50)
        taken = {seq for (seq,) in admin.sql("select seq from relay.outbox")}
        tenant.sql("insert into tenant.go values (%s, 30)", levels)
        new = [seq for (seq,) in admin.sql("select seq from relay.outbox") if seq not in taken]
        assert len(new) == (30 if key == "id" else 60)
        assert min(new) > max(taken)


def test_a_change_in_a_change_of_one_statement_keeps_its_order_as_far_as_numbers_were_left_free(admin, tenant):
    tenant.sql(AGAIN.format(key="id"))
    tenant.sql("insert into tenant.go values (1, 2)")
    assert [(e["old"] or {}).get("n") for e in admin.events() if e["table"] == "tenant.t"] == [None, 0, 1]


def test_conditions_made_of_thousands_of_functions_keep_nobody_from_reading_about_the_others(admin, tenant, database):
    tenant.sql("""
        create table tenant.t (id int primary key); select relay.watch('tenant.t', ops => '{truncate}');
        do $do$ begin
            for i in 1..1000 loop
                execute format('create function tenant.f%s(int) returns bool language sql as ''select true''', i);
            end loop;
            for i in 1..150 loop
                execute format('create trigger "!relay_%s" after insert on tenant.t for each row when (%s) '
                    'execute function relay.row_event(''t'', ''t'', ''insert'', ''{1}'', ''{}'', ''id'')', i,
                    (select string_agg(format('tenant.f%s(new.id)', n), ' and ') from generate_series(1, 1000) n));
            end loop;
        end $do$;
    """)
    listener, took = Session(database.listener()), []
    for _ in range(3):
        began = time.monotonic()
        assert ("victim.secret",) in listener.sql("select tbl::text from relay.watched")
        took.append(time.monotonic() - began)
    assert min(took) < 2
