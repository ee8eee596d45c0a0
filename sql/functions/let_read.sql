-- relay.let_read(tbl regclass, columns text[], filter text) -> void
-- Lets relay_trigger read this table, and lock its rows, for relay.resend_chunk; takes away what it could before. No code of a user ever runs as relay_trigger.
--   columns  the key; '{}' = nothing any more
--   filter   the condition, or null: if it names something of a schema, relay_compute needs USAGE to look at it again. It is not
--            given that here: all code that runs in its box, of other owners too, would have it as well.
create or replace function relay.let_read(tbl regclass, columns text[], filter text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    schema constant regnamespace := (select relnamespace from pg_class where oid = tbl);
    grantable constant boolean := has_schema_privilege(schema, 'USAGE WITH GRANT OPTION');
    role text;
begin
    perform relay.grant_on(tbl, 'revoke all on %s from relay_trigger');  -- of its columns as well
    if exists (select from pg_policy where polrelid = tbl and polname = 'relay_trigger_reads') then
        execute format('drop policy relay_trigger_reads on %s', tbl);  -- of schema version 1
    end if;
    if columns = '{}' then
        -- In relay_readers a relay_watcher may make tables, and a trigger by hand.
        if grantable and schema <> 'relay_readers'::regnamespace and not exists (select from pg_trigger t join pg_class c on c.oid = t.tgrelid
                                     where c.relnamespace = schema and t.tgname like E'!relay\\_%') then
            execute format('revoke usage on schema %s from relay_trigger, relay_compute, relay_owner', schema);
        end if;
        return;
    end if;

    perform relay.grant_on(tbl, 'grant select, update on %s to relay_trigger');
    foreach role in array array['relay_trigger']
            -- bulk_event, which is relay_owner's, names the table's type.
            || case when exists (select from pg_trigger where tgrelid = tbl and tgname like E'!relay\\_%'
                                 and coalesce(tgnewtable, tgoldtable) is not null)
                    then array['relay_owner'] end loop
        continue when has_schema_privilege(role, schema, 'USAGE');
        if not grantable then
            raise exception 'relay.watch: role % may not use schema %', role, schema
                using errcode = 'insufficient_privilege',
                    hint = format('As %s: grant usage on schema %s to %I;',
                        (select nspowner::regrole from pg_namespace where oid = schema), schema, role);
        end if;
        execute format('grant usage on schema %s to %I', schema, role);
    end loop;
    if strpos(filter, schema || '.') > 0 and not has_schema_privilege('relay_compute', schema, 'USAGE') then
        raise notice 'relay.watch: rows of % are not resent, and keys that they exchange are told as deleted and inserted: '
            'role relay_compute may not use schema %, which "when" names', tbl, schema
            using hint = format('If the code of all who own watched tables may have that right: grant usage on schema %s to relay_compute;',
                                schema);
    end if;
end $$;

-- relay.grant_on(tbl regclass, statement text) -> void
-- A GRANT or REVOKE on a table, and on no other that gets its name meanwhile: no lock keeps anybody from that.
create or replace function relay.grant_on(tbl regclass, statement text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    before constant tid := (select ctid from pg_class where oid = tbl);
begin
    execute format(statement, tbl);
    perform relay.check_name(tbl, (select ctid from pg_class where oid = tbl) <> before);
end $$;
