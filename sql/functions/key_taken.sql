-- relay.key_taken(tbl oid, was record, numbers smallint[]) -> boolean
-- Whether a watched row has the key of "was" now, after the statement. For row_event, when an update moves a row to
-- another key: after a swap, or id = id + 1, the old key belongs to another row and is no delete.
--   numbers  the key's column numbers in tbl
-- A row outside the condition of the watch does not count. The table is read as its owner, as PostgreSQL reads it for a
-- foreign key: a query of ours would have the planner run functions of the owner's with our rights (those of constants,
-- in indexes and statistics), and policies as well.
-- false where it can't be said: the event is a delete then, and the writer's statement goes on.
create or replace function relay.key_taken(tbl oid, was record, numbers smallint[]) returns boolean
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    w record;
    condition text;
    columns text[];
    fresh constant boolean := pg_catalog.current_setting('transaction_isolation') like 'read %';
begin
    select n.reader, n.secret, case when c.relkind <> 'p' then 'only ' end as itself into w
        from relay.wanted n
        join pg_catalog.pg_class c on c.oid = n.tbl
        -- A former owner has no say in it, nor has who makes something of a name that was dropped.
        join pg_catalog.pg_type y on y.typname = n.reader::name and y.typnamespace = 'relay_readers'::regnamespace
            and y.typowner = c.relowner
        where n.tbl = key_taken.tbl
        -- What the condition names could have been dropped with its triggers, and made anew by somebody else.
        and n.triggers <@ array(select g.tgname::text from pg_catalog.pg_trigger g where g.tgrelid = n.tbl)
        -- The planner runs functions of constants in indexes and statistics, those of partitions as well: with an owner
        -- of their own, that one's code would run as this table's.
        and not exists (select from pg_catalog.pg_partition_tree(n.tbl) p left join pg_catalog.pg_class b on b.oid = p.relid
                        where b.relowner is distinct from c.relowner
                        or not fresh and pg_catalog.currtid2('pg_catalog.pg_class', b.ctid) <> b.ctid)
        -- In the other isolation levels: if it is as it was when the transaction began (relay.renamers looks at the others).
        and (fresh or pg_catalog.currtid2('pg_catalog.pg_type', y.ctid) = y.ctid)
        and not exists (select from pg_catalog.unnest(relay.renamers(n.tbl, numbers, true)) r (role)
                        where r.role = 0 or not pg_catalog.pg_has_role(r.role, c.relowner, 'MEMBER'));
    if not found then
        return false;  -- triggers made by hand
    end if;
    -- Equal for the index, and then bit by bit: 1.0 and 1.00 are equal but different keys in JSON.
    select pg_catalog.string_agg(pg_catalog.format('%s and row(%s)::record operator(pg_catalog.*=) row(%s)::record',
                relay.compare(c.base, 3, c.here, c.there), c.here, c.there), ' and '),
           pg_catalog.array_agg(c.name)
        into condition, columns
        from (select a.attname::text as name, relay.base_type(a.atttypid) as base,
                  pg_catalog.format('(t.%I)::%s', a.attname, relay.type_name(relay.base_type(a.atttypid))) as here,
                  relay.key_part(a.attname, a.atttypid, '$1') as there
              from pg_catalog.pg_attribute a
              where a.attrelid = tbl and a.attnum = any (numbers) and not a.attisdropped offset 0) c;
    return relay.ask_reader(w.reader, w.secret, pg_catalog.format(
        -- Without what inherits from it: rows of other tables, and maybe of other owners.
        'select exists (select from %s%s t where %s', w.itself, tbl::regclass, condition), columns, was);
end $$;

-- relay.make_reader(tbl regclass, reader text, secret text, filter text) -> void
-- The function that looks up a key in a table, owned by the table's owner: it runs a query of relay.key_taken's. Only who
-- knows the secret may have it run one, and only relay.ask_reader may call it. It is called as the check of a domain:
-- others may create functions in relay_readers as well, and whoever made one of the same name whose arguments fit better
-- would be called instead, with the secret. Of a domain's name there is one, and its check calls what it was made with.
--   filter  the condition on a row t, or null. The function ends each query with it itself: what relay.wanted says may have
--           been written by another owner of the table, earlier or later.
create or replace function relay.make_reader(tbl regclass, reader text, secret text, filter text) returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
    owner constant regrole := (select c.relowner from pg_catalog.pg_class c where c.oid = tbl);
begin
    execute pg_catalog.format(
        'create function relay_readers.%I(question json) returns boolean '
        'language plpgsql security definer set search_path = pg_catalog, pg_temp as %L', reader, pg_catalog.format(
        'declare taken boolean; begin '
        'if pg_catalog.md5(pg_catalog.json_extract_path_text(question, ''secret'')) is distinct from %L then '
        'raise exception ''relay: not for you''; end if; '
        'execute pg_catalog.concat(pg_catalog.json_extract_path_text(question, ''query''), %L) into taken '
        'using pg_catalog.json_extract_path(question, ''key''); return taken; end', pg_catalog.md5(secret),
        pg_catalog.format(' and %s)', coalesce(filter, 'true'))));
    execute pg_catalog.format('comment on function relay_readers.%I(json) is %L', reader,
                              pg_catalog.format('relay: whether another row of %s has a key', tbl));
    execute pg_catalog.format('revoke all on function relay_readers.%I(json) from public', reader);
    execute pg_catalog.format('grant execute on function relay_readers.%I(json) to relay_compute', reader);
    execute pg_catalog.format('create domain relay_readers.%1$I as json check (relay_readers.%1$I(value))', reader);
    execute pg_catalog.format('revoke all on domain relay_readers.%I from public', reader);
    if owner <> current_user::regrole then
        execute pg_catalog.format('alter function relay_readers.%I(json) owner to %s', reader, owner);
        execute pg_catalog.format('alter domain relay_readers.%I owner to %s', reader, owner);
    end if;
exception when insufficient_privilege then
    raise notice 'relay.watch: keys of % that rows exchange are told as deleted and inserted: %', tbl, sqlerrm
        using hint = pg_catalog.format('As %s or as a superuser: select relay.watch(%L, ...);', owner, tbl);
end $$;
