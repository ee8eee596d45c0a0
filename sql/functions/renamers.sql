-- relay.is_as_owner(role oid, owner oid) -> boolean
-- Whether a role may do whatever a table's owner may, so that it need not be feared in that one's name. In line where it is called.
create or replace function relay.is_as_owner(role oid, owner oid) returns boolean
language sql stable
as $$
    select role operator(pg_catalog.<>) 0 and pg_catalog.pg_has_role(role, owner,
        case when pg_catalog.current_setting('server_version_num')::pg_catalog.int4 operator(pg_catalog.>=) 160000
             then 'USAGE, SET' else 'MEMBER' end)
$$;

-- relay.renamers(tbl oid, columns smallint[], condition boolean) -> oid[]
-- The roles, but for superusers, that can give a name to another thing at any moment, of those by which SQL that is made here
-- means this table, the types of these columns, their operators, and, with "condition", what that of its watch is made of. No
-- lock keeps them from that: theirs would run, with the rights of whoever runs that SQL. Who owns a schema and may create schemas renames
-- that; who owns a type renames it, and who owns a function or an operator and may create such in its schema gives the name to
-- another one. (The table itself is locked.) '{}' where all of that is a superuser's, as in pg_catalog.
-- In REPEATABLE READ and SERIALIZABLE a query sees who owned all that when the transaction began. {0} if it has changed since
-- (currtid2 looks with a snapshot of its own): who owns it now can't be asked.
create or replace function relay.renamers(tbl oid, columns smallint[], condition boolean) returns oid[]
language sql stable
set search_path = pg_catalog, pg_temp
as $$
    with recursive types as (  -- PostgreSQL's own have an owner that is left out below
        select b.oid from pg_attribute a cross join lateral (select relay.base_type(a.atttypid) as oid offset 0) b
        where a.attrelid = tbl and a.attnum = any (columns) and b.oid >= 16384
    ), condition_of as (
        select distinct d.refclassid as class, d.refobjid as oid
        from pg_trigger g
        cross join lateral (select refclassid, refobjid from pg_depend  -- a join may read all triggers' for each of them
                            where classid = 'pg_trigger'::regclass and objid = g.oid offset 0) d
        where condition and g.tgrelid = tbl and g.tgname like E'!relay\\_%' and d.refobjid <> g.tgfoid
    ), named as (
        select c.relnamespace as schema, null::oid as owner, 'pg_class' as catalog, c.ctid as place, null::oid as operator from pg_class c where c.oid = tbl
        union all select t.typnamespace, t.typowner, 'pg_type', t.ctid, null from pg_type t
            where t.oid in (select oid from types union all select oid from condition_of where class = 'pg_type'::regclass)
        union all select p.pronamespace, p.proowner, 'pg_proc', p.ctid, null from condition_of d join pg_proc p on p.oid = d.oid
            where class = 'pg_proc'::regclass
        union all select o.oprnamespace, o.oprowner, 'pg_operator', o.ctid, o.oid from condition_of d join pg_operator o on o.oid = d.oid
            where class = 'pg_operator'::regclass
        union all select o.oprnamespace, o.oprowner, 'pg_operator', o.ctid, o.oid from types join pg_opclass k on k.opcintype = types.oid
            join pg_amop s on s.amopfamily = k.opcfamily join pg_operator o on o.oid = s.amopopr
    ), schemas as (
        select n.oid, n.ctid as place, n.nspowner as owner,
            case when n.nspowner = to_regrole('pg_database_owner') then d.ctid end as database
        from pg_namespace n join pg_database d on d.datname = current_database()
        where n.oid in (select schema from named)
    ), up as (
        select owner as oid, null::oid as schema, false as is_any from schemas
        -- A type is renamed without the right to create in its schema; what makes one of two of them is in place of the other.
        union select owner, schema, catalog = 'pg_type' from named where owner is not null
        -- The owner of a schema drops what others have in it: nothing holds an operator of a key that has no index, but its extension.
        union select s.owner, n.schema, false from named n join schemas s on s.oid = n.schema
            where n.operator is not null and not exists (
                select from pg_depend e where e.classid = 'pg_operator'::regclass and e.objid = n.operator and e.deptype = 'e')
        union select m.oid, up.schema, up.is_any from up join pg_roles r on r.oid = up.oid and not r.rolsuper
            cross join lateral (select a.member as oid from pg_auth_members a where a.roleid = up.oid
                union all select d.datdba from pg_database d
                    where up.oid = to_regrole('pg_database_owner') and d.datname = current_database()
                union all select b.oid from pg_roles b where current_setting('transaction_isolation') not like 'read %'
                    and not b.rolsuper and pg_has_role(b.oid, up.oid, 'MEMBER')) m
    )
    select case when current_setting('transaction_isolation') not like 'read %' and exists (
        select from (select catalog, place from named union all select 'pg_namespace', place from schemas
                     union all select 'pg_database', database from schemas) x
        where currtid2('pg_catalog.' || x.catalog, x.place) <> x.place
    ) then '{0}' else (
        select coalesce(array_agg(distinct r.oid), '{}') from up join pg_roles r on r.oid = up.oid
        where not r.rolsuper
          and case when up.is_any then true
                   when up.schema is null then has_database_privilege(r.oid, current_database(), 'CREATE')
                   else has_schema_privilege(r.oid, up.schema, 'CREATE') end
          and not (r.rolcreaterole and current_setting('server_version_num')::int < 160000)  -- it may become anybody
    ) end
$$;
