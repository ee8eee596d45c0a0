-- relay.check_table(tbl regclass) -> text
-- The table's name in events, schema.table without quotes; an error if it cannot be watched by the caller.
create or replace function relay.check_table(tbl regclass) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    t record;
    above regclass;
    problem text;
    remedy text;
begin
    select format('%s belongs to %s', p.oid::regproc, p.proowner::regrole) into problem from pg_proc p
        where p.pronamespace = 'relay'::regnamespace and p.proname in ('compute', 'boxed', 'ask_reader')
        and p.proowner is distinct from to_regrole('relay_compute') limit 1;
    if problem is not null then
        raise exception 'relay: %', problem
            using errcode = 'object_not_in_prerequisite_state', detail = 'Schema relay was restored without its owners.',
                hint = 'Restore it with them (roles first: install.sql makes them); or drop schema relay, relay_readers cascade; '
                       'install.sql; and watch again.';
    end if;
    select c.*, n.nspname into t from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = tbl;
    select inhparent into above from pg_inherits where t.relispartition and inhrelid = tbl;
    if t.nspname in ('relay', 'relay_readers', 'pg_catalog', 'information_schema') then
        problem := 'it belongs to relay or to PostgreSQL itself';
        remedy := 'Watch your own tables only.';
    elsif t.relkind not in ('r', 'p') then
        problem := case t.relkind when 'v' then 'it is a view' when 'm' then 'it is a materialized view'
                                  when 'f' then 'it is a foreign table' else 'it is not a table' end;
        remedy := 'Watch the tables that the data is written to.';
    elsif t.relpersistence = 't' then
        problem := 'it is a temporary table';
        remedy := 'Watch a permanent table.';
    elsif not pg_has_role(t.relowner, 'USAGE') then
        problem := format('it belongs to %I, not to %I', t.relowner::regrole::text, current_user);
        remedy := format('As %s or as a superuser: select relay.watch(%L);', t.relowner::regrole, tbl);
    elsif exists (select from pg_trigger where tgrelid = tbl and tgname like E'!relay\\_%' and tgparentid <> 0) then
        problem := format('it is a partition of %s, which is watched', above);
        remedy := format('Use relay.watch(%L); its partitions are included.', above);
    end if;
    if problem is not null then
        raise exception 'relay: % cannot be watched: %', tbl, problem
            using errcode = 'wrong_object_type', hint = remedy;
    end if;
    return t.nspname || '.' || t.relname;
end $$;

-- relay.check_ops(ops text[]) -> text[]: the operations in lower case, all four for null; an error if one is unknown.
create or replace function relay.check_ops(ops text[]) returns text[]
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
    known constant text[] := '{insert,update,delete,truncate}';
    wanted text[] := array(select lower(trim(o)) from unnest(ops) o);
begin
    if ops is null then
        return known;
    elsif not wanted <@ known or ops = '{}' then
        raise exception 'relay.watch: ops => % is not a list of insert, update, delete, truncate', quote_literal(ops)
            using errcode = 'invalid_parameter_value', hint = 'For example: ops => ''{insert,update}''.';
    end if;
    return wanted;
end $$;

-- relay.tell_children(tbl regclass) -> void
-- A notice if other tables inherit from this one: their rows are theirs, and triggers are not inherited.
create or replace function relay.tell_children(tbl regclass) returns void
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    children constant regclass[] := array(select inhrelid::regclass from pg_inherits where inhparent = tbl order by 1);
begin
    if children <> '{}' and (select relkind from pg_class where oid = tbl) = 'r' then
        raise notice 'relay.watch: the rows of % are not included, although select from % shows them',
            array_to_string(children, ', '), tbl
            using hint = format('select relay.watch(%L);', children[1]);
    end if;
end $$;
