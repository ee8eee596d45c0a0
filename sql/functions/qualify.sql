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
    alias constant text := 'r' || replace(gen_random_uuid()::text, '-', '');  -- does not occur in the condition
    definition text;
    immutable boolean;
    is_foreign boolean;
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
        definition := relay.definition_of('pg_temp.relay_when'::regclass);
        select coalesce(bool_and(p.provolatile = 'i'), true),
               exists (select from pg_roles r where r.oid = any (array_agg(p.proowner)) and not r.rolsuper and r.rolname <> current_user)
            into immutable, is_foreign
            from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
            left join pg_operator o on d.refclassid = 'pg_operator'::regclass and o.oid = d.refobjid
            join pg_proc p on p.oid = case d.refclassid when 'pg_proc'::regclass then d.refobjid else o.oprcode end
            where r.ev_class = 'pg_temp.relay_when'::regclass and p.oid >= 16384;
        perform relay.check_name(tbl, exists (
            select from pg_rewrite r join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = r.oid
            where r.ev_class = 'pg_temp.relay_when'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = tbl));
        drop view pg_temp.relay_when;
    exception when syntax_error_or_access_rule_violation or data_exception then
        raise exception 'relay.watch: "when" => % does not work for %: %', quote_literal(condition), tbl, sqlerrm
            using errcode = 'invalid_parameter_value',
                hint = 'Give a condition on the columns of one row, for example "when" => ''total > 100''.';
    end;
    definition := substring(definition from E'^\\s*SELECT (.*) AS ok\\s+FROM ONLY ');
    -- As PostgreSQL says of the WHERE of an index. It runs functions of constants for that: another's would run as who is here.
    begin
        if is_foreign then
            raise exception using errcode = case when immutable then 'RELAY' else 'invalid_object_definition' end;
        end if;
        perform set_config('standard_conforming_strings', 'on', true);
        execute format('create temporary table relay_when (like %s); create index on pg_temp.relay_when ((1)) where %s',
                       tbl, replace(definition, alias || '.', ''));
        raise exception using errcode = 'RELAY';
    exception when invalid_object_definition then
        raise notice 'relay.watch: "when" is not immutable: a setting of a writer''s session (DateStyle, TimeZone ...), or what its '
            'functions read, can have it say otherwise of the same row, and the target keeps a row that is gone'
            using hint = 'Compare values as what they are, not as text; timestamptz with a time zone given; '
                'functions that depend on their arguments alone are to be declared immutable.';
    when others then
        null;  -- nothing of that stays
    end;
    if octet_length(replace(definition, alias, 't')) > 8000 then  -- as relay.wanted has it
        raise exception 'relay.watch: "when" is longer than 8,000 bytes'
            using errcode = 'invalid_parameter_value', hint = 'Have a function do it, or a generated column.';
    end if;
    return array(select replace(definition, alias || '.', x) from unnest('{old.,new.,t.}'::text[]) x);
end $$;

-- relay.definition_of(view regclass) -> text
-- A view's query. Its constants are written so that each session reads them alike: those of a condition are read again by
-- sessions with other settings than that of who has watched.
create or replace function relay.definition_of(view regclass) returns text
language sql stable
set search_path = pg_catalog, pg_temp
set quote_all_identifiers = off
set standard_conforming_strings = on
set extra_float_digits = 1
set intervalstyle = 'postgres'
set datestyle = 'ISO, YMD'
set bytea_output = 'hex'
set timezone = 'UTC'
as $$ select pg_get_viewdef(view) $$;
