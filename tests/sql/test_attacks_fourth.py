"""What fell to the fourth attack.

Ranges with a function of their own, views and foreign tables with triggers made by hand, numbers that were never left
free, and rights that changed behind the snapshot of a transaction.
"""

from __future__ import annotations

import contextlib

import psycopg2
import pytest

from dev.database import Database
from tests.sql.conftest import TENANT, Session, login
from tests.sql.test_attacks_third import reached


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


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_a_table_given_away_behind_a_snapshot_has_nothing_run_as_its_former_owner(admin, tenant, database, isolation):
    admin.sql(f"""
        create schema app; create type app.mood as enum ('a', 'b', 'c'); create table app.t (id app.mood primary key);
        select relay.watch('app.t'); insert into app.t values ('a');
        grant all on schema app to {TENANT}; grant all on app.t to {TENANT}; revoke create on schema app from {TENANT};
        create table app.x (id int); grant all on app.x to {TENANT};
    """)
    tenant.sql("""
        create function tenant.evil(anyelement) returns bool language plpgsql as
            $$begin raise notice 'reached as %', current_user; return true; end$$;
    """)
    other = login(database, TENANT)
    tenant.sql(f"begin isolation level {isolation}; select from app.x")
    admin.sql(f"alter schema app owner to {TENANT}; alter type app.mood owner to {TENANT}; alter table app.t owner to {TENANT}")
    other.sql("alter type app.mood rename to was; create domain app.mood as app.was check (tenant.evil(value))")
    tenant.sql("update app.t set id = 'b'; commit")
    other.connection.close()
    assert reached(tenant) <= {TENANT}
    assert admin.events()


AGAIN = """
    create table tenant.t (id int primary key, n int); select relay.watch('tenant.t'); insert into tenant.t values (1, 0);
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
