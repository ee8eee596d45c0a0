-- relay.key_taken(tbl oid, was record, numbers smallint[]) -> boolean
-- Whether a watched row has the key of "was" now, after the statement. For row_event, when an update moves a row to
-- another key: after a swap, or id = id + 1, the old key belongs to another row and is no delete.
--   numbers  the key's column numbers in tbl
-- A row outside the condition of the watch does not count. The table is read as its owner, as PostgreSQL reads it for a
-- foreign key: a query of ours would have the planner run functions of the owner's with our rights (those of constants,
-- in indexes and statistics), and policies as well. But nor is a function of anybody's run as the owner: what such a function
-- does not name with a schema the writer could have a temporary view for. Where one could be, it isn't read (relay.unasked).
-- false where it can't be said: the event is a delete then, and the writer's statement goes on.
create or replace function relay.key_taken(tbl oid, was record, numbers smallint[]) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off  -- in SERIALIZABLE, who reads relay.wanted as a whole fails for what the owner of another table has written there
as $$
declare
    w record;
    condition text;
    columns text[];
    is_usual constant boolean := relay.is_owners_alone(tbl);
    tree constant oid[] := case when not is_usual then relay.tree_of(tbl) end;
    fresh constant boolean := pg_catalog.current_setting('transaction_isolation') like 'read %';
begin
    select n.reader, n.secret, n.filter, case when c.relkind <> 'p' then 'only ' end as itself into w
        from relay.wanted n
        join pg_catalog.pg_class c on c.oid = n.tbl
        -- A former owner has no say in it, nor has who makes something of a name that was dropped.
        join pg_catalog.pg_type y on y.typname = n.reader::name and y.typnamespace = 'relay_readers'::regnamespace
            and y.typowner = c.relowner
        join pg_catalog.pg_proc f on f.proname = y.typname and f.pronamespace = y.typnamespace and f.pronargs = 1
            and f.proargtypes[0] = y.oid and f.proowner = c.relowner
        where n.tbl = key_taken.tbl and n.secret <> ''  -- relay.never_ask
        -- What the condition names could have been dropped with its triggers, and made anew by somebody else.
        and n.triggers <@ array(select g.tgname::text from pg_catalog.pg_trigger g where g.tgrelid = n.tbl)
        -- Policies are somebody's functions.
        and not (c.relrowsecurity and c.relforcerowsecurity and exists (
            select from pg_catalog.pg_roles r where r.oid = c.relowner and not r.rolsuper and not r.rolbypassrls))
        -- The planner runs functions of constants in indexes and statistics, those of partitions as well: with an owner
        -- of their own, that one's code would run as this table's.
        and (is_usual or tree is not null and not exists (select from pg_catalog.unnest(tree) p (oid) left join pg_catalog.pg_class b on b.oid = p.oid
                        where b.relowner is distinct from c.relowner
                        or not fresh and pg_catalog.currtid2('pg_catalog.pg_class', b.ctid) <> b.ctid))
        -- In the other isolation levels indexes and statistics made since the transaction began are not seen here, but planned with: a
        -- function in them must find nothing of the writer's in place of what it names.
        and (fresh or not exists (select from pg_catalog.pg_class x where x.relnamespace = pg_catalog.pg_my_temp_schema())
             and not exists (select from pg_catalog.pg_type x where x.typnamespace = pg_catalog.pg_my_temp_schema()))
        -- And if it is as it was then (relay.renamers looks at the others).
        and (fresh or pg_catalog.currtid2('pg_catalog.pg_type', y.ctid) = y.ctid
             and pg_catalog.currtid2('pg_catalog.pg_proc', f.ctid) = f.ctid)
        and (is_usual or not exists (select from pg_catalog.unnest(relay.renamers(n.tbl, numbers, true)) r (role)
                        where not relay.is_as_owner(r.role, c.relowner)));
    if not found or not is_usual and relay.unasked(tbl, numbers, w.filter is not null) is not null then
        return false;  -- also: triggers made by hand
    end if;
    -- Of the usual types it is known what compares them, and that what is equal is so bit by bit.
    select pg_catalog.string_agg(case
                when a.atttypid = any ('{int2,int4,int8,uuid}'::pg_catalog.regtype[]) then pg_catalog.format(
                    't.%1$I operator(pg_catalog.=) (select x.%1$I from pg_catalog.json_to_record($1) x (%1$I %2$s))',
                    a.attname, a.atttypid::pg_catalog.regtype)
                else relay.key_equal(a.attname, a.atttypid) end, ' and '),
           pg_catalog.array_agg(a.attname::text)
        into condition, columns
        from pg_catalog.pg_attribute a where a.attrelid = tbl and a.attnum = any (numbers) and not a.attisdropped;
    return relay.ask_reader(w.reader, w.secret, pg_catalog.format(
        -- Without what inherits from it: rows of other tables, and maybe of other owners. Of a key that many rows share, some.
        case when w.filter is null then 'select array(select 1 from %1$s%2$s t where %3$s limit 1) as rows'
             else 'select array(select (t.*)::%2$s from %1$s%2$s t where %3$s limit 1000) as rows' end,
        w.itself, tbl::regclass, condition), columns, was);
end $$;

-- relay.is_owners_alone(tbl oid) -> boolean
-- Whether neither relay.renamers nor relay.unasked can have anything to say of a table's key and condition: the usual case, and to
-- find that out of them takes longer than all the rest. All that both look at is the table's owner's or PostgreSQL's own.
create or replace function relay.is_owners_alone(tbl oid) returns boolean
language plpgsql  -- with relay.key_taken's settings
as $$
begin
    return pg_catalog.current_setting('transaction_isolation') like 'read %' and exists (
        select from (
            select c.relowner, case s.nspowner when pg_catalog.to_regrole('pg_database_owner')
                then (select d.datdba from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
                else s.nspowner end as schema_owner
            from pg_catalog.pg_class c join pg_catalog.pg_namespace s on s.oid = c.relnamespace
            where c.oid = tbl and c.relkind = 'r' offset 0) c
        join pg_catalog.pg_roles o on o.oid = c.schema_owner
        -- Nobody else may rename the schema.
        where (o.rolsuper or (o.oid = c.relowner or not pg_catalog.has_database_privilege(o.oid, pg_catalog.current_database(), 'CREATE'))
             and not exists (select from pg_catalog.pg_auth_members m where m.roleid = o.oid))
        -- No column has a type of a user's, and there are no constants that the planner could have a function of.
        and not exists (select from pg_catalog.pg_depend d where d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                        and d.objid = tbl and d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass)
        and not exists (select from pg_catalog.pg_index i where i.indrelid = tbl and (i.indexprs is not null or i.indpred is not null))
        and not exists (select from pg_catalog.pg_statistic_ext x where x.stxrelid = tbl)
        -- No condition names anything of a user's but the columns.
        and not exists (
            select from pg_catalog.pg_trigger g
            cross join lateral (select d.refclassid, d.refobjid from pg_catalog.pg_depend d  -- see relay.renamers
                                where d.classid = 'pg_catalog.pg_trigger'::pg_catalog.regclass and d.objid = g.oid offset 0) d
            where g.tgrelid = tbl and g.tgname like E'!relay\\_%' and d.refobjid >= 16384 and d.refobjid <> g.tgfoid
              and d.refclassid <> 'pg_catalog.pg_class'::pg_catalog.regclass));
end $$;

-- relay.key_equal(name text, type oid) -> text
-- The condition that a column of a row t is what the key $1 (JSON) says: equal for the index, and then bit by bit, since 1.0 and
-- 1.00 are equal but different keys in JSON.
create or replace function relay.key_equal(name text, type oid) returns text
language plpgsql  -- with relay.key_taken's settings
as $$
declare
    base constant oid := relay.base_type(type);
    here constant text := pg_catalog.format('(t.%I)::%s', name, relay.type_name(base));
    there constant text := case when base = 'jsonb'::pg_catalog.regtype  -- $1 has its text, which would be read as a string
        then pg_catalog.format('pg_catalog.json_object_field_text($1, %L)::pg_catalog.jsonb', name)
        else relay.key_part(name, type, '$1') end;
begin
    return pg_catalog.format('%s and row(%s)::record operator(pg_catalog.*=) row(%s)::record',
                             relay.compare(base, 3, here, there), here, there);
end $$;

-- relay.make_reader(tbl regclass, reader text, secret text, filter text) -> void
-- The function that fetches the rows with a key from a table, owned by the table's owner: it runs a query of relay.key_taken's.
-- Only who knows the secret may have it run one, and only relay.ask_reader may call it. Its argument has a type of its own:
-- others may create functions in relay_readers as well, and whoever made one of the same name whose arguments fit better, or
-- as well, would be called instead, with the secret, or have nothing called. Nobody else may use that type, and it fits best.
--   filter  the condition on a row t, or null. The function gives it back beside the rows, and does nothing else with it: what
--           relay.wanted says may have been written by another owner of the table, earlier or later.
create or replace function relay.make_reader(tbl regclass, reader text, secret text, filter text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    owner constant regrole := (select c.relowner from pg_catalog.pg_class c where c.oid = tbl);
    digest constant text := 'pg_catalog.sha256(pg_catalog.convert_to(%s, ''UTF8''))';  -- md5 may be forbidden
    known bytea;
begin
    execute pg_catalog.format('select ' || digest, '$1') into known using secret;
    execute pg_catalog.format('create domain relay_readers.%I as json', reader);
    execute pg_catalog.format('revoke all on domain relay_readers.%I from public', reader);
    execute pg_catalog.format(
        'create function relay_readers.%1$I(question relay_readers.%1$I) returns record '
        'language plpgsql security definer set search_path = pg_catalog, pg_temp as %2$L', reader, pg_catalog.format(
        'declare fetched record; begin '
        'if %s is distinct from %L then '
        'raise exception ''relay: not for you''; end if; '
        'execute pg_catalog.json_extract_path_text(question, ''query'') into fetched '
        'using pg_catalog.json_extract_path(question, ''key''); select fetched.rows, %L::text as filter into fetched; return fetched; end',
        pg_catalog.format(digest, 'pg_catalog.json_extract_path_text(question, ''secret'')'), known, filter));
    execute pg_catalog.format('comment on function relay_readers.%1$I(relay_readers.%1$I) is %2$L', reader,
                              pg_catalog.format('relay: the rows of %s that have a key', tbl));
    execute pg_catalog.format('revoke all on function relay_readers.%1$I(relay_readers.%1$I) from public', reader);
    execute pg_catalog.format('grant execute on function relay_readers.%1$I(relay_readers.%1$I) to relay_compute', reader);
    if owner <> (select r.oid from pg_catalog.pg_roles r where r.rolname = current_user) then
        execute pg_catalog.format('alter function relay_readers.%1$I(relay_readers.%1$I) owner to %2$s', reader, owner);
        execute pg_catalog.format('alter domain relay_readers.%I owner to %s', reader, owner);
    end if;
exception when insufficient_privilege then
    raise notice 'relay.watch: keys of % that rows exchange are told as deleted and inserted: %', tbl, sqlerrm
        using hint = pg_catalog.format('As %s or as a superuser: select relay.watch(%L, ...);', owner, tbl);
end $$;
