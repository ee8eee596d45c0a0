-- Which version is installed? Sets relay_fresh and relay_from (0 = none); refuses a newer one.
select current_setting('server_version_num')::int >= 0 as ok,
    to_regclass('relay.outbox') is null as relay_fresh,
    to_regclass('relay.outbox') is not null as relay_there \gset
\set relay_from 0
\if :relay_there
    select relay.version() as relay_from \gset
\endif
select set_config('relay.from', :'relay_from', true), set_config('relay.to', :'relay_version', true) \gset ignored_

do $$
declare
    owner text := (select nspowner::regrole::text from pg_namespace where nspname = 'relay');
begin
    if owner <> 'relay_owner' then
        raise exception 'schema relay exists already and belongs to %', owner
            using hint = 'If it is something else, rename it; if an earlier install was changed by hand: '
                'alter schema relay owner to relay_owner;';
    end if;
    if current_setting('relay.from')::int > current_setting('relay.to')::int then
        raise exception 'this database has relay schema version %, newer than this install.sql (version %)',
            current_setting('relay.from'), current_setting('relay.to')
            using hint = 'Run the install.sql of the newer release.';
    end if;
end $$;
