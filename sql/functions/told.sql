-- Whose code may run while a row is made JSON. PostgreSQL looks up a cast to json for each type that is not its own, and who
-- owns a type may make one at any moment. So whoever that is decides, not whether there is one: casts are used of types whose
-- owner could run code in a writer's statement anyway, since it may make a trigger on the table (its owner, a superuser, who
-- has the right TRIGGER). Values of any other are told by their output functions.

-- relay.is_told(type oid, tbl oid) -> boolean
-- Whether JSON of a type is made by PostgreSQL, with no cast but of who may make a trigger on the table. Domains are made
-- as what they are over. In REPEATABLE READ and SERIALIZABLE also not if it changed hands since the transaction began.
create or replace function relay.is_told(type oid, tbl oid) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    return type < 16384 or relay.are_told(array[type], tbl);
end $$;

-- relay.are_told(types oid[], tbl oid) -> boolean
-- The same of several. Not if there are more than 200 in them: whoever makes types chooses how many of them are in how many others.
create or replace function relay.are_told(types oid[], tbl oid) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set plan_cache_mode = force_generic_plan  -- it would be planned anew each time, since of a known array the plan looks cheaper
as $$
declare
    fresh constant boolean := current_setting('transaction_isolation') like 'read %';
begin
    -- Each type once: of types of two fields, both of the type before, sixteen would be 65,536.
    return not exists (
        with recursive inside (oid) as (
            select t from unnest(types) t where t >= 16384
            union select x.oid from inside i join pg_type p on p.oid = i.oid cross join lateral (
                select case p.typtype when 'd' then p.typbasetype else p.typelem end where p.typtype = 'd' or p.typcategory = 'A'
                union all select a.atttypid from pg_attribute a where p.typtype = 'c' and a.attrelid = p.typrelid and a.attnum > 0
                    and has_table_privilege(p.typowner, tbl, 'TRIGGER')
            ) x (oid) where x.oid >= 16384
        )
        select from (select i.oid, row_number() over () as n from inside i limit 201) i
        where i.n > 200 or (select
               p.typtype = 'd' or p.typcategory = 'A' and p.typelem <> 0
               or has_table_privilege(p.typowner, tbl, 'TRIGGER') and (fresh or currtid2('pg_catalog.pg_type', p.ctid) = p.ctid
                   and not exists (select from pg_class c where c.oid = p.typrelid and currtid2('pg_catalog.pg_class', c.ctid) <> c.ctid))
               from pg_type p where p.oid = i.oid) is not true);
end $$;

-- relay.told_as(type oid, tbl oid, value text, deep int) -> text
-- The expression of a value that row_to_json makes JSON of without any such cast: itself, if relay.is_told says so;
-- arrays as arrays of texts; composite types as records, field by field; any other as its text. Nothing but output functions
-- runs in it, and no cast: bulk_event has it outside of the box. null: it would be longer than 32 KiB, or nested more than 16 deep.
-- Of types of two fields, both of the type before, it would be twice as long each time, and whoever reads or writes a row has
-- it made.
--   value    an expression of that type
--   deep     in how many composite types it is
create or replace function relay.told_as(type oid, tbl oid, value text, deep int) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    t record;
    a record;
    field text;
    fields text;
begin
    if relay.is_told(type, tbl) then
        return value;
    end if;
    select p.typtype, p.typowner, p.typrelid, case when p.typcategory = 'A' then p.typelem else 0 end as element
        into t from pg_type p where p.oid = relay.base_type(type);
    if t.element <> 0 then
        return relay.as_text(value) || '::pg_catalog.text[] end';
    elsif t.typrelid <> 0 and (select relnatts from pg_class where oid = t.typrelid) <= 100 then
        for a in select attname, atttypid from pg_attribute
                 where attrelid = t.typrelid and attnum > 0 and not attisdropped order by attnum loop
            field := format('(%s).%I', value, a.attname);
            -- Its owner may change it until it is read.
            field := case when not has_table_privilege(t.typowner, tbl, 'TRIGGER') then relay.guarded(field)
                          when deep < 16 then relay.told_as(a.atttypid, tbl, field, deep + 1) end;
            fields := concat_ws(', ', fields, format('%s as %I', field, a.attname));
            if field is null or octet_length(fields) > 32768 then
                return null;
            end if;
        end loop;
        -- A record: it is made JSON in the box, where casts are run.
        return format('case when pg_catalog.num_nulls(%s) = 0 then (select (x.*)::pg_catalog.record from (select %s) x) end', value, fields);
    end if;
    return relay.as_text(value) || ' end';
end $$;

-- relay.as_text(value text) -> text: the beginning of the expression of a value's text, null where it is null.
create or replace function relay.as_text(value text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select format('case when pg_catalog.num_nulls(%1$s) = 0 then pg_catalog.format(''%%s'', %1$s)', value) $$;

-- relay.guarded(value text) -> text
-- The same of a value whose type is not known: as it is, if that is one of PostgreSQL's own by then, else its text.
create or replace function relay.guarded(value text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
    select format('case when pg_catalog.num_nulls(%1$s) = 0 then case when pg_catalog.pg_typeof(%1$s)::pg_catalog.oid < 16384 '
                  'then pg_catalog.to_json(%1$s) else pg_catalog.to_json(pg_catalog.format(''%%s'', %1$s)) end end', value)
$$;

-- relay.told(relation oid, value text) -> json
-- {"column": "<expression>", ...} of a table's columns whose values are told otherwise than as they are; null: none. Of all
-- columns, and {"": ""}, if they may be others than the snapshot of this transaction shows: what they are called is asked
-- without one.
--   value  of a column, for format: 'r.%I'
create or replace function relay.told(relation oid, value text) returns json
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    found jsonb := '{"": ""}';
    name text;
begin
    if not relay.is_changed(relation) then
        return (select json_object_agg(a.attname, coalesce(relay.told_as(a.atttypid, relation, format(value, a.attname), 0),
                                                           relay.as_text(format(value, a.attname)) || ' end'))
                from pg_attribute a where a.attrelid = relation and a.attnum > 0 and not a.attisdropped
                and a.atttypid >= 16384 and not relay.is_told(a.atttypid, relation));
    end if;
    begin
        for number in 1..1600 loop
            name := (pg_identify_object_as_address('pg_class'::regclass, relation, number)).object_names[3];
            exit when name is null;
            if name not like '........pg.dropped.%' then
                found := found || jsonb_build_object(name, relay.guarded(format(value, name)));
            end if;
        end loop;
    exception when others then
        null;  -- before PostgreSQL 14, behind the last
    end;
    return found;
end $$;

-- relay.has_strangers(relation oid) -> boolean: whether relay.told has something to say of a table. For each row, so it is short.
create or replace function relay.has_strangers(relation oid) returns boolean
language plpgsql  -- with the trigger's settings
as $$
begin
    return (
        select count(*) > 0 and not relay.are_told(array_agg(t.oid), relation)
        from pg_depend d join pg_type t on t.oid = d.refobjid
        where d.classid = 'pg_class'::regclass and d.objid = relation and d.objsubid > 0 and d.refclassid = 'pg_type'::regclass
        -- As relay.is_told of what has no other type in it.
        and (t.typtype not in ('e', 'b', 'r', 'm') or t.typcategory = 'A' or not has_table_privilege(t.typowner, relation, 'TRIGGER')
             or current_setting('transaction_isolation') not like 'read %')
    ) or current_setting('transaction_isolation') not like 'read %' and relay.is_changed(relation);
end $$;

-- relay.is_changed(relation oid) -> boolean
-- Whether a table has other columns than the snapshot of this transaction shows, in REPEATABLE READ or SERIALIZABLE.
create or replace function relay.is_changed(relation oid) returns boolean
language sql
set search_path = pg_catalog, pg_temp
as $$
    select current_setting('transaction_isolation') not like 'read %' and (
        not exists (select from pg_class c where c.oid = relation and currtid2('pg_catalog.pg_class', c.ctid) = c.ctid)
        or exists (select from pg_attribute a where a.attrelid = relation and a.attnum > 0
                   and currtid2('pg_catalog.pg_attribute', a.ctid) <> a.ctid))
$$;
