-- relay.renamers(tbl oid, columns smallint[]) -> oid[]
-- The roles, but for superusers, that can give the name of a table, or of a type or operator of these columns, to another one
-- at any moment: who owns its schema and may create schemas, and so rename them. No lock keeps them from that, and SQL that is
-- made here names what it means: theirs would run, with the rights of whoever runs that SQL. '{}' where a superuser owns the
-- schemas, as for pg_catalog.
create or replace function relay.renamers(tbl oid, columns smallint[]) returns oid[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive types as (
        select relay.base_type(a.atttypid) as oid from pg_attribute a where a.attrelid = tbl and a.attnum = any (columns)
    ), schemas as (
        select c.relnamespace as oid from pg_class c where c.oid = tbl
        union select t.typnamespace from types join pg_type t on t.oid = types.oid
        union select o.oprnamespace from types join pg_opclass k on k.opcintype = types.oid
            join pg_amop s on s.amopfamily = k.opcfamily join pg_operator o on o.oid = s.amopopr
    ), owners as (
        select case when n.nspowner = to_regrole('pg_database_owner')
                    then (select d.datdba from pg_database d where d.datname = current_database()) else n.nspowner end as oid
        from schemas join pg_namespace n on n.oid = schemas.oid
    ), up as (
        select o.oid from owners join pg_roles o on o.oid = owners.oid where not o.rolsuper
        union select m.member from up join pg_auth_members m on m.roleid = up.oid
    )
    select coalesce(array_agg(r.oid), '{}') from up join pg_roles r on r.oid = up.oid
    where not r.rolsuper and has_database_privilege(r.oid, current_database(), 'CREATE')
      and not (r.rolcreaterole and current_setting('server_version_num')::int < 160000)  -- it may become anybody
$$;
