-- relay.let_read_key(tbl regclass, columns text[]) -> void
-- Lets relay_trigger read these columns, and takes away what it could read before; '{}' = nothing. For
-- relay.key_taken: whether another row has a key now.
create or replace function relay.let_read_key(tbl regclass, columns text[]) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    schema constant regnamespace := (select relnamespace from pg_class where oid = tbl);
    readable text;
begin
    select string_agg(quote_ident(a.attname), ', ') into readable
        from pg_attribute a, aclexplode(a.attacl) g
        where a.attrelid = tbl and not a.attisdropped and g.grantee = 'relay_trigger'::regrole and g.privilege_type = 'SELECT';
    if readable is not null then
        execute format('revoke select (%s) on %s from relay_trigger', readable, tbl);
    end if;
    if exists (select from pg_policy where polrelid = tbl and polname = 'relay_trigger_reads') then
        execute format('drop policy relay_trigger_reads on %s', tbl);
    end if;
    if columns = '{}' then
        if not exists (select from pg_trigger t join pg_class c on c.oid = t.tgrelid
                       where c.relnamespace = schema and t.tgname like '!relay\_%')
           and has_schema_privilege(schema, 'USAGE WITH GRANT OPTION') then
            execute format('revoke usage on schema %s from relay_trigger', schema);
        end if;
        return;
    end if;

    execute format('grant select (%s) on %s to relay_trigger',
                   (select string_agg(quote_ident(c), ', ') from unnest(columns) c), tbl);
    if (select relrowsecurity from pg_class where oid = tbl) then
        execute format('create policy relay_trigger_reads on %s for select to relay_trigger using (true)', tbl);
    end if;
    if not has_schema_privilege('relay_trigger', schema, 'USAGE') then
        if not has_schema_privilege(schema, 'USAGE WITH GRANT OPTION') then
            raise exception 'relay.watch: role relay_trigger may not use schema %', schema
                using errcode = 'insufficient_privilege',
                    hint = format('As %s: grant usage on schema %s to relay_trigger;',
                        (select nspowner::regrole from pg_namespace where oid = schema), schema);
        end if;
        execute format('grant usage on schema %s to relay_trigger', schema);
    end if;
end $$;
