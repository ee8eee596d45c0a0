-- Which version is installed? Sets relay_fresh and relay_from (0 = none); refuses a newer one.
select current_setting('server_version_num')::int >= 0 as ok,
    to_regclass('relay.outbox') is null as relay_fresh,
    to_regclass('relay.outbox') is not null as relay_there \gset
\set relay_from 0
\if :relay_there
    -- Read, not called: who made the roles before could have made the function, too.
    select (regexp_match(prosrc, '\d+'))[1] as relay_from from pg_proc where oid = to_regprocedure('relay.version()') \gset
\endif
select set_config('relay.from', :'relay_from', true), set_config('relay.to', :'relay_version', true) \gset ignored_

do $$
begin
    if current_setting('relay.from')::int > current_setting('relay.to')::int then
        raise exception 'this database has relay schema version %, newer than this install.sql (version %)',
            current_setting('relay.from'), current_setting('relay.to')
            using hint = 'Run the install.sql of the newer release.';
    end if;
end $$;
