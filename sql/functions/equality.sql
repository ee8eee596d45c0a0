-- relay.equality(type oid) -> text
-- The = operator of a type, as written inside OPERATOR(...), from its default btree operator class; null if it has
-- none (json, point, xml: such a column cannot be a key).
--     select relay.equality('int'::regtype);      -- pg_catalog.=
--     select relay.equality('citext'::regtype);   -- public.=
create or replace function relay.equality(type oid) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
    t record;
begin
    select * into t from pg_type where pg_type.oid = equality.type;
    if t.typtype = 'd' then
        return relay.equality(t.typbasetype);
    elsif t.typtype in ('e', 'r', 'm', 'c') then
        return 'pg_catalog.=';  -- anyenum, anyrange, anymultirange, record
    elsif t.typcategory = 'A' and t.typelem <> 0 then
        return case when relay.equality(t.typelem) is not null then 'pg_catalog.=' end;
    end if;
    return (
        select format('%I.%s', n.nspname, o.oprname)
        from pg_opclass c
        join pg_am a on a.oid = c.opcmethod and a.amname = 'btree'
        join pg_amop s on s.amopfamily = c.opcfamily and s.amopstrategy = 3
            and s.amoplefttype = c.opcintype and s.amoprighttype = c.opcintype
        join pg_operator o on o.oid = s.amopopr
        join pg_namespace n on n.oid = o.oprnamespace
        where c.opcdefault and (c.opcintype = t.oid or (c.opcintype = 'text'::regtype and t.oid = 'varchar'::regtype))
        limit 1);
end $$;
