-- relay.watched: what is watched, and how; one row a table, read from its triggers.
--   note  what is not as it was when relay.watch was called
--     select * from relay.watched;
create or replace view relay.watched as
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
    nullif(concat_ws('; ',
        case when w.name <> n.nspname || '.' || c.relname then format('events still name it %s', w.name) end,
        case when exists (
            select from unnest(w.key, w.numbers) k (name, number)
            left join pg_attribute a on a.attrelid = w.tbl and a.attnum = k.number and not a.attisdropped
            where a.attname is distinct from k.name) then 'a key column was renamed or dropped' end,
        case when w.bulk and exists (
            select from pg_trigger t where t.tgrelid = w.tbl and not t.tgisinternal and t.tgtype & 66 = 0
            and t.tgname not like '!relay\_%') then 'bulk, but another trigger fires after changes: order is lost' end,
        case when w.disabled then 'a trigger is disabled' end), '') as note
from relay.watches w
join pg_class c on c.oid = w.tbl
join pg_namespace n on n.oid = c.relnamespace;
