-- relay.watched: what is watched, and how; one row a table, read from its triggers and compared with relay.wanted.
--   note    what is not as it was when relay.watch was called; the listener logs it as an error
--   remedy  what mends the first of it
--   owner   the table's; of one that was dropped the owner it had, if that is known
--     select * from relay.watched;
create or replace view relay.watched as
with noted as (
    -- Owners of tables write these, and must not keep the listener waiting: of each the first 100 tables that were dropped are
    -- shown, and of the conditions of the others 1 MiB is read. (A dropped table's owner is its reader's: relay.own_reader.)
    select n.tbl, n.name, n.always,
        -- Else it is of an earlier release: see the end of install.sql.
        case when cardinality(n.triggers) <= 20 and octet_length(array_to_string(n.triggers, '')) <= 1260 then n.triggers end as triggers,
        case when n.secret <> '' then n.reader end as reader, coalesce(c.relowner, y.typowner) as owner, c.oid as there,
        case when c.oid is not null and sum(octet_length(n.filter)) over (partition by c.relowner order by n.tbl) <= 1048576
             then n.filter end as filter,
        row_number() over (partition by coalesce(c.relowner, y.typowner), c.oid is null order by n.tbl) as number
    from relay.wanted n
    left join pg_class c on c.oid = n.tbl
    left join pg_type y on y.typname = n.reader::name and y.typnamespace = 'relay_readers'::regnamespace
        and y.typtype = 'd'  -- not that of its arrays, whose owner is the same
), found as (
    select coalesce(w.tbl, s.tbl) as tbl, w.topic, coalesce(w.name, s.name) as name, w.key, w.triggers, w.options,
        w.always, w.bulk, w.disabled, w.numbers, w.off, w.is_looked_at, s.triggers as wanted, s.always as always_wanted, s.filter, s.reader,
        s.owner
    from relay.watches w
    full join (select * from noted where there is not null or number <= 100) s on s.tbl = w.tbl
)
select
    w.tbl::regclass as tbl,
    w.topic,
    array(select o from unnest('{insert,update,delete,truncate}'::text[]) o where o = any (w.triggers)) as ops,
    w.key,
    array(select jsonb_array_elements_text(w.options -> 'columns')) as columns,
    array(select jsonb_array_elements_text(w.options -> 'ignore')) as ignore,
    w.options ->> 'when' as "when",
    w.options -> 'old' is null as old,
    w.always,
    w.bulk,
    left(nullif(array_to_string(n.notes, '; '), ''), 10000) as note,
    left(n.remedies[1], 10000) as remedy,
    coalesce(c.relowner, w.owner)::regrole as owner
from found w
left join pg_class c on c.oid = w.tbl
left join pg_namespace s on s.oid = c.relnamespace
cross join lateral (
    -- Columns that the condition named at relay.watch and that are there no more; what else it says follows it in brackets.
    select string_agg(distinct x[1], ', ') as gone, ' (its condition: ' || w.filter || ')' as filter
    from regexp_matches(w.filter, '\mt\.("(?:[^"]|"")+"|\w+)', 'g') x
    where not exists (select from pg_attribute a where a.attrelid = w.tbl and not a.attisdropped
                      and a.attname = (case when x[1] like '"%' then replace(substr(x[1], 2, length(x[1]) - 2), '""', '"')
                                        else x[1] end)::name)
) condition
cross join lateral (
    select string_agg(quote_ident(t.tgname), ', ' order by t.tgname) as names,
        string_agg(format('drop trigger %I on %s; ', t.tgname, w.tbl::regclass), '' order by t.tgname) as dropped
    from (
        select t.tgname from pg_trigger t
        where t.tgrelid = w.tbl and t.tgname not like E'!relay\\_%' and t.tgparentid = 0 and w.wanted <> '{}'
            and t.tgfoid in (select oid from pg_proc where pronamespace = 'relay'::regnamespace)
        limit 10) t
) renamed
cross join lateral (
    -- What takes long of some tables, in 2 s of the 5 for all of this.
    select clock_timestamp() < statement_timestamp() + interval '2 s' and w.tbl is not null as yes offset 0
) in_time
cross join lateral (
    select case when c.oid is not null and w.reader is not null and w.is_looked_at is true and in_time.yes
                then relay.unasked(w.tbl, w.numbers, w.filter is not null) end as why offset 0
) unasked
cross join lateral (
    select array_agg(x.note order by x.n) as notes, array_agg(x.remedy order by x.n) as remedies
    from (values
        (1, 'the table was dropped', c.oid is null,
            format('if it is not to come back: delete from relay.wanted where tbl = %s::regclass;', w.tbl::oid)),
        (2, concat('all its triggers are gone: nothing is captured', ', but by ' || renamed.names, condition.filter),
            c.oid is not null and w.triggers is null,
            concat(renamed.dropped, format('select relay.watch(%L, ...); with the arguments it had', w.tbl::regclass))),
        (3, concat('triggers are gone: ', array_to_string(array(
                select unnest(w.wanted) except select '!relay_' || unnest(w.triggers) order by 1), ', '),
                ' (there is also ' || renamed.names || ')', condition.filter),
            w.triggers is not null and not w.wanted <@ array(select '!relay_' || unnest(w.triggers)),
            concat(renamed.dropped, format('select relay.watch(%L, ...); with the arguments it had', w.tbl::regclass))),
        (4, concat('a trigger is disabled',
                ' on ' || nullif(array_to_string(array_remove(w.off, w.tbl)::regclass[], ', '), '')), w.disabled,
            format('select relay.set_always(%L, %L);', w.tbl::regclass, coalesce(w.always_wanted, w.always))),
        (5, 'it should fire for replicated rows as well (always), and does not',
            w.always_wanted and not w.always and not w.disabled,
            format('select relay.set_always(%L, true);', w.tbl::regclass)),
        (6, format('events still name it %s', w.name), w.name <> s.nspname || '.' || c.relname,
            format('select relay.watch(%L, ...); if they need not', w.tbl::regclass)),
        (7, 'a key column was renamed or dropped', exists (
                select from unnest(w.key, w.numbers) k (name, number)
                left join pg_attribute a on a.attrelid = w.tbl and a.attnum = k.number and not a.attisdropped
                where a.attname is distinct from k.name),
            format('select relay.watch(%L, ...);', w.tbl::regclass)),
        (8, 'bulk, but another trigger fires after changes: order is lost', w.bulk and exists (
                select from pg_trigger t where t.tgrelid = w.tbl and not t.tgisinternal and t.tgtype & 66 = 0
                and t.tgname not like E'!relay\\_%'),
            format('select relay.watch(%L, ...); without bulk', w.tbl::regclass)),
        (9, 'a virtual generated column was added: it is null in events', w.options -> 'columns' is null and exists (
                select a.attname::text from pg_attribute a where a.attrelid = w.tbl and a.attgenerated = 'v' and not a.attisdropped
                except select jsonb_array_elements_text(w.options -> 'ignore')),
            format('select relay.watch(%L, ...); once more leaves it out', w.tbl::regclass)),
        (10, 'row level security is forced on its owner: a key that another row has taken over may be told as deleted',
            c.relrowsecurity and c.relforcerowsecurity and exists (
                select from pg_roles r where r.oid = c.relowner and not r.rolsuper and not r.rolbypassrls),
            format('alter table %s no force row level security;', w.tbl::regclass)),
        (11, format('its condition names %s, which was dropped or renamed: a key that another row has taken over may be told '
                    'as deleted', condition.gone),
            c.oid is not null and condition.gone is not null,
            format('select relay.watch(%L, ...); with a condition on the columns that there are', w.tbl::regclass)),
        (12, 'what looks up its keys is gone, not its owner''s or not relay_compute''s to call: a key that another row has taken over may be told as deleted',
            c.oid is not null and w.reader is not null and not (has_table_privilege(c.relowner, c.oid, 'select') and exists (
                select from pg_type y where y.typname = w.reader::name and y.typowner = c.relowner
                and y.typnamespace = 'relay_readers'::regnamespace
                and exists (select from pg_proc f where f.proname = y.typname and f.pronamespace = y.typnamespace and f.pronargs = 1
                            and f.proargtypes[0] = y.oid and f.proowner = c.relowner
                            and has_function_privilege('relay_compute', f.oid, 'execute')))),
            format('as %s or as a superuser: select relay.watch(%L, ...); with the arguments it had',
                   c.relowner::regrole, w.tbl::regclass)),
        (13, 'no trigger fires where session_replication_role is replica, and that is set for a role or for this database',
            c.oid is not null and w.wanted is not null and not w.always_wanted and exists (
                -- Any login may write what it likes into its own; this setting is a superuser's.
                select from pg_db_role_setting d
                where case when pg_column_size(d.setconfig) <= 8192 then 'session_replication_role=replica' = any (d.setconfig) end
                and d.setdatabase in (0, (select oid from pg_database where datname = current_database()))),
            format('select relay.set_always(%L, true); or reset it: alter role ... reset session_replication_role;',
                   w.tbl::regclass)),
        (14, 'a partition has another owner: a key that another row has taken over may be told as deleted',
            c.relkind = 'p' and in_time.yes and exists (
                with recursive below (oid) as (
                    select i.inhrelid from pg_inherits i where i.inhparent = w.tbl
                    union all select i.inhrelid from below b join pg_inherits i on i.inhparent = b.oid)
                select from below b join pg_class p on p.oid = b.oid where p.relowner <> c.relowner),
            format('alter table <partition> owner to %s;', c.relowner::regrole)),
        (15, 'others than its owner may rename its schema, or what its key or its condition names: a key that another row has '
             'taken over may be told as deleted', w.reader is not null and w.is_looked_at is true and in_time.yes and exists (
                select from unnest(relay.renamers(w.tbl, w.numbers, true)) r (role)
                where not relay.is_as_owner(r.role, c.relowner)),
            format('alter schema (type, function) ... owner to %s; or revoke the right to create such there: revoke create on '
                   'database %I (on schema ...) from ...;', c.relowner::regrole, current_database())),
        (16, unasked.why || ': a key that another row has taken over may be told as deleted', unasked.why is not null,
            format('select relay.watch(%L, ...); with the arguments it had, if no key is ever given to another row', w.tbl::regclass)),
        (17, format('role relay_compute may not use schema %s, which its condition names: its rows are not resent, and a key that '
                    'another row has taken over may be told as deleted', s.oid::regnamespace),
            strpos(w.filter, s.oid::regnamespace::text || '.') > 0 and not has_schema_privilege('relay_compute', s.oid, 'USAGE'),
            format('if the code of all who own watched tables may have that right: grant usage on schema %s to relay_compute;',
                   s.oid::regnamespace))
    ) x (n, note, applies, remedy)
    where x.applies
) n;
