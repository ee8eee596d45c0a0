-- relay.let_read(tbl regclass, columns text[], calls boolean) -> void
-- Lets relay_trigger read this table, and lock its rows, for relay.key_taken (whether another row has a key now) and
-- relay.resend_chunk; takes away what it could before. No code of a user ever runs as relay_trigger.
--   columns  the key; '{}' = nothing any more
--   calls    whether a condition may name functions or types of the table's schema: relay.compute needs USAGE then
create or replace function relay.let_read(tbl regclass, columns text[], calls boolean) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    schema constant regnamespace := (select relnamespace from pg_class where oid = tbl);
    grantable constant boolean := has_schema_privilege(schema, 'USAGE WITH GRANT OPTION');
    role text;
begin
    execute format('revoke all on %s from relay_trigger', tbl);  -- of its columns as well
    if exists (select from pg_policy where polrelid = tbl and polname = 'relay_trigger_reads') then
        execute format('drop policy relay_trigger_reads on %s', tbl);  -- of schema version 1
    end if;
    if columns = '{}' then
        if grantable and not exists (select from pg_trigger t join pg_class c on c.oid = t.tgrelid
                                     where c.relnamespace = schema and t.tgname like '!relay\_%') then
            execute format('revoke usage on schema %s from relay_trigger, relay_compute', schema);
        end if;
        return;
    end if;

    execute format('grant select, update (%I) on %s to relay_trigger', columns[1], tbl);
    foreach role in array case when calls then '{relay_trigger,relay_compute}' else '{relay_trigger}' end::text[] loop
        continue when has_schema_privilege(role, schema, 'USAGE');
        if not grantable then
            raise exception 'relay.watch: role % may not use schema %', role, schema
                using errcode = 'insufficient_privilege',
                    hint = format('As %s: grant usage on schema %s to %I;',
                        (select nspowner::regrole from pg_namespace where oid = schema), schema, role);
        end if;
        execute format('grant usage on schema %s to %I', schema, role);
    end loop;
end $$;
