-- relay.qualify(tbl regclass, condition text, path text) -> text[]
-- A condition on a row three times, its columns prefixed with old, new and t, everything else with its schema: for the
-- WHEN of triggers, and for a query. PostgreSQL itself does the parsing and the printing, in a temporary view. Null
-- for null.
--   path  the search_path for names in the condition
--     select relay.qualify('public.orders', 'total > 5', 'public');
--     -- {((old.total > (5)::numeric) IS TRUE), ((new.total > (5)::numeric) IS TRUE), ...}
create or replace function relay.qualify(tbl regclass, condition text, path text) returns text[]
language plpgsql
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
as $$
declare
    alias constant text := 'r' || md5(condition);  -- cannot occur in the condition
    definition text;
begin
    if condition is null then
        return null;
    elsif not has_database_privilege(current_database(), 'TEMP') then
        raise exception 'relay.watch: "when" needs the right to create a temporary view'
            using errcode = 'insufficient_privilege',
                hint = format('grant temporary on database %I to %I;', current_database(), current_user);
    end if;
    begin
        perform set_config('search_path', path, true);
        execute pg_catalog.format('create temporary view relay_when as select (%s) is true as ok '
            'from only %s as %I, (values (1)) as relay_none ("relay: no column")', condition, tbl, alias);
        perform pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        definition := pg_get_viewdef('pg_temp.relay_when'::regclass);
        drop view pg_temp.relay_when;
    exception when syntax_error_or_access_rule_violation or data_exception then
        raise exception 'relay.watch: "when" => % does not work for %: %', quote_literal(condition), tbl, sqlerrm
            using errcode = 'invalid_parameter_value',
                hint = 'Give a condition on the columns of one row, for example "when" => ''total > 100''.';
    end;
    definition := substring(definition from E'^\\s*SELECT (.*) AS ok\\s+FROM ONLY ');
    if octet_length(replace(definition, alias, 't')) > 8000 then  -- as relay.wanted has it
        raise exception 'relay.watch: "when" is longer than 8,000 bytes'
            using errcode = 'invalid_parameter_value', hint = 'Have a function do it, or a generated column.';
    end if;
    return array(select replace(definition, alias || '.', x) from unnest('{old.,new.,t.}'::text[]) x);
end $$;
