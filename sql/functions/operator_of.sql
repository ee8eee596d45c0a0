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
    elsif t.typtype in ('e', 'r', 'm', 'c') or t.oid = 'varchar'::regtype then
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
