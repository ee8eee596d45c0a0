-- relay.operator_of(type oid, strategy int) -> text
-- The = (strategy 3) or > (strategy 5) of a type, as written inside OPERATOR(...), from its default btree operator
-- class; null if it has none (json, point, xml: such a column cannot be a key).
--     select relay.operator_of('int'::regtype, 3);      -- pg_catalog.=
--     select relay.operator_of('citext'::regtype, 5);   -- public.>
create or replace function relay.operator_of(type oid, strategy int) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    t record;
begin
    select * into t from pg_type where pg_type.oid = operator_of.type;
    if t.typtype = 'd' then
        return relay.operator_of(t.typbasetype, strategy);
    elsif t.typtype in ('e', 'r', 'm', 'c') or t.oid in ('varchar'::regtype, 'cidr'::regtype) then
        return case strategy when 3 then 'pg_catalog.=' when 5 then 'pg_catalog.>' end;  -- anyenum, anyrange, record
    elsif t.typcategory = 'A' and t.typelem <> 0 then
        return case when relay.operator_of(t.typelem, strategy) is not null
                    then case strategy when 3 then 'pg_catalog.=' when 5 then 'pg_catalog.>' end end;
    end if;
    return (
        select format('%I.%s', n.nspname, o.oprname)
        from pg_opclass c
        join pg_am m on m.oid = c.opcmethod and m.amname = 'btree'
        join pg_amop s on s.amopfamily = c.opcfamily and s.amopstrategy = operator_of.strategy
            and s.amoplefttype = c.opcintype and s.amoprighttype = c.opcintype
        join pg_operator o on o.oid = s.amopopr
        join pg_namespace n on n.oid = o.oprnamespace
        where c.opcdefault and c.opcintype = t.oid
        limit 1);
end $$;

-- relay.compare(type oid, strategy int, a text, b text) -> text
-- The condition that a equals b (strategy 3) or is greater (5), of two expressions of a type, without any code of a user:
-- with an operator of PostgreSQL's own or of a default btree operator class, which only a superuser can make, and with
-- both sides cast to the type that the operator is for, so that no other one of that name fits better. An index is used
-- then. Anything else (enums, composite types) is compared as records are: by the same classes, without an index. "b" has
-- the collation of "a", a column, then, by coalesce: records of two are not compared.
--     select relay.compare('int'::regtype, 3, 't.id', '7');
create or replace function relay.compare(type oid, strategy int, a text, b text) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    base constant oid := relay.base_type(type);
    op constant text := relay.operator_of(base, strategy);
    of constant text := relay.type_name(base);
begin
    if op is not null and (base < 16384 or exists (
        select from pg_opclass c
        join pg_am m on m.oid = c.opcmethod and m.amname = 'btree'
        join pg_amop s on s.amopfamily = c.opcfamily and s.amopstrategy = compare.strategy
            and s.amoplefttype = base and s.amoprighttype = base
        join pg_operator o on o.oid = s.amopopr and o.oprleft = base and o.oprright = base
        where c.opcdefault and c.opcintype = base)) then
        return format('(%s)::%s operator(%s) (%s)::%s', a, of, op, b, of);
    end if;
    return format('row(%1$s)::record operator(pg_catalog.%2$s) row(coalesce(%3$s, %1$s))::record',
                  a, case strategy when 3 then '=' else '>' end, b);
end $$;

-- relay.base_type(type oid) -> oid: what a domain, or a domain over it, is made of; text for varchar, inet for cidr, whose
-- operators these are; any other type itself, and a domain that is more than 32 deep, which nobody reads (relay.is_plain).
create or replace function relay.base_type(type oid) returns oid
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive d (oid, base, deep) as (
        select oid, typbasetype, 0 from pg_type where oid = base_type.type
        union all
        select t.oid, t.typbasetype, d.deep + 1 from d join pg_type t on t.oid = d.base where d.deep < 32
    )
    select coalesce((
        select case oid when 'varchar'::regtype then 'text'::regtype when 'cidr'::regtype then 'inet'::regtype else oid end
        from d where base = 0), (select oid from d where deep = 0))
$$;

-- relay.is_plain(type oid) -> boolean
-- Whether values of a type are read without code of a user: neither a domain nor a composite type is in it, whose fields
-- can be domains later, nor ranges of ranges more than 8 deep. A type that is plain stays so.
create or replace function relay.is_plain(type oid) returns boolean
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    t record;
begin
    for deep in 0..8 loop  -- its owner chooses how deep that is
        if (type >= 16384) is not true then
            return case when type < 16384 then true end;  -- null for null
        end if;
        select p.typtype, r.rngsubtype, case when p.typcategory = 'A' and p.typelem <> 0 then p.typelem end as element into t
            from pg_type p left join pg_range r on r.rngtypid = p.oid where p.oid = is_plain.type;
        if t.element is null and t.typtype is distinct from 'r' then
            return t.typtype in ('b', 'e');
        end if;
        type := coalesce(t.element, t.rngsubtype);
    end loop;
    return false;
end $$;

-- relay.type_name(type oid) -> text: with its schema, and no length (format_type's "character" would be character(1)).
-- An array by its element: whoever makes a type that is called like an array's (_mood) has PostgreSQL call that another way.
create or replace function relay.type_name(type oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select format('%I.%I%s', n.nspname, x.typname, case when e.oid is not null then '[]' end)
    from pg_type t
    left join pg_type e on e.oid = t.typelem and e.typarray = t.oid
    join pg_type x on x.oid = coalesce(e.oid, t.oid)
    join pg_namespace n on n.oid = x.typnamespace
    where t.oid = type_name.type
$$;

-- relay.key_part(name text, type oid, parameter text) -> text
-- One column of a key that is JSON, in the type it is made of: by the type's input function, not by a cast.
create or replace function relay.key_part(name text, type oid, parameter text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.format('(select x.%1$I from pg_catalog.json_to_record(%2$s) x (%1$I %3$s))', name, parameter,
                             relay.type_name(relay.base_type(type)))
$$;
