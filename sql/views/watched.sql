-- relay.watched: what is watched, and how; one row a table, read from its triggers.
--   note  what is not as it was when relay.watch was called
--     select * from relay.watched;
drop view if exists relay.watched;
create view relay.watched as
with trigger as (
    select t.tgrelid, t.tgname, t.tgenabled, t.tgtype & 1 = 0 and t.tgtype & 32 = 0 as bulk,
        -- The arguments are stored one after the other, each closed by a zero byte.
        array(
            select convert_from(decode(replace(x.hex, ' ', ''), 'hex'), getdatabaseencoding())
            from regexp_split_to_table(regexp_replace(encode(t.tgargs, 'hex'), '(..)', '\1 ', 'g'), '00 ')
                 with ordinality x (hex, n)
            where x.n <= t.tgnargs
            order by x.n) as args
    from pg_trigger t
    where t.tgname like '!relay\_%' and t.tgparentid = 0
), watch as (
    select tgrelid, min(args[1]) as topic, min(args[2]) as name,
        array_agg(substring(tgname from 8) order by tgname) as triggers,
        bool_and(tgenabled = 'A') as always, bool_or(tgenabled = 'D') as disabled, bool_or(bulk) as bulk,
        max(args[4])::smallint[] as numbers, max(args[5])::jsonb as options,
        max(args[6:]) as key
    from trigger
    group by tgrelid
)
select
    w.tgrelid::regclass as tbl,
    w.topic,
    array(select o from unnest('{insert,update,delete,truncate}'::text[]) o where o = any (w.triggers)) as ops,
    w.key,
    array(select jsonb_array_elements_text(w.options -> 'columns')) as columns,
    array(select jsonb_array_elements_text(w.options -> 'ignore')) as ignore,
    w.options ->> 'when' as "when",
    w.options -> 'old' is null as old,
    w.always,
    w.bulk,
    nullif(concat_ws('; ',
        case when w.name <> n.nspname || '.' || c.relname then format('events still name it %s', w.name) end,
        case when exists (
            select from unnest(w.key, w.numbers) k (name, number)
            left join pg_attribute a on a.attrelid = w.tgrelid and a.attnum = k.number and not a.attisdropped
            where a.attname is distinct from k.name) then 'a key column was renamed or dropped' end,
        case when w.bulk and exists (
            select from pg_trigger t where t.tgrelid = w.tgrelid and not t.tgisinternal and t.tgtype & 66 = 0
            and t.tgname not like '!relay\_%') then 'bulk, but another trigger fires after changes: order is lost' end,
        case when w.disabled then 'a trigger is disabled' end), '') as note
from watch w
join pg_class c on c.oid = w.tgrelid
join pg_namespace n on n.oid = c.relnamespace;
