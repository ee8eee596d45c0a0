-- Removes relay from the database you are connected to: all watches, schema relay, and the rights of its roles.
--
--     psql -d mydb -f sql/uninstall.sql
--     psql -d mydb -v force=1 -f sql/uninstall.sql     # although events wait in the outbox: they are lost
--
-- Run it as a superuser, or as the role that installed relay if it may also drop the triggers (as the tables' owner).
-- The roles are dropped as well, unless another database uses them (a warning says so).

\set ON_ERROR_STOP on
\set relay_quiet :QUIET
\set QUIET on
\if :{?force}
\else
    \set force 0
\endif
begin;
set local client_min_messages = warning;
set local search_path = pg_catalog, pg_temp;
set local lock_timeout = '5s';
set local standard_conforming_strings = on;
set local quote_all_identifiers = off;
select set_config('relay.force', :'force', true) \gset ignored_
\ir ours.sql

do $$
declare
    w record;
    r text;
    waiting bigint;
begin
    if to_regclass('relay.outbox') is null then
        raise exception 'relay is not installed in database %', current_database();
    end if;
    select count(*) into waiting from relay.outbox;
    if waiting > 0 and current_setting('relay.force') <> '1' then
        raise exception '% events wait in relay.outbox', waiting
            using hint = 'Let listen.py publish them first; or give them up: psql -v force=1 -f sql/uninstall.sql';
    end if;
    for w in select tbl from relay.watched loop
        perform relay.unwatch(w.tbl);
    end loop;
    drop schema relay cascade;
    drop schema if exists relay_readers cascade;
    foreach r in array array['relay_trigger', 'relay_compute', 'relay_listener', 'relay_publisher', 'relay_watcher',
                            'relay_owner'] loop
        begin
            if not pg_has_role(current_user, r, 'USAGE') then
                execute format('grant %I to current_user', r);
            end if;
            execute format('drop owned by %I', r);
            execute format('drop role %I', r);
        exception when dependent_objects_still_exist or insufficient_privilege or object_in_use then
            raise warning 'role % stays: %', r, sqlerrm;
        end;
    end loop;
end $$;
commit;
\set QUIET :relay_quiet
\echo relay: removed from database :DBNAME.
