"""The owner of a database may set where every session in it looks for names first: none of ours finds another's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dev.database import Database
from dev.script import Script
from dev.vhost import Vhost
from tests.listening import Listening, run

Make = Callable[..., Script]

# For each function, operator and type of PostgreSQL's own one of the same name and arguments in schema evil.
TRAPS = r"""
create schema evil; grant usage on schema evil to public;
create function evil.tell() returns bool language plpgsql as $$begin
    if current_user = 'relay_listener_test' then raise log 'reached by %', current_query(); end if;
    return true;
end$$;
do $$
declare
    x record;
    body constant text := 'language plpgsql as $f$begin perform evil.tell(); return';
begin
    for x in
        select p.proname, pg_get_function_identity_arguments(p.oid) as given,
            p.prorettype::regtype as result, p.proretset
        from pg_proc p where pronamespace = 'pg_catalog'::regnamespace and prokind = 'f'
    loop
        begin
            execute format('create function evil.%I(%s) returns %s %s %s%s; end$f$', x.proname, x.given,
                           case when x.proretset then 'setof' end, x.result, body,
                           case when not x.proretset then ' null' end);
        exception when others then null;  -- one of internal arguments
        end;
    end loop;
    for x in
        select o.oprname as name, o.oprleft::regtype as a, o.oprright::regtype as b, o.oprresult::regtype as result
        from pg_operator o where o.oprnamespace = 'pg_catalog'::regnamespace and o.oprleft <> 0
    loop
        begin
            execute format('create or replace function evil.op(%s, %s) returns %s %s null; end$f$', x.a, x.b, x.result,
                           body);
            execute format('create operator evil.%s (leftarg = %s, rightarg = %s, function = evil.op)',
                           x.name, x.a, x.b);
        exception when others then null;
        end;
    end loop;
    for x in
        select t.typname from pg_type t where t.typnamespace = 'pg_catalog'::regnamespace
        and t.typname = any ('{text,json,uuid,regclass,oid,int8,int4,float8,timestamptz,bytea}')
    loop
        execute format('create domain evil.%1$I as pg_catalog.%1$I check (evil.tell())', x.typname);
    end loop;
end $$;
"""


@pytest.fixture
def listening(script: Make, database: Database, vhost: Vhost) -> Listening:
    made = Listening(script, database, vhost, LISTEN_CHANNELS="chan")
    made.bind()
    made.table()
    made.admin(TRAPS)
    assert made.admin("select count(*) > 1000 from pg_proc where pronamespace = 'evil'::regnamespace") == [(True,)]
    made.admin(f"alter database {database.name} set search_path = evil, pg_catalog, public")
    return made


def test_nothing_of_the_database_owner_s_runs_as_the_listener(listening: Listening) -> None:
    listening.start()
    listening.execute("insert into t values (1)", "select pg_catalog.pg_notify('chan', '1')")
    assert len(listening.messages(2)) == 2
    listening.admin("select relay.publish('nobody', '{}', key => 'k')")
    assert run(listening, "resend", "t").returncode == 0
    assert len(listening.messages(2)) == 2
    assert run(listening, "status").returncode == 0
    assert "FAILED" not in run(listening, "check").stdout
    event = "018f0000-0000-8000-8000-000000000000"
    assert [run(listening, *words).returncode for words in (("release", "--all"), ("drop", event, "--yes"))] == [0, 1]
    assert "reached by" not in listening.database.server.log.read_text()
