-- relay.unasked(tbl oid, numbers smallint[], condition boolean) -> text
-- Why a table's reader is not asked whether a key is another row's now, although it is its owner's: to fetch a row with that
-- key, as the owner, could run a function of somebody's, or to look at the condition, in the box, one of somebody else's.
-- null: it is asked. Such a function would be looked up, or what it names, in the writer's session: its temporary schema is
-- a writer's own. (Other reasons relay.watched says by itself.)
--   numbers    the key's columns
--   condition  whether the watch has one
create or replace function relay.unasked(tbl oid, numbers smallint[], condition boolean) returns text
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    fresh constant boolean := current_setting('transaction_isolation') like 'read %';
    enough constant int := 10000;
    whole constant oid[] := relay.tree_of(tbl);
    looked int;
    its_functions oid[];
    its_types oid[];
    found text;
begin
    if exists (select from pg_attribute where attrelid = tbl and attnum = any (numbers) and not relay.is_plain(relay.base_type(atttypid))) then
        return 'its key has a composite type, or a domain inside another';  -- reading it back runs the checks of domains
    end if;
    -- As relay.lock_plain; but what it names there is looked up in the session of who resends. Who makes indexes of thousands of
    -- functions must not keep the listener waiting, nor have it read what they are all called.
    with tree (oid) as (select unnest(whole)), planned (class, oid) as (
        select 'pg_class'::regclass, i.indexrelid from pg_index i join tree t on i.indrelid = t.oid
            where i.indexprs is not null or i.indpred is not null
        union all select 'pg_statistic_ext'::regclass, s.oid from pg_statistic_ext s join tree t on s.stxrelid = t.oid
        union all select 'pg_class'::regclass, p.partrelid from pg_partitioned_table p join tree t on p.partrelid = t.oid
    ), used (function, type) as (
        select case d.refclassid when 'pg_proc'::regclass then d.refobjid
                                 when 'pg_operator'::regclass then (select oprcode from pg_operator where oid = d.refobjid) end,
               case when d.refclassid = 'pg_type'::regclass and p.oid not in (select oid from tree) then d.refobjid end
        from planned p join pg_depend d on d.classid = p.class and d.objid = p.oid
        limit enough
    ), types (type) as materialized (  -- each once: many indexes may use it
        select distinct type from used
    )
    select count(*), array_agg(u.function) filter (where u.function >= 16384),
           (select array_agg(t.type) from types t where not relay.is_plain(t.type)),
           (select format('%s is a %s', c.oid::regclass, case c.relkind when 'f' then 'foreign table' else 'view' end)
            from pg_class c where c.oid = any (whole) and c.relkind not in ('r', 'p') limit 1)
        into looked, its_functions, its_types, found from used u;
    if looked = enough then
        found := concat_ws(', ', found, 'its indexes and statistics use too much');
    end if;
    if coalesce(its_functions, its_types) is not null then
        select concat_ws(', ', string_agg(distinct 'an index, statistics or a partition key uses ' || x.what, ', '), found) into found from (
            select 'function ' || f::regprocedure as what from unnest(its_functions[1:3]) f
            union all select 'type ' || t::regtype from unnest(its_types[1:3]) t) x;
    end if;
    if found is not null or not condition then
        return found;
    end if;

    if relay.has_strangers(tbl) then
        return 'it has a condition, and a column of a type that is not its owner''s';
    end if;
    -- Written with their schemas and with arguments of exactly their types, functions are found again, but those that take several types.
    with used as (
        select distinct d.refclassid as class, d.refobjid as oid
        from pg_trigger g cross join lateral (select refclassid, refobjid from pg_depend  -- see relay.renamers
                                              where classid = 'pg_trigger'::regclass and objid = g.oid offset 0) d
        where g.tgrelid = tbl and g.tgname like E'!relay\\_%' and d.refobjid <> g.tgfoid and d.refobjid >= 16384
    ), named as (
        select u.class, u.oid, t.typowner as owner, null::oid as open, array[t.oid] as types
            from used u join pg_type t on t.oid = u.oid where u.class = 'pg_type'::regclass
        union all
        select u.class, u.oid, p.proowner, case when p.pronargdefaults > 0 or p.provariadic <> 0 or exists (
                select from pg_type y where y.oid = any (p.proargtypes::oid[]) and y.typtype = 'p') then p.pronamespace end,
                p.proargtypes::oid[] || p.prorettype
            from used u join pg_proc p on p.oid = u.oid where u.class = 'pg_proc'::regclass
        union all
        select u.class, u.oid, o.oprowner, case when exists (
                select from pg_type y where y.oid in (o.oprleft, o.oprright) and y.typtype = 'p') then o.oprnamespace end,
                array[o.oprleft, o.oprright, o.oprresult]
            from used u join pg_operator o on o.oid = u.oid where u.class = 'pg_operator'::regclass
    ), strange (oid) as materialized (  -- all that are a user's, if one is strange: of each, to look takes a second, and a function has a hundred
        select y.oid from (select distinct unnest(types) as oid from named) y
        where y.oid >= 16384 and not (select relay.are_told(array_agg(z.oid), tbl) from (select distinct unnest(types) as oid from named) z)
    ), opened (oid) as materialized (
        select s.oid from (select distinct open as oid from named where open is not null) s
        where exists (select from pg_roles r where not r.rolsuper and has_schema_privilege(r.oid, s.oid, 'CREATE')
                      and not has_table_privilege(r.oid, tbl, 'TRIGGER'))
    )
    select string_agg(distinct case x.class when 'pg_type'::regclass then 'type ' || x.oid::regtype::text
                                            when 'pg_proc'::regclass then 'function ' || x.oid::regprocedure::text
                                            else 'operator ' || x.oid::regoperator::text end, ', ')
        into found from (
            select n.class, n.oid from named n
            where not fresh or not has_table_privilege(n.owner, tbl, 'TRIGGER')
            or n.types && array(select oid from strange) or n.open in (select oid from opened)
            limit 3) x;
    return 'its condition calls what others than its owner have made, or may put another in place of: ' || found;
end $$;
